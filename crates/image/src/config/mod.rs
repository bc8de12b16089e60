//! The ecosystem's configuration files: `registries.conf`, `auth.json`, `certs.d`, `policy.json`.

pub mod auth;
pub mod certs;
#[cfg(feature = "signatures")]
pub mod lookaside;
pub mod policy;
pub mod registries;

use std::path::PathBuf;

pub use auth::{AuthFiles, Credentials};
pub use certs::{CertDirs, HostCerts};
pub use policy::{Policy, Requirement, Scope};
pub use registries::{Endpoint, Registries};

/// `$XDG_CONFIG_HOME` or `~/.config`, with `rest` below; `None` without a home.
pub(crate) fn user_config(rest: &str) -> Option<PathBuf> {
    let absolute = |v: std::ffi::OsString| Some(PathBuf::from(v)).filter(|p| p.is_absolute());
    std::env::var_os("XDG_CONFIG_HOME")
        .and_then(absolute)
        .or_else(|| Some(home()?.join(".config")))
        .map(|dir| dir.join(rest))
}

/// `$HOME`.
pub(crate) fn home() -> Option<PathBuf> {
    let home = PathBuf::from(std::env::var_os("HOME")?);
    home.is_absolute().then_some(home)
}
