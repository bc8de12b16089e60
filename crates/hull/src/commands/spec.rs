//! `hull spec`.

use std::io::Write as _;
use std::path::Path;

use cgroup::is_cgroup2;
use clap::{ArgMatches, Command};
use runtime::{Error, Result};
use spec::oci::{Namespace, Spec};
use sys::Context as _;

use crate::Context;
use crate::options::{command, given_path, is_on, path, switch};

/// The definition.
#[must_use]
pub fn define() -> Command {
    command("spec", "Write a config.json to start from")
        .arg(path("bundle", "DIR", "Directory of the bundle").short('b'))
        .arg(switch("rootless", "For a user without the rights of root"))
}

/// Writes it.
///
/// # Errors
/// There is one already, or it cannot be written.
pub fn run(_: &Context, matches: &ArgMatches) -> Result<u8> {
    let bundle = given_path(matches, "bundle").unwrap_or_default();
    let path = bundle.join("config.json");
    let spec = for_this_machine(is_on(matches, "rootless"));
    let text = super::pretty(&spec, "config.json")?;
    let args = || path.display().to_string();
    match std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)
    {
        Ok(mut file) => file.write_all(text.as_bytes()).context("write", args)?,
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
            let text = format!("file {} exists. Remove it first", path.display());
            return Err(Error::Invalid(text));
        }
        Err(e) => Err(e).context("open", args)?,
    }
    Ok(0)
}

/// The default configuration, with what depends on the machine and the user.
fn for_this_machine(rootless: bool) -> Spec {
    let mut spec = spec::default_spec(rootless);
    let Some(linux) = &mut spec.linux else {
        return spec;
    };
    if rootless {
        for map in &mut linux.uid_mappings {
            map.host_id = rustix::process::geteuid().as_raw();
        }
        for map in &mut linux.gid_mappings {
            map.host_id = rustix::process::getegid().as_raw();
        }
    }
    if is_cgroup2(Path::new(cgroup::MOUNT_ROOT)) {
        linux.namespaces.push(Namespace {
            kind: "cgroup".to_owned(),
            ..Namespace::default()
        });
    }
    spec
}
