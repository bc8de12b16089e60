//! Where control groups go, for both drivers.

use crate::error::{Error, Result};

/// Who makes control groups.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// This daemon, by files.
    #[default]
    Cgroupfs,
    /// systemd, a scope each.
    Systemd,
}

/// `linux.cgroupsPath` of the container `id` below `parent`, or below `fallback` where the pod
/// names none.
///
/// # Errors
/// A parent of the other driver's kind.
pub fn path(driver: Driver, parent: &str, fallback: &str, id: &str) -> Result<String> {
    let parent = if parent.is_empty() { fallback } else { parent };
    match driver {
        Driver::Cgroupfs => {
            if parent.split('/').any(|part| part == "..") {
                return Err(Error::invalid(format!(
                    "cgroup parent {parent}: leads upwards"
                )));
            }
            Ok(format!("/{}/{id}", parent.trim_matches('/')))
        }
        Driver::Systemd => {
            let slice = parent
                .trim_end_matches('/')
                .rsplit('/')
                .next()
                .unwrap_or(parent);
            if !slice.ends_with(".slice") {
                return Err(Error::invalid(format!(
                    "cgroup parent {parent}: with the systemd driver it must be a slice; set cgroup-driver = \"cgroupfs\" for paths"
                )));
            }
            Ok(format!("{slice}:hull:{id}"))
        }
    }
}

/// Where the group that [`path`] names is found below the mount, as metrics call it: systemd's
/// triple becomes its scope below the parent.
pub fn place(parent: &str, named: &str) -> String {
    match named.rsplit_once(":hull:") {
        Some((_, id)) => format!("/{}/hull-{id}.scope", parent.trim_matches('/')),
        None => named.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_drivers() {
        let fs = |parent: &str| path(Driver::Cgroupfs, parent, "/hull", "x");
        assert_eq!(
            fs("/kubepods/burstable/pod1").unwrap(),
            "/kubepods/burstable/pod1/x"
        );
        assert_eq!(fs("").unwrap(), "/hull/x");
        assert!(fs("/a/../b").is_err());
        let sd = |parent: &str| path(Driver::Systemd, parent, "system.slice", "x");
        assert_eq!(
            sd("/kubepods.slice/kubepods-pod1.slice").unwrap(),
            "kubepods-pod1.slice:hull:x"
        );
        assert_eq!(sd("").unwrap(), "system.slice:hull:x");
        assert!(sd("/kubepods").is_err());
        let parent = "/kubepods.slice/kubepods-pod1.slice";
        let placed = place(parent, &sd(parent).unwrap());
        assert_eq!(placed, format!("{parent}/hull-x.scope"));
        assert_eq!(place("/hull", &fs("").unwrap()), "/hull/x");
    }
}
