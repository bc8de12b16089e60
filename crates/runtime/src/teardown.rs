//! Unmaking a container whose processes have ended, or are to end.

use std::time::{Duration, Instant};

use cgroup::Manager;

use crate::notify::Proxy;
use crate::root::StateRoot;
use crate::{Container, Doing as _, Error, Result, Status, Warn, hooks};

/// How long the process of a killed `create` may take to leave its control groups.
const PATIENCE: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(2);

/// Unmakes all that `create` made: processes, control groups, the resctrl group, the state
/// directory. Goes on after errors. With `hooks` the `poststop` hooks run once nothing is left of
/// it; one that fails is a warning (runtime.md, Lifecycle, 13).
///
/// What is gone already is no error, so that it can be repeated.
///
/// # Errors
/// All that failed. The state directory stays then, so that another try knows what is left.
pub fn teardown(
    root: &StateRoot,
    container: &Container,
    hooks: bool,
    warn: Warn<'_>,
) -> Result<()> {
    let record = &container.record;
    if record.creator.is_none() {
        crate::verdict::facts(container);
    }
    let mut errors: Vec<Error> = Vec::new();
    if let Some(state) = &record.cgroup {
        let manager = Manager::from_state(state.clone());
        let cleared = if record.creator.is_some() {
            clear_abandoned(manager)
        } else {
            clear_cgroups(manager)
        };
        errors.extend(cleared.doing(|| "remove control groups").err());
    }
    if let Some(rdt) = &record.rdt {
        errors.extend(rdt.remove().doing(|| "remove resctrl groups").err());
    }
    errors.extend(Proxy::remove(container.dir.path()).err());
    if let Some(error) = Error::from_several(errors) {
        return Err(error);
    }
    if hooks {
        let state = record.oci_state(Status::Stopped, 0);
        // Each of them runs, whatever became of the one before.
        for hook in &record.poststop {
            if let Err(e) = hooks::run_all("poststop", std::slice::from_ref(hook), &state) {
                warn(&e.to_string());
            }
        }
    }
    container.dir.retire(root, &container.id)
}

/// Kills what still runs (without a pid namespace of its own a container's processes outlive
/// the first one), then removes the groups.
fn clear_cgroups(mut manager: Manager) -> Result<()> {
    if !manager.remove_if_deserted() && !manager.procs(true)?.is_empty() {
        manager.kill()?;
    }
    Ok(manager.delete()?)
}

/// Removes the groups that a killed `create` may have made. It may also have been killed before
/// it found out that they are another container's: nobody is killed for being in them. Its own
/// process has died with it.
fn clear_abandoned(mut manager: Manager) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !manager.procs(true)?.is_empty() {
        if Instant::now() > deadline {
            return Ok(());
        }
        std::thread::sleep(TICK);
    }
    Ok(manager.delete()?)
}
