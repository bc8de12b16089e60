//! Deleting a container.

use std::time::Duration;

use crate::root::StateRoot;
use crate::{Container, ContainerId, Error, Result, Status, Warn, kill, sweep, teardown};

const SIGKILL: i32 = 9;
/// How long a killed process may take to end; then something holds it in the kernel.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a creator may take to end whose own parent was killed.
const ORPHANED: Duration = Duration::from_secs(1);

/// Deletes the container `id`. One that runs is only deleted with `force`, which kills it; with
/// `force` an unknown id is no error.
///
/// # Errors
/// [`Error::NotFound`], [`Error::WrongState`], or what could not be undone.
pub fn delete(root: &StateRoot, id: &ContainerId, force: bool, warn: Warn<'_>) -> Result<()> {
    let container = match Container::open(root, id) {
        Err(Error::NotFound(_)) if force => {
            sweep::remains(root, id)?;
            return root.remove_empty(id.as_str()).map(drop);
        }
        other => other?,
    };
    container.dir.lock()?;
    let status = container.status()?;
    if let (Status::Creating, true, Some(creator)) = (status, force, container.record.creator) {
        // One that goes on to live is told of below.
        let _ = creator.await_end(ORPHANED);
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
                init.await_end(PATIENCE)?;
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
