//! Devices of a container: named ones, all below a directory, all of the machine.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use cri_api::v1;
use spec::oci::{Device, DeviceRule};

use crate::error::{Doing, Error, Result};

/// What a container gets: nodes, and rules that allow them.
#[derive(Clone, Debug, Default)]
pub struct Devices {
    pub nodes: Vec<Device>,
    pub rules: Vec<DeviceRule>,
}

impl Devices {
    /// Those that were asked for by path.
    pub fn named(asked: &[v1::Device]) -> Result<Self> {
        let mut all = Self::deny();
        for device in asked {
            let access = access(&device.permissions)?;
            let host = Path::new(&device.host_path);
            let inside = if device.container_path.is_empty() {
                host
            } else {
                Path::new(&device.container_path)
            };
            let what = || format!("device {}", host.display());
            let meta = fs::metadata(host).doing(what)?;
            if meta.is_dir() {
                all.below(host, inside, &access)?;
            } else if !all.add(&meta, inside, &access) {
                return Err(Error::invalid(format!("{}: not a device", what())));
            }
        }
        Ok(all)
    }

    /// All of the machine, as a privileged container has them.
    pub fn of_the_machine() -> Result<Self> {
        let mut all = Self::default();
        all.below(Path::new("/dev"), Path::new("/dev"), "rwm")?;
        all.rules = vec![DeviceRule {
            allow: true,
            access: "rwm".to_owned(),
            ..DeviceRule::default()
        }];
        Ok(all)
    }

    fn deny() -> Self {
        Self {
            nodes: Vec::new(),
            rules: vec![DeviceRule {
                access: "rwm".to_owned(),
                ..DeviceRule::default()
            }],
        }
    }

    /// Adds a node whose numbers are known.
    pub fn push(&mut self, node: Device, access: &str) {
        self.rules.push(DeviceRule {
            allow: true,
            kind: node.kind.clone(),
            major: Some(node.major),
            minor: Some(node.minor),
            access: access.to_owned(),
        });
        self.nodes.retain(|n| n.path != node.path);
        self.nodes.push(node);
    }

    fn add(&mut self, meta: &fs::Metadata, inside: &Path, access: &str) -> bool {
        let Some(node) = node(meta, inside) else {
            return false;
        };
        self.push(node, access);
        true
    }

    /// Everything below a directory but what the container has of its own. Symlinks are not
    /// followed.
    fn below(&mut self, host: &Path, inside: &Path, access: &str) -> Result<()> {
        const OWN: [&str; 8] = [
            "pts",
            "shm",
            "fd",
            "mqueue",
            "console",
            "ptmx",
            ".lxc",
            ".lxd-mounts",
        ];
        let what = || format!("readdir({})", host.display());
        for entry in fs::read_dir(host).doing(what)? {
            let entry = entry.doing(what)?;
            let name = entry.file_name();
            if OWN.iter().any(|own| name == *own) {
                continue;
            }
            let Ok(meta) = entry.metadata() else {
                continue;
            };
            if meta.is_dir() {
                self.below(&entry.path(), &inside.join(&name), access)?;
            } else {
                self.add(&meta, &inside.join(&name), access);
            }
        }
        Ok(())
    }
}

/// A node like the one that `meta` is of; none for what is not a device.
pub fn node(meta: &fs::Metadata, inside: &Path) -> Option<Device> {
    let kind = match meta.file_type() {
        t if t.is_char_device() => "c",
        t if t.is_block_device() => "b",
        _ => return None,
    };
    let number = meta.rdev();
    Some(Device {
        kind: kind.to_owned(),
        path: inside.to_string_lossy().into_owned(),
        major: i64::from(rustix::fs::major(number)),
        minor: i64::from(rustix::fs::minor(number)),
        file_mode: Some(meta.permissions().mode() & 0o7777),
        uid: Some(meta.uid()),
        gid: Some(meta.gid()),
    })
}

fn access(given: &str) -> Result<String> {
    if given.is_empty() {
        return Ok("rwm".to_owned());
    }
    if given.bytes().all(|b| b"rwm".contains(&b)) {
        return Ok(given.to_owned());
    }
    Err(Error::invalid(format!(
        "device permissions {given}: letters of `rwm` only"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_and_what_is_none() {
        let ask = |path: &str, permissions: &str| {
            Devices::named(&[v1::Device {
                host_path: path.to_owned(),
                container_path: "/dev/there".to_owned(),
                permissions: permissions.to_owned(),
            }])
        };
        let null = ask("/dev/null", "rw").unwrap();
        assert_eq!((null.nodes[0].major, null.nodes[0].minor), (1, 3));
        assert_eq!(null.nodes[0].path, "/dev/there");
        assert_eq!(
            (null.rules[0].allow, null.rules[1].access.as_str()),
            (false, "rw")
        );
        assert!(ask("/etc/passwd", "").is_err());
        assert!(ask("/dev/null", "x").is_err());
        assert!(
            Devices::of_the_machine()
                .unwrap()
                .nodes
                .iter()
                .any(|n| n.path == "/dev/zero")
        );
    }
}
