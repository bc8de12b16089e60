//! Security labels of SELinux and AppArmor.

use std::fs;
use std::path::Path;

use cri_api::v1::security_profile::ProfileType;
use cri_api::v1::{SeLinuxOption, SecurityProfile};

use rustix::fs::{XattrFlags, lgetxattr, lsetxattr};

use super::host::Host;
use crate::error::{Doing, Error, Result};

/// The labels of the process and of its mounts; empty where there is no SELinux, or nothing was
/// asked for.
pub fn selinux(option: Option<&SeLinuxOption>, privileged: bool, host: &Host) -> (String, String) {
    let Some(o) = option.filter(|_| host.selinux) else {
        return (String::new(), String::new());
    };
    let or = |given: &str, usual: &str| {
        if given.is_empty() {
            usual.to_owned()
        } else {
            given.to_owned()
        }
    };
    let usual = if privileged { "spc_t" } else { "container_t" };
    let level = or(&o.level, "s0");
    let process = format!(
        "{}:{}:{}:{level}",
        or(&o.user, "system_u"),
        or(&o.role, "system_r"),
        or(&o.r#type, usual)
    );
    (
        process,
        format!("system_u:object_r:container_file_t:{level}"),
    )
}

/// Gives a volume's files the container's label; nothing is read where its root has it already,
/// nor where the file system has no labels.
///
/// # Errors
/// setxattr(2)'s.
pub fn relabel(path: &Path, label: &str) -> Result<()> {
    const NAME: &str = "security.selinux";
    let mut have = [0; 512];
    let length = lgetxattr(path, NAME, &mut have).unwrap_or(0);
    if have
        .get(..length)
        .is_some_and(|h| h.trim_ascii_end() == label.as_bytes())
    {
        return Ok(());
    }
    // The root last: it says that all below is done.
    if path.symlink_metadata().is_ok_and(|m| m.is_dir()) {
        for entry in fs::read_dir(path).doing(|| format!("readdir({})", path.display()))? {
            let entry = entry.doing(|| format!("readdir({})", path.display()))?;
            relabel(&entry.path(), label)?;
        }
    }
    match lsetxattr(path, NAME, label.as_bytes(), XattrFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
        Err(e) => Err(Error::failed(
            format!("setxattr({}, {NAME}, {label})", path.display()),
            e,
        )),
    }
}

/// The AppArmor profile of a container; empty for none.
///
/// # Errors
/// A profile that is not loaded, or one on a machine without AppArmor.
pub fn apparmor(
    profile: Option<&SecurityProfile>,
    older: &str,
    privileged: bool,
    default: &str,
    host: &Host,
) -> Result<String> {
    let (kind, reference) = match profile {
        Some(p) => (p.profile_type(), p.localhost_ref.as_str()),
        None => match older {
            "" | "runtime/default" => (ProfileType::RuntimeDefault, ""),
            "unconfined" => (ProfileType::Unconfined, ""),
            other => (ProfileType::Localhost, other),
        },
    };
    let asked = profile.is_some() || !older.is_empty();
    match kind {
        ProfileType::Unconfined => Ok(if host.apparmor {
            "unconfined".to_owned()
        } else {
            String::new()
        }),
        ProfileType::RuntimeDefault if privileged && !asked => Ok(String::new()),
        ProfileType::RuntimeDefault if host.apparmor && is_loaded(default) => {
            Ok(default.to_owned())
        }
        ProfileType::RuntimeDefault => Ok(String::new()),
        ProfileType::Localhost => {
            let name = reference.strip_prefix("localhost/").unwrap_or(reference);
            if !host.apparmor {
                return Err(Error::invalid(format!(
                    "AppArmor profile {name}: this machine has no AppArmor"
                )));
            }
            if !is_loaded(name) {
                return Err(Error::invalid(format!(
                    "AppArmor profile {name}: not loaded (apparmor_parser -r FILE)"
                )));
            }
            Ok(name.to_owned())
        }
    }
}

fn is_loaded(name: &str) -> bool {
    let loaded = fs::read_to_string("/sys/kernel/security/apparmor/profiles").unwrap_or_default();
    !name.is_empty()
        && loaded
            .lines()
            .any(|l| l.rsplit_once(" (").is_some_and(|(n, _)| n == name))
}
