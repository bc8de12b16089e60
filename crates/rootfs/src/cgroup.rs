//! Mounts of type `cgroup`: the control-group tree as the container may see it.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, mkdirat, symlinkat};
use spec::plan::{MountAttrs, MountPlan, NamespaceKind, SuperblockFlags};
use sys::{Context as _, Errno};

use crate::error::{Result, Step as _};
use crate::filesystem::NewFs;
use crate::mounter::{Mounter, Target};
use crate::mounts::{last_of, step_of};
use crate::prepare::Prepared;
use crate::root::{Last, Want, open_child};

/// How the host's control groups are mounted, and where in them the container is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum CgroupLayout {
    /// None: a mount of type `cgroup` is left out.
    #[default]
    None,
    /// Several hierarchies (cgroups(7), version 1 and hybrid).
    V1(Vec<Hierarchy>),
    /// The unified hierarchy.
    V2 {
        /// The container's own directory on the host.
        path: PathBuf,
    },
}

/// One hierarchy of version 1, or the unified one beside them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Hierarchy {
    /// Its directory below the cgroup mount: `cpu,cpuacct`, `memory`, `systemd`, `unified`.
    pub name: String,
    /// The container's own directory on the host.
    pub path: PathBuf,
    /// Options by which the same hierarchy is mounted (`cpu,cpuacct`; `none`, `name=systemd`);
    /// none for the unified one, which is of type `cgroup2`.
    pub options: Vec<String>,
    /// Whether it is the unified one.
    pub unified: bool,
}

/// Attributes of each mount, whatever the plan says.
const ATTRS: u64 = MountAttrs::NOSUID | MountAttrs::NODEV | MountAttrs::NOEXEC;

impl<'p> Prepared<'p> {
    /// Makes a mount of type `cgroup`; returns its top.
    pub(crate) fn mount_cgroup(&mut self, mount: &'p MountPlan) -> Result<OwnedFd> {
        let target = self.target(mount, Want::Directory, last_of(mount.dest_nofollow))?;
        self.check_target(mount, &target, || false)?;
        let layout = std::mem::take(&mut self.context.cgroups);
        let result = match &layout {
            CgroupLayout::None => Ok(target.fd),
            CgroupLayout::V1(all) => self.mount_v1(mount, &target, all),
            CgroupLayout::V2 { path } => self.mount_hierarchy(mount, &target, "cgroup2", &[], path),
        };
        self.context.cgroups = layout;
        result.step(|| step_of(mount))
    }

    /// A tmpfs with a directory for each hierarchy, and links for hierarchies of many names.
    fn mount_v1(
        &self,
        mount: &MountPlan,
        target: &Target<'_>,
        hierarchies: &[Hierarchy],
    ) -> sys::Result<OwnedFd> {
        let top = NewFs {
            fstype: "tmpfs",
            source: "tmpfs",
            data: &["mode=755".to_owned()],
            superblock: SuperblockFlags::default(),
            attrs: ATTRS,
            label: self.label_for("tmpfs"),
        };
        let top = self.mounter.mount_new(&top, target)?;
        for hierarchy in hierarchies {
            let name = OsStr::new(&hierarchy.name);
            mkdirat(&top, name, Mode::from_raw_mode(0o755))
                .context("mkdirat", || format!("cgroup tmpfs, {name:?}"))?;
            let path = target.path.join(name);
            let place = Target {
                fd: open_child(&top, name)?,
                path: &path,
                last: Last::Nofollow,
                fresh: true,
            };
            let fstype = if hierarchy.unified {
                "cgroup2"
            } else {
                "cgroup"
            };
            self.mount_hierarchy(mount, &place, fstype, &hierarchy.options, &hierarchy.path)?;
            for link in links(&hierarchy.name) {
                symlinkat(name, &top, link)
                    .context("symlinkat", || format!("{name:?}, cgroup tmpfs, {link:?}"))?;
            }
        }
        if mount.attrs.set & MountAttrs::RDONLY != 0 {
            let readonly = MountAttrs {
                set: MountAttrs::RDONLY,
                clear: 0,
            };
            self.mounter.set_attrs(top.as_fd(), readonly, false, None)?;
        }
        Ok(top)
    }

    /// One hierarchy: the file system itself where a cgroup namespace makes the container's own
    /// group its root, else a bind of that group.
    fn mount_hierarchy(
        &self,
        mount: &MountPlan,
        target: &Target<'_>,
        fstype: &str,
        options: &[String],
        own: &Path,
    ) -> sys::Result<OwnedFd> {
        let attrs = ATTRS | mount.attrs.set;
        if !self.plan.namespaces.is_inherited(NamespaceKind::Cgroup) {
            let fs = NewFs {
                fstype,
                source: "cgroup",
                data: options,
                superblock: SuperblockFlags::default(),
                attrs,
                label: None,
            };
            match self.mounter.mount_new(&fs, target) {
                // A user namespace that does not own the cgroup namespace may not mount it.
                Err(e) if matches!(e.errno, Errno::PERM | Errno::BUSY) => {}
                result => return result,
            }
        }
        let object = Mounter::clone_host(own, true, Last::Follow)?;
        let fd = self.mounter.attach(object, target)?;
        let attrs = MountAttrs {
            set: attrs & !MountAttrs::ATIME_MASK,
            clear: 0,
        };
        self.mounter.set_attrs(fd.as_fd(), attrs, false, None)?;
        Ok(fd)
    }
}

/// The single names of a hierarchy of several controllers: `cpu` and `cpuacct` of `cpu,cpuacct`.
fn links(name: &str) -> impl Iterator<Item = &str> {
    name.split(',').filter(move |part| *part != name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_for_merged_hierarchies_only() {
        assert_eq!(links("cpu,cpuacct").collect::<Vec<_>>(), ["cpu", "cpuacct"]);
        assert_eq!(links("memory").count(), 0);
    }
}
