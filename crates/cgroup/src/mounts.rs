//! What the container's own /sys/fs/cgroup is made of.

use std::path::PathBuf;

use crate::layout::Mode;
use crate::v1;

/// Facts for the container's /sys/fs/cgroup.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MountLayout {
    /// The shape of the machine.
    pub mode: Mode,
    /// Version 1 hierarchies, for a tmpfs with a directory each.
    pub v1: Vec<HierarchyMount>,
    /// The container's directory in the version 2 tree: on a version 2 machine what
    /// /sys/fs/cgroup itself shows, on a hybrid one what `unified` below it does.
    pub unified: Option<PathBuf>,
}

/// One version 1 hierarchy inside the container.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HierarchyMount {
    /// Directory name below /sys/fs/cgroup, the host's (`cpu,cpuacct`).
    pub name: String,
    /// The container's directory on the host: to be bind-mounted where the container has no
    /// cgroup namespace of its own.
    pub source: PathBuf,
    /// Mount data for a new mount of type `cgroup`, which in a cgroup namespace shows the
    /// container's directory as its root.
    pub data: String,
    /// Names that are to be symbolic links to `name`: controllers that share the hierarchy.
    pub links: Vec<String>,
}

impl HierarchyMount {
    pub(crate) fn new(group: &v1::Group) -> Self {
        let name = group.mountpoint.file_name().unwrap_or_default();
        let name = name.to_string_lossy().into_owned();
        let named = |c: &String| c.starts_with("name=");
        let links = group
            .controllers
            .iter()
            .filter(|c| !named(c) && **c != name);
        let data = if group.controllers.iter().any(named) {
            format!("none,{}", group.controllers.join(","))
        } else {
            group.controllers.join(",")
        };
        Self {
            source: group.dir.path().to_owned(),
            data,
            links: links.cloned().collect(),
            name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dir::Dir;

    #[test]
    fn names_and_links() {
        let group = |controllers: &[&str], mountpoint: &str| v1::Group {
            controllers: controllers.iter().map(|&c| c.to_owned()).collect(),
            mountpoint: mountpoint.into(),
            dir: Dir::new(format!("{mountpoint}/c1")),
        };
        let m = HierarchyMount::new(&group(&["cpu", "cpuacct"], "/sys/fs/cgroup/cpu,cpuacct"));
        assert_eq!(m.name, "cpu,cpuacct");
        assert_eq!(m.links, ["cpu", "cpuacct"]);
        assert_eq!(m.data, "cpu,cpuacct");
        let m = HierarchyMount::new(&group(&["name=systemd"], "/sys/fs/cgroup/systemd"));
        assert_eq!((m.data.as_str(), m.links.len()), ("none,name=systemd", 0));
        let m = HierarchyMount::new(&group(&["memory"], "/sys/fs/cgroup/memory"));
        assert_eq!((m.data.as_str(), m.links.len()), ("memory", 0));
    }
}
