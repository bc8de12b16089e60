//! Clearing away what killed runtimes left.
//!
//! A container's directory gets its name together with a record that says who creates it and
//! where its control groups will be; so whatever a killed `create` left can be found. Its process
//! needs no finding: it dies with the runtime.

use crate::root::StateRoot;
use crate::{Container, ContainerId, Error, Result, Warn, teardown};

/// Clears away the container `id` if its creator died at it; whether it did.
///
/// # Errors
/// Something cannot be undone.
pub fn abandoned(root: &StateRoot, id: &ContainerId, warn: Warn<'_>) -> Result<bool> {
    let container = match Container::open(root, id) {
        // Somebody was faster, or was killed when nothing but the directory was left.
        Err(Error::NotFound(_)) => return root.remove_empty(id.as_str()),
        other => other?,
    };
    if !container.is_abandoned()? {
        return Ok(false);
    }
    teardown::teardown(root, &container, false, warn)?;
    Ok(true)
}

/// Clears away what killed creates of container `id` left before it had its name.
///
/// # Errors
/// The state root cannot be read, or something cannot be removed.
pub fn remains(root: &StateRoot, id: &ContainerId) -> Result<()> {
    let stillborn = root.stillborn()?.into_iter();
    stillborn
        .filter(|s| s.is_of(id))
        .try_for_each(|s| root.bury(&s))
}

/// Clears away everything that killed runtimes left in `root`. What cannot be undone is warned
/// about.
///
/// # Errors
/// The state root cannot be read.
pub fn all(root: &StateRoot, warn: Warn<'_>) -> Result<()> {
    for stillborn in root.stillborn()? {
        if let Err(e) = root.bury(&stillborn) {
            warn(&e.to_string());
        }
    }
    for id in root.ids()? {
        if let Err(e) = abandoned(root, &id, warn) {
            warn(&format!("container {id}, which a killed runtime left: {e}"));
        }
    }
    Ok(())
}
