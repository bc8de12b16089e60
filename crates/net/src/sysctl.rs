//! Network settings under `/proc/sys/net`: those of the calling thread's network namespace.

use std::fs;

use sys::Context as _;

use crate::Result;

/// Sets what is not so already. A write is not for free: `ip_forward` resets others.
///
/// # Errors
/// open(2)'s and write(2)'s.
pub(crate) fn set(name: &str, value: &str) -> Result<()> {
    if get(name)?.as_deref() == Some(value) {
        return Ok(());
    }
    let path = path(name);
    fs::write(&path, value).context("write", || format!("{path}, {value}"))?;
    Ok(())
}

/// The value; none where the kernel has no such setting.
///
/// # Errors
/// read(2)'s.
pub(crate) fn get(name: &str) -> Result<Option<String>> {
    let path = path(name);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Ok(Err(error).context("read", || path)?),
    }
}

/// Sets it where the kernel has it: IPv6 may be compiled out or off.
///
/// # Errors
/// As [`set`].
pub(crate) fn set_if_there(name: &str, value: &str) -> Result<()> {
    match get(name)? {
        None => Ok(()),
        Some(_) => set(name, value),
    }
}

/// A link's name may hold dots: settings are named with slashes.
fn path(name: &str) -> String {
    format!("/proc/sys/net/{name}")
}
