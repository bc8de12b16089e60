//! Making the prepared tree the process's root.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};
use rustix::process::{chroot, fchdir, pivot_root};
use spec::plan::{NamespaceKind, PropagationKind};
use sys::{Context as _, Errno, trace};

use crate::error::{Result, Step as _};
use crate::prepare::{Prepared, inherited_propagation};
use crate::root::{Last, open_host};

impl Prepared<'_> {
    /// Makes the tree this process's root; the working directory becomes `/`. Without a mount
    /// namespace of its own the process is only chrooted. `no_pivot` moves the tree over `/`
    /// instead, for a machine whose root is the initial ramfs, which pivot_root(2) refuses.
    ///
    /// # Errors
    /// The call that failed.
    pub fn pivot(&self, no_pivot: bool) -> Result<()> {
        let step = || "change the root";
        fchdir(self.root())
            .context("fchdir", || "root")
            .step(step)?;
        if self.plan.namespaces.is_inherited(NamespaceKind::Mount) {
            trace::step("chroot", || "only the root directory changes", enter_here)
        } else if no_pivot {
            trace::step(
                "mount(MS_MOVE) + chroot",
                || "the root moves over /",
                || self.move_over(),
            )
        } else {
            trace::step(
                "pivot_root + umount2",
                || "the root becomes /, the host's tree goes",
                || self.exchange(),
            )
        }
        .step(step)
    }

    /// pivot_root(".", ".") puts the old root over the new one, from where it is detached
    /// (pivot_root(2), NOTES).
    fn exchange(&self) -> sys::Result<()> {
        let inherited = inherited_propagation(self.plan);
        let old = if inherited.kind == PropagationKind::Shared || !inherited.recursive {
            Some(open_host(Path::new("/"), Last::Follow)?)
        } else {
            None
        };
        pivot_root(c".", c".").context("pivot_root", || "\".\", \".\"")?;
        if let Some(old) = old {
            // Or the host would lose its mounts with us. Only umount2(2) takes "." for the mount
            // on top; here the working directory has to be there.
            fchdir(&old).context("fchdir", || "old root")?;
            let flags = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
            mount_change(c".", flags).context("mount", || "old root, MS_SLAVE|MS_REC")?;
        }
        unmount(c".", UnmountFlags::DETACH).context("umount2", || "old root, MNT_DETACH")?;
        rustix::process::chdir(c"/").context("chdir", || "\"/\"")
    }

    fn move_over(&self) -> sys::Result<()> {
        self.hide_host_mounts()?;
        fchdir(self.root()).context("fchdir", || "root")?;
        rustix::mount::mount_move(c".", c"/").context("mount", || "\".\", \"/\", MS_MOVE")?;
        enter_here()
    }
}

fn enter_here() -> sys::Result<()> {
    chroot(c".").context("chroot", || "\".\"")?;
    rustix::process::chdir(c"/").context("chdir", || "\"/\"")
}

impl Prepared<'_> {
    /// After MS_MOVE the host's tree is still below the container's in the mount namespace. The
    /// kernel lets a user namespace mount proc and sysfs only where it finds an uncovered instance;
    /// the host's uncovered ones must not serve as that, nor stay reachable.
    fn hide_host_mounts(&self) -> sys::Result<()> {
        let text = std::fs::read_to_string("/proc/self/mountinfo")
            .context("read", || "/proc/self/mountinfo")?;
        let root = &self.plan.root.path;
        // The last mounted first, so that stacked ones come off in order.
        for point in full_instances(&text)
            .into_iter()
            .rev()
            .filter(|point| !point.starts_with(root))
        {
            self.hide(&point)?;
        }
        Ok(())
    }

    fn hide(&self, point: &Path) -> sys::Result<()> {
        let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
        match mount_change(point, slave) {
            // It went with one above it.
            Err(Errno::INVAL | Errno::NOENT) => return Ok(()),
            result => result.context("mount", || format!("{point:?}, MS_SLAVE|MS_REC"))?,
        }
        match unmount(point, UnmountFlags::DETACH) {
            // Locked, because another user namespace owns it: covered instead.
            Err(Errno::INVAL | Errno::PERM) => {
                let none = rustix::mount::MountFlags::empty();
                rustix::mount::mount("tmpfs", point, "tmpfs", none, None)
                    .context("mount", || format!("tmpfs, {point:?}"))
            }
            result => result.context("umount2", || format!("{point:?}, MNT_DETACH")),
        }
    }
}

/// Mount points of proc and sysfs that show the whole file system, in the order of a
/// `/proc/PID/mountinfo` (proc(5): field 4 is the root, 5 the mount point; the type is the first
/// field after the separator).
fn full_instances(mountinfo: &str) -> Vec<PathBuf> {
    mountinfo
        .lines()
        .filter_map(|line| {
            let (mount, fs) = line.split_once(" - ")?;
            let mut fields = mount.split(' ').skip(3);
            let (root, point) = (fields.next()?, fields.next()?);
            let fstype = fs.split(' ').next()?;
            (root == "/" && matches!(fstype, "proc" | "sysfs")).then(|| unescape(point))
        })
        .collect()
}

/// Undoes the octal escapes of mountinfo (`\040` for a blank).
fn unescape(text: &str) -> PathBuf {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let octal = bytes
            .get(at + 1..at + 4)
            .filter(|_| bytes[at] == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        out.push(octal.unwrap_or(bytes[at]));
        at += if octal.is_some() { 4 } else { 1 };
    }
    PathBuf::from(OsString::from_vec(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_instances_are_hidden() {
        let text = "21 29 0:20 / /sys rw,nosuid shared:7 - sysfs sysfs rw\n\
                    22 29 0:21 / /proc rw - proc proc rw\n\
                    90 22 0:21 /sys /proc/sys ro - proc proc rw\n\
                    29 1 254:0 / / rw shared:1 - ext4 /dev/vda rw\n\
                    91 29 0:21 / /a\\040b/proc rw - proc proc rw\n";
        let expected = ["/sys", "/proc", "/a b/proc"].map(PathBuf::from);
        assert_eq!(full_instances(text), expected);
    }

    #[test]
    fn escapes() {
        assert_eq!(unescape("/x\\134y\\011z\\"), Path::new("/x\\y\tz\\"));
    }
}
