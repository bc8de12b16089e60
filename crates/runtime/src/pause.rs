//! Suspending all processes of a container, and letting them go on.

use cgroup::Manager;

use crate::{Container, Error, Result, Status};

/// Freezes the container.
///
/// # Errors
/// It has no process that could be frozen, is frozen already, or the freezer failed.
pub fn pause(container: &Container) -> Result<()> {
    container.dir.lock()?;
    match container.status()? {
        Status::Created | Status::Running => Ok(manager_of(container)?.freeze()?),
        _ => Err(Error::NotRunning),
    }
}

/// Thaws the container.
///
/// # Errors
/// It is not frozen, or the freezer failed.
pub fn resume(container: &Container) -> Result<()> {
    container.dir.lock()?;
    if !is_paused(container)? {
        return Err(Error::WrongState("container not paused".to_owned()));
    }
    Ok(manager_of(container)?.thaw()?)
}

/// Whether the container is frozen. One that was frozen before its start still counts as
/// `created`, so the status does not tell.
///
/// # Errors
/// The cgroup cannot be read.
pub fn is_paused(container: &Container) -> Result<bool> {
    match container.cgroups() {
        Some(manager) if container.init().is_ok() => Ok(manager.is_frozen()?),
        _ => Ok(false),
    }
}

/// The control groups of a container that must have some for what is asked.
pub(crate) fn manager_of(container: &Container) -> Result<Manager> {
    container.cgroups().ok_or_else(|| {
        let text = format!("container {} has no control group", container.id);
        Error::Invalid(text)
    })
}
