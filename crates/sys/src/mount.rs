//! Mounts as objects: the calls of the descriptor-based mount interface.
//!
//! Those with a fallback for old kernels go through [`knob`]; what rustix lacks is called raw.
//! Errors are bare errnos: the caller knows which mount of which container it was.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::{Errno, Result};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags,
    move_mount,
};

use crate::knob;
use crate::process::last_errno;

/// What [`mount_setattr`] changes.
#[derive(Clone, Copy, Debug, Default)]
pub struct SetAttr<'fd> {
    /// MOUNT_ATTR_… bits to set.
    pub set: u64,
    /// MOUNT_ATTR_… bits to clear.
    pub clear: u64,
    /// MS_SHARED, MS_SLAVE, MS_PRIVATE, MS_UNBINDABLE, or 0 for no change.
    pub propagation: u64,
    /// User namespace of MOUNT_ATTR_IDMAP.
    pub userns: Option<BorrowedFd<'fd>>,
}

/// `struct mount_attr` of linux/mount.h.
#[repr(C)]
#[derive(Default)]
struct RawMountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// mount_setattr(2) on the mount that `fd` is the root of; `recursive` for all below it too.
///
/// # Errors
/// mount_setattr(2)'s; ENOSYS also where [`knob`] fakes it.
pub fn mount_setattr(fd: BorrowedFd<'_>, recursive: bool, change: &SetAttr<'_>) -> Result<()> {
    knob::check("mount_setattr")?;
    let raw = RawMountAttr {
        attr_set: change.set,
        attr_clr: change.clear,
        propagation: change.propagation,
        userns_fd: change
            .userns
            .and_then(|fd| u64::try_from(fd.as_raw_fd()).ok())
            .unwrap_or(0),
    };
    let recurse = if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a static string, `raw` is a valid mount_attr of the size given, both
    // only read by the kernel.
    let r = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | recurse,
            &raw const raw,
            size_of::<RawMountAttr>(),
        )
    };
    if r == 0 { Ok(()) } else { Err(last_errno()) }
}

/// open_tree(2) with OPEN_TREE_CLONE: a detached copy of the mount at `path` below `dir`
/// (`path` empty: `dir` itself), with all below it where `recursive`.
///
/// # Errors
/// open_tree(2)'s; ENOSYS also where [`knob`] fakes it.
pub fn clone_tree(
    dir: BorrowedFd<'_>,
    path: &CStr,
    recursive: bool,
    follow: bool,
) -> Result<OwnedFd> {
    knob::check("open_tree")?;
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    flags.set(OpenTreeFlags::AT_EMPTY_PATH, path.is_empty());
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    flags.set(OpenTreeFlags::AT_SYMLINK_NOFOLLOW, !follow);
    rustix::mount::open_tree(dir, path, flags)
}

/// fsopen(2): begins a new file-system instance.
///
/// # Errors
/// fsopen(2)'s; ENOSYS also where [`knob`] fakes it.
pub fn fsopen(fstype: &CStr) -> Result<OwnedFd> {
    knob::check("fsopen")?;
    rustix::mount::fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC)
}

/// fspick(2) on the mount that `fd` is the root of: begins a change of its file system's options.
///
/// # Errors
/// fspick(2)'s; ENOSYS also where [`knob`] fakes fsopen(2), which came with it.
pub fn fspick(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    knob::check("fsopen")?;
    let flags = FsPickFlags::FSPICK_CLOEXEC | FsPickFlags::FSPICK_EMPTY_PATH;
    rustix::mount::fspick(fd, c"", flags)
}

/// fsmount(2): the detached mount of a created instance, with MOUNT_ATTR_… bits.
///
/// # Errors
/// fsmount(2)'s.
pub fn fsmount(context: BorrowedFd<'_>, attrs: u64) -> Result<OwnedFd> {
    let attrs = u32::try_from(attrs).map_err(|_| Errno::INVAL)?;
    rustix::mount::fsmount(
        context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::from_bits_retain(attrs),
    )
}

/// The first complaint in the log of a file-system context (fsopen(2)), without its level.
#[must_use]
pub fn fs_complaint(context: BorrowedFd<'_>) -> Option<String> {
    let mut line = [0u8; 512];
    while let Ok(n) = rustix::io::read(context, &mut line) {
        let text = String::from_utf8_lossy(&line[..n]);
        if let Some(message) = text.strip_prefix("e ") {
            return Some(message.trim_end().to_owned());
        }
        if n == 0 {
            break;
        }
    }
    None
}

/// move_mount(2) of the mount that `object` is the root of onto `dir` itself (`name` empty) or
/// onto the entry `name` in it, which must be a single component and is not followed.
///
/// # Errors
/// move_mount(2)'s; EINVAL for a name of more than one component.
pub fn attach(object: BorrowedFd<'_>, dir: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    if name.to_bytes().contains(&b'/') || name == c".." {
        return Err(Errno::INVAL);
    }
    let mut flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    flags.set(MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH, name.is_empty());
    move_mount(object, c"", dir, name, flags)
}
