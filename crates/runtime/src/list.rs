//! What people and programs are told about containers.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::root::StateRoot;
use crate::{Container, Error, Result, Status, Warn};

/// One container, in the shape of runc's `state` and `list`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// The configuration's version.
    pub oci_version: String,
    /// Its id.
    pub id: String,
    /// Its first process; 0 once stopped.
    pub pid: i32,
    /// Its status, in the word of the specification.
    pub status: String,
    /// Absolute path.
    pub bundle: String,
    /// Absolute path.
    pub rootfs: String,
    /// RFC 3339.
    pub created: String,
    /// The configuration's annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Name of the user who created it, `#uid` where it has none. Empty in `state`, as with runc.
    pub owner: String,
}

impl Summary {
    /// What is to be said about `container` now.
    ///
    /// # Errors
    /// Its status cannot be found out.
    pub fn of(container: &Container) -> Result<Self> {
        let record = &container.record;
        let status = container.status()?;
        let pid = record.init.filter(|_| status != Status::Stopped);
        Ok(Self {
            oci_version: record.oci_version.clone(),
            id: record.id.clone(),
            pid: pid.map_or(0, |init| init.pid),
            status: status.to_string(),
            bundle: record.bundle.to_string_lossy().into_owned(),
            rootfs: record.rootfs.to_string_lossy().into_owned(),
            created: record.created.clone(),
            annotations: record.annotations.clone(),
            owner: String::new(),
        })
    }
}

impl Summary {
    fn with_owner(container: &Container) -> Result<Self> {
        Ok(Self {
            owner: user_name(container.record.owner),
            ..Self::of(container)?
        })
    }
}

/// All containers, sorted by id. One that cannot be read is warned about and left out, for the
/// others' sake.
///
/// # Errors
/// The state root cannot be read.
pub fn list(root: &StateRoot, warn: Warn<'_>) -> Result<Vec<Summary>> {
    let mut summaries = Vec::new();
    for id in root.ids()? {
        match Container::open(root, &id).and_then(|c| Summary::with_owner(&c)) {
            Ok(summary) => summaries.push(summary),
            // Deleted since the directory was read.
            Err(Error::NotFound(_)) => {}
            Err(e) => warn(&format!("container {id} left out: {e}")),
        }
    }
    Ok(summaries)
}

/// From `/etc/passwd`: a static program cannot ask the C library, which would load others.
fn user_name(uid: u32) -> String {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    name_in(&passwd, uid).map_or_else(|| format!("#{uid}"), str::to_owned)
}

fn name_in(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_by_number() {
        let passwd = "root:x:0:0::/root:/bin/sh\nbroken\na:x:7:7::/:/bin/sh\n";
        assert_eq!(name_in(passwd, 7), Some("a"));
        assert_eq!(name_in(passwd, 0), Some("root"));
        assert_eq!(name_in(passwd, 8), None);
    }
}
