//! The version 1 freezer (admin-guide/cgroup-v1/freezer-subsystem.rst).

use std::time::Duration;

use crate::dir::{Dir, is_gone};
use crate::error::{Error, Result};

const STATE: &str = "freezer.state";
/// Attempts, and the pause after the first few: two seconds in all.
const ATTEMPTS: u32 = 1000;
const PAUSE: Duration = Duration::from_millis(2);

/// Freezes, and waits until all tasks are frozen.
///
/// A group can stay FREEZING when a task forks or is being traced at the wrong moment; writing
/// FROZEN again takes the newcomers in, and a short thaw lets go of what holds the others.
pub(crate) fn freeze(dir: &Dir) -> Result<()> {
    let mut last = String::new();
    for attempt in 0..ATTEMPTS {
        if attempt % 50 == 49 {
            dir.write(STATE, "THAWED")?;
            std::thread::sleep(PAUSE);
        }
        dir.write(STATE, "FROZEN")?;
        last = dir.read(STATE)?;
        if last.trim() == "FROZEN" {
            return Ok(());
        }
        if attempt > 4 {
            std::thread::sleep(PAUSE);
        }
    }
    // Half frozen is worse than not: what is stuck there cannot even be killed.
    dir.write(STATE, "THAWED")?;
    Err(Error::Timeout {
        operation: format!("freeze {:?}", dir.path()),
        millis: u64::from(ATTEMPTS) * 2,
        reason: format!("freezer.state is {}", last.trim()),
    })
}

/// Thaws.
pub(crate) fn thaw(dir: &Dir) -> Result<()> {
    Ok(dir.write(STATE, "THAWED")?)
}

/// Whether the group itself was told to freeze; a frozen parent is somebody else's doing.
pub(crate) fn is_frozen(dir: &Dir) -> Result<bool> {
    match dir.read_opt("freezer.self_freezing")? {
        Some(text) => Ok(text.trim() == "1"),
        // Before Linux 3.7 there was no such file; and none where the group is gone.
        None => match dir.read(STATE) {
            Ok(text) => Ok(text.trim() != "THAWED"),
            Err(e) if is_gone(e.errno) => Ok(false),
            Err(e) => Err(e.into()),
        },
    }
}
