//! Mounts as descriptors, and the same through mount(2) for kernels without them.
//!
//! On a kernel with the descriptor-based interface (Linux 5.2, mount_setattr(2) since 5.12) a
//! mount is made detached, and attached to a target that is a descriptor too. Older kernels only
//! take paths: there each descriptor is named through a held procfs directory
//! (`self/fd/N` relative to it), never by its path in the container.

use std::cell::OnceCell;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FileType, PROC_SUPER_MAGIC, StatVfsMountFlags, fstatfs, fstatvfs, statat,
};
use rustix::mount::{MountFlags, MountPropagationFlags};
use rustix::path::Arg as _;
use spec::plan::{MountAttrs, Propagation, PropagationKind};
use sys::mount::SetAttr;
use sys::{Context as _, Errno, Error, Result};

use crate::root::{Last, Root, open_host};

/// Something that can be attached.
#[derive(Debug)]
pub(crate) enum Object {
    /// A detached mount tree.
    Tree(OwnedFd),
    /// Without open_tree(2): what is to be bound, not yet a mount of its own.
    Source {
        /// O_PATH.
        fd: OwnedFd,
        /// With all mounts below it.
        recursive: bool,
    },
}

impl AsFd for Object {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tree(fd) | Self::Source { fd, .. } => fd.as_fd(),
        }
    }
}

/// Where something is attached: the descriptor, and how to find it again.
#[derive(Debug)]
pub(crate) struct Target<'a> {
    /// O_PATH; resolved in the root.
    pub fd: OwnedFd,
    /// As it was looked up in the root.
    pub path: &'a Path,
    /// How it was looked up.
    pub last: Last,
    /// Whether it was made for this.
    pub fresh: bool,
}

/// Makes and changes mounts below one root.
#[derive(Debug)]
pub(crate) struct Mounter {
    pub root: Root,
    /// procfs for naming descriptors, opened at the first call that an old kernel lacks.
    procfs: OnceCell<OwnedFd>,
}

impl Mounter {
    pub fn new(root: Root) -> Self {
        Self {
            root,
            procfs: OnceCell::new(),
        }
    }

    /// A copy of the mount at a path of the host.
    pub fn clone_host(path: &Path, recursive: bool, last: Last) -> Result<Object> {
        let c_path = path
            .into_c_str()
            .context("open_tree", || format!("{path:?}"))?;
        match sys::mount::clone_tree(CWD, &c_path, recursive, last == Last::Follow) {
            Ok(tree) => Ok(Object::Tree(tree)),
            Err(Errno::NOSYS) => open_host(path, last).map(|fd| Object::Source { fd, recursive }),
            Err(errno) => Err(Error::new("open_tree", clone_args(path, recursive), errno)),
        }
    }

    /// A copy of the mount that `fd` is in, beginning there.
    pub fn clone_fd(fd: BorrowedFd<'_>, recursive: bool) -> Result<Object> {
        match sys::mount::clone_tree(fd, c"", recursive, true) {
            Ok(tree) => Ok(Object::Tree(tree)),
            Err(Errno::NOSYS) => {
                let fd = fd.try_clone_to_owned().context("dup", || "bind source")?;
                Ok(Object::Source { fd, recursive })
            }
            Err(errno) => {
                let args = clone_args(Path::new(""), recursive);
                Err(Error::new("open_tree", args, errno))
            }
        }
    }

    /// Attaches `object` over `target`; returns a descriptor of the attached mount's root.
    pub fn attach(&self, object: Object, target: &Target<'_>) -> Result<OwnedFd> {
        match object {
            Object::Tree(tree) => sys::mount::attach(tree.as_fd(), target.fd.as_fd(), c"")
                .map_err(|errno| kind_mismatch(&tree, &target.fd).unwrap_or(errno))
                .context("move_mount", || format!("tree, root, {:?}", target.path))
                .map(|()| tree),
            Object::Source { fd, recursive } => {
                self.by_name(|| {
                    let (from, to) = (fd_name(fd.as_fd()), fd_name(target.fd.as_fd()));
                    if recursive {
                        rustix::mount::mount_bind_recursive(from, to)
                    } else {
                        rustix::mount::mount_bind(from, to)
                    }
                })?
                .context("mount", || format!("fd, root, {:?}, MS_BIND", target.path))?;
                self.reopen(target)
            }
        }
    }

    /// The mount that is now on top of `target`.
    pub fn reopen(&self, target: &Target<'_>) -> Result<OwnedFd> {
        self.root.resolve(target.path, target.last)
    }

    /// Changes attributes of the mount that `fd` is the root of.
    pub fn set_attrs(
        &self,
        fd: BorrowedFd<'_>,
        attrs: MountAttrs,
        recursive: bool,
        propagation: Option<PropagationKind>,
    ) -> Result<()> {
        let change = SetAttr {
            set: attrs.set,
            clear: clear_mask(attrs),
            propagation: propagation.map_or(0, |p| propagation_flag(p).bits().into()),
            userns: None,
        };
        match sys::mount::mount_setattr(fd, recursive, &change) {
            Err(Errno::NOSYS) => self.set_attrs_by_name(fd, attrs, recursive, propagation),
            result => result.context("mount_setattr", || {
                format!("set={:#x}, clear={:#x}", change.set, change.clear)
            }),
        }
    }

    /// The same through MS_REMOUNT|MS_BIND, which replaces all flags: those that are there now
    /// and are not mentioned are given again. Attributes of a whole tree cannot be set this way.
    fn set_attrs_by_name(
        &self,
        fd: BorrowedFd<'_>,
        attrs: MountAttrs,
        recursive: bool,
        propagation: Option<PropagationKind>,
    ) -> Result<()> {
        if !attrs.is_empty() {
            if recursive {
                let args = "AT_RECURSIVE; recursive attributes need Linux 5.12";
                return Err(Error::new("mount_setattr", args, Errno::NOSYS));
            }
            let now = fstatvfs(fd).context("fstatvfs", || "mount")?.f_flag;
            let flags = remount_flags(attributes_of(now), attrs) | MountFlags::BIND;
            self.by_name(|| rustix::mount::mount_remount(fd_name(fd), flags, c""))?
                .context("mount", || format!("MS_REMOUNT|MS_BIND, {flags:?}"))?;
        }
        if let Some(kind) = propagation {
            let mut flags = propagation_flag(kind);
            flags.set(MountPropagationFlags::REC, recursive);
            self.by_name(|| rustix::mount::mount_change(fd_name(fd), flags))?
                .context("mount", || format!("{flags:?}"))?;
        }
        Ok(())
    }

    /// Sets the propagation of the mount that `fd` is the root of.
    pub fn set_propagation(&self, fd: BorrowedFd<'_>, p: Propagation) -> Result<()> {
        self.set_attrs(fd, MountAttrs::default(), p.recursive, Some(p.kind))
    }

    /// Runs `f`, a call that takes paths made by [`fd_name`], with procfs as working directory;
    /// afterwards that is the root.
    pub fn by_name<T>(&self, f: impl FnOnce() -> T) -> Result<T> {
        let procfs = match self.procfs.get() {
            Some(fd) => fd,
            None => {
                let fd = host_procfs()?;
                self.procfs.get_or_init(|| fd)
            }
        };
        rustix::process::fchdir(procfs).context("fchdir", || "procfs")?;
        let result = f();
        rustix::process::fchdir(&self.root).context("fchdir", || "root")?;
        Ok(result)
    }
}

/// Why a directory cannot be mounted on a file or the reverse; move_mount(2) only says EINVAL,
/// mount(2) said this.
fn kind_mismatch(tree: &OwnedFd, target: &OwnedFd) -> Option<Errno> {
    (is_directory(tree) != is_directory(target)).then_some(Errno::NOTDIR)
}

/// Whether a descriptor is of a directory.
pub(crate) fn is_directory<Fd: AsFd>(fd: Fd) -> bool {
    statat(fd, c"", AtFlags::EMPTY_PATH).is_ok_and(|s| FileType::from_raw_mode(s.st_mode).is_dir())
}

/// The name of a descriptor relative to procfs.
pub(crate) fn fd_name(fd: BorrowedFd<'_>) -> String {
    format!("self/fd/{}", fd.as_raw_fd())
}

fn host_procfs() -> Result<OwnedFd> {
    let fd = open_host(Path::new("/proc"), Last::Nofollow)?;
    let stat = fstatfs(&fd).context("fstatfs", || "/proc")?;
    if stat.f_type == PROC_SUPER_MAGIC {
        Ok(fd)
    } else {
        Err(Error::new("open", "/proc: not a procfs", Errno::NODEV))
    }
}

fn clone_args(path: &Path, recursive: bool) -> String {
    let recursive = if recursive { "|AT_RECURSIVE" } else { "" };
    format!("{path:?}, OPEN_TREE_CLONE{recursive}")
}

/// The clear mask for the kernel: the access-time values are one field, cleared before it is set.
fn clear_mask(attrs: MountAttrs) -> u64 {
    if (attrs.set | attrs.clear) & MountAttrs::ATIME_MASK == 0 {
        attrs.clear
    } else {
        attrs.clear | MountAttrs::ATIME_MASK
    }
}

pub(crate) fn propagation_flag(kind: PropagationKind) -> MountPropagationFlags {
    match kind {
        PropagationKind::Shared => MountPropagationFlags::SHARED,
        PropagationKind::Slave => MountPropagationFlags::DOWNSTREAM,
        PropagationKind::Private => MountPropagationFlags::PRIVATE,
        PropagationKind::Unbindable => MountPropagationFlags::UNBINDABLE,
    }
}

/// Attribute, flag of mount(2), flag of statvfs(3).
const FLAGS: [(u64, MountFlags, StatVfsMountFlags); 8] = [
    (
        MountAttrs::RDONLY,
        MountFlags::RDONLY,
        StatVfsMountFlags::RDONLY,
    ),
    (
        MountAttrs::NOSUID,
        MountFlags::NOSUID,
        StatVfsMountFlags::NOSUID,
    ),
    (
        MountAttrs::NODEV,
        MountFlags::NODEV,
        StatVfsMountFlags::NODEV,
    ),
    (
        MountAttrs::NOEXEC,
        MountFlags::NOEXEC,
        StatVfsMountFlags::NOEXEC,
    ),
    (
        MountAttrs::NOATIME,
        MountFlags::NOATIME,
        StatVfsMountFlags::NOATIME,
    ),
    (
        MountAttrs::NODIRATIME,
        MountFlags::NODIRATIME,
        StatVfsMountFlags::NODIRATIME,
    ),
    (
        MountAttrs::NOSYMFOLLOW,
        MountFlags::NOSYMFOLLOW,
        // ST_NOSYMFOLLOW of linux/statfs.h, which libc's list does not have.
        StatVfsMountFlags::from_bits_retain(0x2000),
    ),
    // Strict is what remains when statvfs reports neither of the other two.
    (
        MountAttrs::STRICTATIME,
        MountFlags::STRICTATIME,
        StatVfsMountFlags::empty(),
    ),
];

/// The attributes of a mount by what statvfs(3) reports.
pub(crate) fn attributes_of(now: StatVfsMountFlags) -> u64 {
    let mut attrs = FLAGS
        .iter()
        .filter(|(.., st)| !st.is_empty() && now.contains(*st))
        .fold(0, |bits, (attr, ..)| bits | attr);
    if !now.intersects(StatVfsMountFlags::NOATIME | StatVfsMountFlags::RELATIME) {
        attrs |= MountAttrs::STRICTATIME;
    }
    attrs
}

/// The flags of mount(2) for given attributes; access times are relative where nothing is said.
pub(crate) fn mount_flags(attrs: u64) -> MountFlags {
    let flags = FLAGS
        .iter()
        .filter(|(attr, ..)| attrs & attr != 0)
        .fold(MountFlags::empty(), |flags, (_, ms, _)| flags | *ms);
    if attrs & MountAttrs::ATIME_MASK == 0 {
        flags | MountFlags::RELATIME
    } else {
        flags
    }
}

/// The flags that change a mount with attributes `now` as `change` says and leave the rest.
fn remount_flags(now: u64, change: MountAttrs) -> MountFlags {
    mount_flags(now & !clear_mask(change) | change.set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remount_keeps_what_is_not_mentioned() {
        let st = StatVfsMountFlags::NOSUID | StatVfsMountFlags::NODEV | StatVfsMountFlags::RELATIME;
        let change = |set, clear| MountAttrs { set, clear };
        let base = MountFlags::NOSUID | MountFlags::NODEV;
        for (change, expected) in [
            (change(0, 0), base | MountFlags::RELATIME),
            (
                change(MountAttrs::RDONLY, 0),
                base | MountFlags::RDONLY | MountFlags::RELATIME,
            ),
            (
                change(0, MountAttrs::NOSUID),
                MountFlags::NODEV | MountFlags::RELATIME,
            ),
            (change(MountAttrs::NOATIME, 0), base | MountFlags::NOATIME),
            (
                change(MountAttrs::STRICTATIME, 0),
                base | MountFlags::STRICTATIME,
            ),
        ] {
            assert_eq!(
                remount_flags(attributes_of(st), change),
                expected,
                "{change:?}"
            );
        }
    }

    #[test]
    fn strict_access_times_survive_a_remount() {
        let flags = remount_flags(
            attributes_of(StatVfsMountFlags::empty()),
            MountAttrs::default(),
        );
        assert_eq!(flags, MountFlags::STRICTATIME);
    }
}
