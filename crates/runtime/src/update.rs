//! Changing the limits of a container.

use spec::oci::{IntelRdt, Resources};

use crate::pause::manager_of;
use crate::{Container, Error, Result, Status, Warn, rdt};

/// Applies what is set in `resources` and in `schemas`, and leaves the rest as it is. Device
/// rules are not limits: they stay as they were made, as with runc.
///
/// # Errors
/// The container does not run; a value that is out of its range, or that the kernel refuses.
pub fn update(
    container: &Container,
    resources: &Resources,
    schemas: &IntelRdt,
    warn: Warn<'_>,
) -> Result<()> {
    let given = Resources {
        devices: Vec::new(),
        ..resources.clone()
    };
    let (checked, warnings) = spec::check_update(&given)?;
    warnings.iter().for_each(|w| warn(w));
    container.dir.lock()?;
    if container.status()? == Status::Stopped {
        return Err(Error::NotRunning);
    }
    if *schemas != IntelRdt::default() {
        let root = rdt::mount_point()?;
        let group = container.record.rdt.as_ref().ok_or_else(|| {
            let text = "the container was made without intelRdt: there is no class to change";
            Error::Invalid(text.to_owned())
        })?;
        group.update(schemas, &root)?;
    }
    if checked != Resources::default() {
        let warnings = manager_of(container)?.update(&checked)?;
        warnings.iter().for_each(|w| warn(w));
    }
    Ok(())
}
