//! `tmpcopyup`: a new tmpfs begins with what the image has at its place.

use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags,
    chownat, fchmod, fgetxattr, flistxattr, fsetxattr, mkdirat, mknodat, openat, readlinkat,
    statat, symlinkat, utimensat,
};
use sys::{Context as _, Errno, Error, Result};

/// Limits of xattr(7).
const XATTR_LIST_MAX: usize = 65_536;
const XATTR_SIZE_MAX: usize = 65_536;

/// Directories deeper than this are refused: the copy recurses.
const DEEPEST: u32 = 256;

/// Copies the tree below `from` into `to` (both may be O_PATH), with owners, modes, times and extended attributes. No
/// symlink is
/// followed, and no other mount is entered: what is mounted below `from` is not of the image.
pub(crate) fn copy(from: &OwnedFd, to: &OwnedFd) -> Result<()> {
    let device = stat(from.as_fd(), c"")?.st_dev;
    copy_entries(from.as_fd(), to.as_fd(), device, DEEPEST)
}

fn copy_entries(from: BorrowedFd<'_>, to: BorrowedFd<'_>, device: u64, depth: u32) -> Result<()> {
    let depth = depth
        .checked_sub(1)
        .ok_or_else(|| Error::new("openat", "tree too deep", Errno::NAMETOOLONG))?;
    let listing = open(from, c".", OFlags::RDONLY | OFlags::DIRECTORY)?;
    for entry in Dir::new(listing).context("fdopendir", || "source")? {
        let entry = entry.context("getdents64", || "source")?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let meta = stat(from, name)?;
        if meta.st_dev == device {
            copy_entry(from, to, name, &meta, depth)?;
        }
    }
    Ok(())
}

fn copy_entry(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    name: &CStr,
    meta: &Stat,
    depth: u32,
) -> Result<()> {
    let kind = FileType::from_raw_mode(meta.st_mode);
    let mode = Mode::from_raw_mode(meta.st_mode & 0o7777);
    let shown = || format!("{:?}", OsStr::from_bytes(name.to_bytes()));
    match kind {
        FileType::Directory => {
            mkdirat(to, name, Mode::RWXU).context("mkdirat", shown)?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            let (source, dest) = (open(from, name, flags)?, open(to, name, flags)?);
            copy_entries(source.as_fd(), dest.as_fd(), meta.st_dev, depth)?;
            own(to, name, meta)?;
            fchmod(&dest, mode).context("fchmod", shown)?;
            copy_attributes(&source, &dest).context("fsetxattr", shown)?;
        }
        FileType::RegularFile => {
            let source = open(from, name, OFlags::RDONLY)?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
            let dest = open(to, name, flags)?;
            send(&source, &dest)?;
            own(to, name, meta)?;
            fchmod(&dest, mode).context("fchmod", shown)?;
            // After the owner, whose change drops file capabilities.
            copy_attributes(&source, &dest).context("fsetxattr", shown)?;
        }
        FileType::Symlink => {
            let link = readlinkat(from, name, Vec::new()).context("readlinkat", shown)?;
            symlinkat(&link, to, name).context("symlinkat", shown)?;
            own(to, name, meta)?;
        }
        // Sockets without their process are of no use to anyone.
        FileType::Socket => return Ok(()),
        _ => {
            mknodat(to, name, kind, mode, meta.st_rdev).context("mknodat", shown)?;
            own(to, name, meta)?;
        }
    }
    set_times(to, name, meta).context("utimensat", shown)
}

fn open(dir: BorrowedFd<'_>, name: &CStr, flags: OFlags) -> Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOCTTY;
    openat(dir, name, flags, Mode::RWXU).context("openat", || format!("{name:?}, {flags:?}"))
}

fn stat(dir: BorrowedFd<'_>, name: &CStr) -> Result<Stat> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
    statat(dir, name, flags).context("fstatat", || format!("{name:?}"))
}

fn own(dir: BorrowedFd<'_>, name: &CStr, meta: &Stat) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(meta.st_uid), Gid::from_raw(meta.st_gid));
    chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
        .context("fchownat", || format!("{name:?}"))
}

fn set_times(dir: BorrowedFd<'_>, name: &CStr, meta: &Stat) -> rustix::io::Result<()> {
    let time = |tv_sec, tv_nsec: u64| Timespec {
        tv_sec,
        tv_nsec: i64::try_from(tv_nsec).unwrap_or(0),
    };
    let times = Timestamps {
        last_access: time(meta.st_atime, meta.st_atime_nsec),
        last_modification: time(meta.st_mtime, meta.st_mtime_nsec),
    };
    utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW)
}

/// Copies extended attributes; those that the tmpfs does not take, or that this process may not
/// set, are left out.
fn copy_attributes(from: &OwnedFd, to: &OwnedFd) -> rustix::io::Result<()> {
    let mut names = vec![0u8; XATTR_LIST_MAX];
    let used = match flistxattr(from, &mut names) {
        Err(Errno::OPNOTSUPP) => return Ok(()),
        result => result?,
    };
    let mut value = vec![0u8; XATTR_SIZE_MAX];
    for name in names[..used].split(|&b| b == 0).filter(|n| !n.is_empty()) {
        let size = fgetxattr(from, name, &mut value)?;
        match fsetxattr(to, name, &value[..size], XattrFlags::empty()) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn send(from: &OwnedFd, to: &OwnedFd) -> Result<()> {
    loop {
        let n = rustix::fs::sendfile(to, from, None, 1 << 20).context("sendfile", || "copy")?;
        if n == 0 {
            return Ok(());
        }
    }
}
