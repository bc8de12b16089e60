//! The processes of a container.

use crate::{Container, Result};

/// Their pids as the runtime's pid namespace numbers them, ascending.
///
/// # Errors
/// The control group cannot be read.
pub fn processes(container: &Container) -> Result<Vec<i32>> {
    let mut pids = match container.cgroups() {
        Some(manager) => manager.procs(true)?,
        // A rootless container may have none: then only the first process is known.
        None => container.init().into_iter().map(|init| init.pid).collect(),
    };
    pids.sort_unstable();
    pids.dedup();
    Ok(pids)
}
