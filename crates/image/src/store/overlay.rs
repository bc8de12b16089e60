//! Overlay mounts by descriptors.

use std::fmt::Write as _;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::mount::{MountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, mount};
use sys::Context as _;

use crate::{Error, Result};

/// MOUNT_ATTR_RDONLY of linux/mount.h.
const RDONLY: u64 = 1;

/// The directories that take what is written.
#[derive(Debug)]
pub(crate) struct Upper {
    pub upper: OwnedFd,
    pub work: OwnedFd,
}

/// An overlay to be mounted.
#[derive(Debug)]
pub(crate) struct Overlay<'a> {
    /// Highest first.
    pub lowers: &'a [OwnedFd],
    pub upper: Option<&'a Upper>,
    pub userxattr: bool,
    pub volatile: bool,
}

/// A held directory as a path: short whatever its real one is, and the same directory whatever
/// becomes of that.
fn name(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

impl Overlay<'_> {
    /// Mounts over the directory that `target` is open on.
    pub fn mount(&self, target: &OwnedFd) -> Result<()> {
        if let ([one], None) = (self.lowers, self.upper) {
            return bind_read_only(one.as_fd(), target.as_fd());
        }
        let made =
            sys::knob::check("overlay_lowerdir_add").and_then(|()| sys::mount::fsopen(c"overlay"));
        let context = match made {
            Ok(context) => context,
            Err(Errno::NOSYS) => return self.mount_by_options(target),
            Err(e) => return Err(e).context("fsopen", || "overlay").map_err(Into::into),
        };
        match self.configure(&context) {
            // Linux before 6.8 has no `lowerdir+`.
            Err(Errno::INVAL) if self.lacks_append(&context) => self.mount_by_options(target),
            Err(e) => {
                let why = sys::mount::fs_complaint(context.as_fd());
                let layers = self.lowers.len();
                let why = why.unwrap_or_else(|| sys::ErrnoText(e).to_string());
                Err(Error::store(format!("overlay of {layers} layers"), why))
            }
            Ok(()) => {
                let attrs = if self.upper.is_none() { RDONLY } else { 0 };
                let tree =
                    sys::mount::fsmount(context.as_fd(), attrs).context("fsmount", || "overlay")?;
                sys::mount::attach(tree.as_fd(), target.as_fd(), c"")
                    .context("move_mount", || "overlay")?;
                Ok(())
            }
        }
    }

    fn configure(&self, context: &OwnedFd) -> rustix::io::Result<()> {
        fsconfig_set_string(context, "source", "hull")?;
        for lower in self.lowers {
            fsconfig_set_string(context, "lowerdir+", name(lower))?;
        }
        if let Some(upper) = self.upper {
            fsconfig_set_string(context, "upperdir", name(&upper.upper))?;
            fsconfig_set_string(context, "workdir", name(&upper.work))?;
            if self.volatile {
                fsconfig_set_flag(context, "volatile")?;
            }
        }
        if self.userxattr {
            fsconfig_set_flag(context, "userxattr")?;
        }
        fsconfig_create(context)
    }

    /// Whether the first complaint is about the option's name. Linux before 6.5 takes every option
    /// until the end, and then complains to its own log alone.
    fn lacks_append(&self, context: &OwnedFd) -> bool {
        sys::mount::fs_complaint(context.as_fd()).is_none_or(|c| c.contains("lowerdir+"))
    }

    /// Through mount(2), whose options must fit into a page: by descriptors, 200 layers do.
    fn mount_by_options(&self, target: &OwnedFd) -> Result<()> {
        let lowers: Vec<String> = self.lowers.iter().map(name).collect();
        let mut data = format!("lowerdir={}", lowers.join(":"));
        let mut flags = MountFlags::empty();
        match self.upper {
            Some(upper) => {
                let _ = write!(
                    data,
                    ",upperdir={},workdir={}",
                    name(&upper.upper),
                    name(&upper.work)
                );
                if self.volatile {
                    data.push_str(",volatile");
                }
            }
            None => flags |= MountFlags::RDONLY,
        }
        if self.userxattr {
            data.push_str(",userxattr");
        }
        if data.len() >= 4096 {
            let what = format!("overlay of {} layers", self.lowers.len());
            return Err(Error::store(
                what,
                "more than this kernel can take at once: Linux 6.8 can",
            ));
        }
        let data = std::ffi::CString::new(data).map_err(|e| Error::store("overlay", e))?;
        mount("hull", name(target), "overlay", flags, data.as_c_str())
            .context("mount", || format!("overlay, {} layers", self.lowers.len()))?;
        Ok(())
    }
}

/// One directory, that nobody can write to.
fn bind_read_only(from: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<()> {
    let change = sys::mount::SetAttr {
        set: RDONLY,
        ..Default::default()
    };
    let tree = match sys::mount::clone_tree(from, c"", false, true) {
        Err(Errno::NOSYS) => return bind_by_path(from, target),
        other => other.context("open_tree", || "layer")?,
    };
    match sys::mount::mount_setattr(tree.as_fd(), false, &change) {
        Err(Errno::NOSYS) => return bind_by_path(from, target),
        other => other.context("mount_setattr", || "layer, read-only")?,
    }
    sys::mount::attach(tree.as_fd(), target, c"").context("move_mount", || "layer")?;
    Ok(())
}

fn bind_by_path(from: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<()> {
    let name = |fd: BorrowedFd<'_>| format!("/proc/self/fd/{}", fd.as_raw_fd());
    let target_path = std::fs::read_link(name(target)).map_err(|e| Error::io("readlink", e))?;
    rustix::mount::mount_bind(name(from), name(target)).context("mount", || "layer, MS_BIND")?;
    // The descriptor is of what is below now.
    let flags = MountFlags::BIND | MountFlags::RDONLY;
    rustix::mount::mount_remount(&target_path, flags, c"").context("mount", || {
        format!("{target_path:?}, MS_REMOUNT|MS_BIND|MS_RDONLY")
    })?;
    Ok(())
}
