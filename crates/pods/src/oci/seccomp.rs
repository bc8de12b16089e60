//! Which filter of system calls a container gets.

use std::fs;
use std::path::Path;

use cri_api::v1::SecurityProfile;
use cri_api::v1::security_profile::ProfileType;
use seccomp::profile::Template;
use spec::oci::Seccomp;

use crate::error::{Doing, Error, Result};

/// The largest profile that is read.
const PROFILE_MAX: u64 = 4 << 20;

/// The request of one container or sandbox.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The profile.
    pub profile: Option<&'a SecurityProfile>,
    /// The older field, in its own words.
    pub path: &'a str,
    /// Privileged containers have none.
    pub privileged: bool,
}

/// The filter; none for an unconfined one.
pub fn filter(asked: Asked<'_>, default: &Template, granted: &[String]) -> Result<Option<Seccomp>> {
    if asked.privileged {
        return Ok(None);
    }
    match asked.profile {
        Some(profile) => match profile.profile_type() {
            ProfileType::RuntimeDefault => Ok(Some(default.resolve(granted))),
            ProfileType::Unconfined => Ok(None),
            ProfileType::Localhost => local(&profile.localhost_ref, granted).map(Some),
        },
        None => match asked.path {
            "" | "unconfined" => Ok(None),
            "runtime/default" | "docker/default" => Ok(Some(default.resolve(granted))),
            other => local(other, granted).map(Some),
        },
    }
}

fn local(reference: &str, granted: &[String]) -> Result<Seccomp> {
    let path = Path::new(reference.strip_prefix("localhost/").unwrap_or(reference));
    if !path.is_absolute() {
        let text = format!("seccomp profile {reference}: must be an absolute path");
        return Err(Error::invalid(text));
    }
    let what = || format!("seccomp profile {}", path.display());
    let size = fs::metadata(path).doing(what)?;
    if !size.is_file() || size.len() > PROFILE_MAX {
        return Err(Error::invalid(format!(
            "{}: not a file of at most 4 MiB",
            what()
        )));
    }
    let template = Template::parse(&fs::read(path).doing(what)?).doing(what)?;
    Ok(template.resolve(granted))
}
