//! The last touches: kernel parameters, hidden paths, read-only paths and root.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use spec::plan::{MountAttrs, PropagationKind, SuperblockFlags};
use sys::{Errno, trace};

use crate::devices::find_null;
use crate::error::{Result, Step as _};
use crate::filesystem::NewFs;
use crate::mounter::{Mounter, Target, is_directory};
use crate::prepare::Prepared;
use crate::procfs::Procfs;
use crate::root::Last;

const READONLY: MountAttrs = MountAttrs {
    set: MountAttrs::RDONLY,
    clear: 0,
};

impl Prepared<'_> {
    /// Does what must come last, after [`Prepared::pivot`].
    ///
    /// # Errors
    /// The step that failed.
    pub fn finish(mut self) -> Result<()> {
        self.write_sysctls()?;
        for (fd, path) in &self.readonly_later {
            (self.mounter)
                .set_attrs(fd.as_fd(), READONLY, false, None)
                .step(|| format!("make {path:?} read-only"))?;
        }
        let plan = self.plan;
        if !plan.readonly_paths.is_empty() {
            trace::step(
                "open_tree + move_mount + mount_setattr",
                || format!("{} read-only paths", plan.readonly_paths.len()),
                || {
                    plan.readonly_paths
                        .iter()
                        .try_for_each(|p| self.make_readonly(p))
                },
            )?;
        }
        if !plan.masked_paths.is_empty() {
            trace::step(
                "open_tree + move_mount",
                || format!("{} masked paths", plan.masked_paths.len()),
                || self.mask_all(),
            )?;
        }
        if plan.root.readonly {
            trace::step(
                "mount_setattr",
                || "the root becomes read-only",
                || (self.mounter).set_attrs(self.mounter.root.as_fd(), READONLY, false, None),
            )
            .step(|| "make the root read-only")?;
        }
        match plan.rootfs_propagation {
            // The root has been private since it became a mount of its own.
            Some(p) if p.kind != PropagationKind::Private => (self.mounter)
                .set_propagation(self.mounter.root.as_fd(), p)
                .step(|| "propagation of the root"),
            _ => Ok(()),
        }
    }

    fn write_sysctls(&self) -> Result<()> {
        if self.plan.sysctl.is_empty() {
            return Ok(());
        }
        let step = || "kernel parameters";
        trace::step(
            "write",
            || "kernel parameters (sysctl)",
            || {
                let private;
                let procfs = match self.procfs.as_ref().map(Procfs::from_fd) {
                    Some(Ok(procfs)) => procfs,
                    _ => {
                        private = Procfs::whole().step(step)?;
                        private
                    }
                };
                for (key, value) in &self.plan.sysctl {
                    procfs
                        .write(&Path::new("sys").join(key), value.as_bytes())
                        .step(|| format!("kernel parameter {key}"))?;
                }
                Ok(())
            },
        )
    }

    /// The place of a mask, if there is anything.
    fn find<'a>(&self, path: &'a Path) -> sys::Result<Option<Target<'a>>> {
        let last = Last::Follow;
        match self.mounter.root.resolve(path, last) {
            Ok(fd) => Ok(Some(Target {
                fd,
                path,
                last,
                fresh: false,
            })),
            // What does not exist, or what even the container's root cannot reach.
            Err(e) if matches!(e.errno, Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn make_readonly(&self, path: &Path) -> Result<()> {
        let step = || format!("make {path:?} read-only");
        let Some(target) = self.find(path).step(step)? else {
            return Ok(());
        };
        let object = Mounter::clone_fd(target.fd.as_fd(), true).step(step)?;
        let fd = self.mounter.attach(object, &target).step(step)?;
        self.mounter
            .set_attrs(fd.as_fd(), READONLY, false, None)
            .step(step)
    }

    /// Files are covered by the null device, directories by one empty one.
    fn mask_all(&mut self) -> Result<()> {
        let mut empty: Option<OwnedFd> = None;
        for path in &self.plan.masked_paths {
            let step = || format!("mask {path:?}");
            let Some(target) = self.find(path).step(step)? else {
                continue;
            };
            if !is_directory(&target.fd) {
                let null = match self.null.take() {
                    Some(fd) => fd,
                    None => find_null(&self.mounter.root)?,
                };
                let object = Mounter::clone_fd(null.as_fd(), false).step(step)?;
                self.null = Some(null);
                self.mounter.attach(object, &target).step(step)?;
            } else if let Some(empty) = &empty {
                let object = Mounter::clone_fd(empty.as_fd(), false).step(step)?;
                self.mounter.attach(object, &target).step(step)?;
            } else {
                empty = Some(self.mount_empty(&target).step(step)?);
            }
        }
        Ok(())
    }

    /// A read-only empty directory over `target`.
    fn mount_empty(&self, target: &Target<'_>) -> sys::Result<OwnedFd> {
        let fs = NewFs {
            fstype: "tmpfs",
            source: "tmpfs",
            data: &["mode=555".to_owned(), "size=4k".to_owned()],
            superblock: SuperblockFlags {
                ro: true,
                ..SuperblockFlags::default()
            },
            attrs: MountAttrs::RDONLY | MountAttrs::NOSUID | MountAttrs::NODEV | MountAttrs::NOEXEC,
            label: self.label_for("tmpfs"),
        };
        self.mounter.mount_new(&fs, target)
    }
}
