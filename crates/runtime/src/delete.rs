//! Deleting a container.

use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sys::Errno;

use crate::root::StateRoot;
use crate::{
    Container, ContainerId, Error, ProcessId, Result, Status, Warn, kill, sweep, teardown,
};

const SIGKILL: i32 = 9;
/// How long a killed process may take to end; then something holds it in the kernel.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a creator may take to end whose own parent was killed.
const ORPHANED: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(10);

/// Deletes the container `id`. One that runs is only deleted with `force`, which kills it; with
/// `force` an unknown id is no error.
///
/// # Errors
/// [`Error::NotFound`], [`Error::WrongState`], or what could not be undone.
pub fn delete(root: &StateRoot, id: &ContainerId, force: bool, warn: Warn<'_>) -> Result<()> {
    let container = match Container::open(root, id) {
        Err(Error::NotFound(_)) if force => {
            sweep::remains(root, id)?;
            return root.remove_empty(id.as_str());
        }
        other => other?,
    };
    container.dir.lock()?;
    let status = container.status()?;
    if let (Status::Creating, true, Some(creator)) = (status, force, container.record.creator) {
        // One that goes on to live is told of below.
        let _ = await_end(creator, ORPHANED);
    }
    match status {
        Status::Stopped => {}
        Status::Creating if sweep::abandoned(root, id, warn)? => return Ok(()),
        Status::Created | Status::Running | Status::Paused if force => {
            let init = container.init();
            kill::kill(&container, SIGKILL, false).or_else(|e| match e {
                // It ended in between.
                Error::NotRunning => Ok(()),
                other => Err(other),
            })?;
            if let Ok(init) = init {
                await_end(init, PATIENCE)?;
            }
        }
        _ => {
            return Err(Error::WrongState(format!(
                "cannot delete container {id} that is not stopped: {status}"
            )));
        }
    }
    teardown::teardown(root, &container, true, warn)
}

/// Waits until a killed process has ended.
fn await_end(process: ProcessId, patience: Duration) -> Result<()> {
    let pidfd = match process.pidfd() {
        Ok(None) => return Ok(()),
        Ok(pidfd) => pidfd,
        // A kernel without them: look now and then.
        Err(Error::Sys(e)) if e.errno == Errno::NOSYS => None,
        Err(e) => return Err(e),
    };
    let deadline = std::time::Instant::now() + patience;
    while process.is_alive()? {
        let left = deadline.saturating_duration_since(std::time::Instant::now());
        if left.is_zero() {
            return Err(Error::WrongState("container init still running".to_owned()));
        }
        match &pidfd {
            Some(pidfd) => {
                let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
                let timeout = Timespec::try_from(left).ok();
                match poll(&mut fds, timeout.as_ref()) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(e) => return Err(sys::Error::new("poll", "pidfd", e).into()),
                }
            }
            None => std::thread::sleep(TICK),
        }
    }
    Ok(())
}
