//! cgroup.freeze and cgroup.kill.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use sys::{Context, Errno};

use crate::dir::{Dir, is_gone};
use crate::error::{Error, Result};

/// How long all tasks may take to stop. One in uninterruptible sleep can take for ever.
const DEADLINE: Duration = Duration::from_secs(2);

/// Freezes, and waits until all tasks are frozen; undone if they are not in time.
pub(crate) fn freeze(dir: &Dir) -> Result<()> {
    dir.write("cgroup.freeze", "1")?;
    let result = wait_frozen(dir);
    if result.is_err() {
        // Half frozen helps nobody; the failure that led here is the one to report.
        let _ = dir.write("cgroup.freeze", "0");
    }
    result
}

/// Thaws.
pub(crate) fn thaw(dir: &Dir) -> Result<()> {
    Ok(dir.write("cgroup.freeze", "0")?)
}

/// Whether the group itself was told to freeze; a frozen parent is somebody else's doing.
pub(crate) fn is_frozen(dir: &Dir) -> Result<bool> {
    Ok(dir
        .read_opt("cgroup.freeze")?
        .is_some_and(|text| text.trim() == "1"))
}

fn wait_frozen(dir: &Dir) -> Result<()> {
    let describe = || format!("{:?}", dir.path().join("cgroup.events"));
    let started = Instant::now();
    let events = dir.open("cgroup.events", OFlags::RDONLY)?;
    loop {
        let mut buffer = [0_u8; 256];
        let n = rustix::io::pread(&events, &mut buffer, 0).context("read", describe)?;
        let text = String::from_utf8_lossy(buffer.get(..n).unwrap_or_default());
        if crate::parse::field(&text, "frozen") == Some(1) {
            return Ok(());
        }
        let left = DEADLINE.saturating_sub(started.elapsed());
        if left.is_zero() {
            return Err(Error::Timeout {
                operation: format!("freeze {:?}", dir.path()),
                millis: 2000,
                reason: "cgroup.events does not say \"frozen 1\"".into(),
            });
        }
        let timeout = Timespec::try_from(left).ok();
        let mut poll_fd = [PollFd::new(&events, PollFlags::PRI)];
        match poll(&mut poll_fd, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(sys::Error::new("poll", describe(), e).into()),
        }
    }
}

/// Kills every process in the group and below at once (Linux 5.14). `false`: the kernel cannot.
pub(crate) fn kill(dir: &Dir) -> Result<bool> {
    if sys::knob::check("cgroup_kill").is_err() {
        return Ok(false);
    }
    match dir.write("cgroup.kill", "1") {
        Ok(()) => Ok(true),
        // Absent: an old kernel, or the group has gone, with all that was in it.
        Err(e) if is_gone(e.errno) => Ok(!dir.exists()),
        // A threaded group has no kill of its own.
        Err(e) if e.errno == Errno::OPNOTSUPP => Ok(false),
        Err(e) => Err(e.into()),
    }
}
