//! Unmaking a container whose processes have ended, or are to end.

use cgroup::Manager;

use crate::notify::Proxy;
use crate::root::StateRoot;
use crate::{Container, Doing as _, Error, Result, Status, Warn, hooks};

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
    let mut errors: Vec<Error> = Vec::new();
    if let Some(state) = &record.cgroup {
        let cleared = clear_cgroups(Manager::from_state(state.clone()));
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
    container.dir.remove(root, &container.id)
}

/// Kills what still runs (without a pid namespace of its own a container's processes outlive
/// the first one), then removes the groups.
fn clear_cgroups(mut manager: Manager) -> Result<()> {
    if !manager.procs(true)?.is_empty() {
        manager.kill()?;
    }
    Ok(manager.delete()?)
}
