//! Bind mounts.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, PROC_SUPER_MAGIC, fstatfs, readlinkat, symlinkat};
use spec::plan::{MountAttrs, MountPlan};
use sys::{Context as _, Errno};

use crate::error::{Error, Result, Step as _};
use crate::mounter::{Mounter, Object, is_directory};
use crate::mounts::{last_of, step_of};
use crate::prepare::Prepared;
use crate::root::{Last, Want};

impl<'p> Prepared<'p> {
    /// Binds `source`; `None` if a symlink was copied instead.
    pub(crate) fn bind(
        &mut self,
        index: usize,
        mount: &'p MountPlan,
        source: &Path,
        recursive: bool,
    ) -> Result<Option<OwnedFd>> {
        let step = || step_of(mount);
        if mount.copy_symlink && self.copy_symlink(mount, source)? {
            return Ok(None);
        }
        let object = match self.context.sources.take(index) {
            Some(tree) => Object::Tree(tree),
            None if mount.idmap.is_some() => {
                let why = "an id-mapped mount must be opened before the container is made";
                return Err(Error::refused(step(), why));
            }
            None => {
                Mounter::clone_host(source, recursive, last_of(mount.src_nofollow)).step(step)?
            }
        };
        let want = if is_directory(&object) {
            Want::Directory
        } else {
            Want::File
        };
        let target = self.target(mount, want, last_of(mount.dest_nofollow))?;
        self.check_target(mount, &target, || {
            fstatfs(&object).is_ok_and(|s| s.f_type == PROC_SUPER_MAGIC)
        })?;
        let fd = self.mounter.attach(object, &target).step(step)?;
        if !mount.attrs.is_empty() {
            let later = mount.destination == Path::new("/dev");
            let attrs = MountAttrs {
                set: if later {
                    mount.attrs.set & !MountAttrs::RDONLY
                } else {
                    mount.attrs.set
                },
                clear: mount.attrs.clear,
            };
            self.mounter
                .set_attrs(fd.as_fd(), attrs, false, None)
                .step(step)?;
        }
        Ok(Some(fd))
    }

    /// Makes the source's symlink at the destination, if it is one.
    fn copy_symlink(&self, mount: &MountPlan, source: &Path) -> Result<bool> {
        let step = || step_of(mount);
        let link = match readlinkat(CWD, source, Vec::new()) {
            Ok(link) => link,
            Err(Errno::INVAL) => return Ok(false),
            Err(e) => {
                return Err(e)
                    .context("readlink", || format!("{source:?}"))
                    .step(step);
            }
        };
        let path = &mount.destination;
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Error::refused(step(), "the root cannot be a symlink"));
        };
        let dir = (self.mounter.root)
            .place(parent, Want::Directory, Last::Follow)
            .step(step)?;
        match symlinkat(link.as_c_str(), &dir, name) {
            Err(Errno::EXIST) if readlinkat(&dir, name, Vec::new()).as_ref() == Ok(&link) => {}
            result => result
                .context("symlinkat", || format!("{link:?}, root, {path:?}"))
                .step(step)?,
        }
        Ok(true)
    }
}
