//! Gives attributes to what has just been made.
//!
//! The order is not free: chown(2) clears set-id bits and capabilities, so mode and attributes
//! come after it; everything changes the times, so they come last.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{
    AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags, chmodat, chownat, fchmod, fchown,
    fsetxattr, futimens, lsetxattr, utimensat,
};
use rustix::io::Errno;
use sys::Context as _;

use super::owner::{self, Ownership, ROOTLESS_XATTR};
use super::rules::{self, XattrUse};
use super::{Entry, EntryKind, EntryPath, Timestamp};
use crate::{Error, Result};

/// Attributes as they go to disk.
#[derive(Clone, Debug)]
pub struct Attrs {
    /// Permission bits with set-id and sticky bits.
    pub mode: u32,
    /// Owner on disk; `None` for whoever makes the file.
    pub owner: Option<(u32, u32)>,
    /// Time of last modification.
    pub mtime: Timestamp,
    /// Extended attributes.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// How attributes are given.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Owners.
    pub ownership: Ownership,
    /// What becomes of overlayfs's own attributes.
    pub xattrs: XattrUse,
    /// What a new file belongs to by itself, where that is known.
    pub default_owner: Option<(u32, u32)>,
    /// The process's umask.
    pub umask: u32,
}

impl Policy {
    /// Attributes on disk of an entry.
    ///
    /// # Errors
    /// Too many attributes, or an owner outside of the maps.
    pub fn attrs(&self, entry: &mut Entry) -> Result<Attrs> {
        let mut xattrs = rules::xattrs(std::mem::take(&mut entry.xattrs), self.xattrs)?;
        let owner = self.ownership.on_disk(entry.uid, entry.gid)?;
        if self.ownership.is_rootless() && (entry.uid, entry.gid) != (0, 0) {
            let value = owner::encode(entry.uid, entry.gid);
            xattrs.insert(ROOTLESS_XATTR.to_vec(), value);
        }
        Ok(Attrs {
            mode: entry.mode,
            owner,
            mtime: entry.mtime,
            xattrs,
        })
    }

    /// The mode to create a file with, and whether it still needs its own afterwards.
    #[must_use]
    pub fn creation_mode(&self, mode: u32) -> (Mode, bool) {
        if mode & 0o7000 == 0 && mode & self.umask == 0 {
            (Mode::from_raw_mode(mode), false)
        } else {
            (Mode::from_raw_mode(0o600), true)
        }
    }

    /// Gives attributes to an open file or directory. `chmod` is false where it was created
    /// with its mode.
    ///
    /// # Errors
    /// The failed call's.
    pub fn give_fd(
        &self,
        fd: BorrowedFd<'_>,
        attrs: &Attrs,
        chmod: bool,
        path: &EntryPath,
    ) -> Result<()> {
        if let Some(owner) = attrs.owner
            && self.default_owner != Some(owner)
        {
            let (uid, gid) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
            fchown(fd, Some(uid), Some(gid))
                .context("fchown", || format!("{path}, {}, {}", owner.0, owner.1))?;
        }
        if chmod {
            fchmod(fd, Mode::from_raw_mode(attrs.mode))
                .context("fchmod", || format!("{path}, {:#o}", attrs.mode))?;
        }
        for (name, value) in &attrs.xattrs {
            let result = fsetxattr(fd, OsStr::from_bytes(name), value, XattrFlags::empty());
            self.xattr_result(result, name, path)?;
        }
        futimens(fd, &times(attrs.mtime)).context("futimens", || path.to_string())?;
        Ok(())
    }

    /// Gives attributes to what cannot be opened: the entry `name` in `dir`, which is `path` of
    /// the layer.
    ///
    /// # Errors
    /// The failed call's.
    pub fn give_at(
        &self,
        dir: BorrowedFd<'_>,
        attrs: &Attrs,
        kind: &EntryKind,
        path: &EntryPath,
    ) -> Result<()> {
        let name = OsStr::from_bytes(path.name());
        if let Some((uid, gid)) = attrs.owner
            && self.default_owner != Some((uid, gid))
        {
            let (u, g) = (Uid::from_raw(uid), Gid::from_raw(gid));
            chownat(dir, name, Some(u), Some(g), AtFlags::SYMLINK_NOFOLLOW)
                .context("fchownat", || format!("{path}, {uid}, {gid}"))?;
        }
        let is_symlink = matches!(kind, EntryKind::Symlink { .. });
        if !is_symlink {
            chmodat(dir, name, Mode::from_raw_mode(attrs.mode), AtFlags::empty())
                .context("fchmodat", || format!("{path}, {:#o}", attrs.mode))?;
        }
        for (key, value) in &attrs.xattrs {
            // Only regular files and directories can have attributes of a user.
            if key.starts_with(b"user.") {
                continue;
            }
            let result = set_at(dir, name, key, value);
            self.xattr_result(result, key, path)?;
        }
        utimensat(dir, name, &times(attrs.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .context("utimensat", || path.to_string())?;
        Ok(())
    }

    /// Without privilege, some attributes cannot be set, and the image is of use without them.
    fn xattr_result(
        &self,
        result: rustix::io::Result<()>,
        name: &[u8],
        path: &EntryPath,
    ) -> Result<()> {
        match result {
            Ok(()) => Ok(()),
            Err(Errno::PERM | Errno::NOTSUP) if self.ownership.is_unprivileged() => Ok(()),
            Err(errno) => {
                let args = format!("{path}, {}", name.escape_ascii());
                Err(Error::System(sys::Error::new("setxattr", args, errno)))
            }
        }
    }
}

/// An attribute of the entry `name` in `dir`, which is not followed.
pub(crate) fn set_at(
    dir: BorrowedFd<'_>,
    name: &OsStr,
    key: &[u8],
    value: &[u8],
) -> rustix::io::Result<()> {
    lsetxattr(
        by_fd(dir, name),
        OsStr::from_bytes(key),
        value,
        XattrFlags::empty(),
    )
}

/// Attributes can only be set by path on what cannot be opened; this one leads through a held
/// descriptor and one component.
pub(crate) fn by_fd(dir: BorrowedFd<'_>, name: &OsStr) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
    path.extend_from_slice(name.as_bytes());
    path
}

/// Both times of a new entry: what it was last read is nowhere written.
pub(crate) fn times(mtime: Timestamp) -> Timestamps {
    let time = Timespec {
        tv_sec: mtime.secs,
        tv_nsec: i64::from(mtime.nanos),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

/// All attributes of what `fd` is open on.
///
/// # Errors
/// flistxattr(2)'s and fgetxattr(2)'s.
pub fn read_xattrs(fd: impl AsFd) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let fd = fd.as_fd();
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    read_xattrs_of(path.as_bytes(), false)
}

/// All attributes of the entry `name` in `dir`, which is not followed.
///
/// # Errors
/// llistxattr(2)'s and lgetxattr(2)'s.
pub fn read_xattrs_at(dir: BorrowedFd<'_>, name: &OsStr) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    read_xattrs_of(&by_fd(dir, name), true)
}

fn read_xattrs_of(path: &[u8], link: bool) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let describe = || path.escape_ascii().to_string();
    let mut names = vec![0u8; 4096];
    let n = loop {
        let listed = if link {
            rustix::fs::llistxattr(path, names.as_mut_slice())
        } else {
            rustix::fs::listxattr(path, names.as_mut_slice())
        };
        match listed {
            Err(Errno::RANGE) if names.len() < 64 << 10 => names.resize(64 << 10, 0),
            Err(Errno::NOTSUP) => return Ok(BTreeMap::new()),
            other => break other.context("listxattr", describe)?,
        }
    };
    let mut all = BTreeMap::new();
    let mut value = Vec::new();
    for name in names.get(..n).unwrap_or_default().split(|&b| b == 0) {
        if name.is_empty() {
            continue;
        }
        value.resize(64 << 10, 0);
        let key = OsStr::from_bytes(name);
        let got = if link {
            rustix::fs::lgetxattr(path, key, value.as_mut_slice())
        } else {
            rustix::fs::getxattr(path, key, value.as_mut_slice())
        };
        match got {
            Err(Errno::NODATA) => {}
            other => {
                let n = other.context("getxattr", describe)?;
                all.insert(name.to_vec(), value.get(..n).unwrap_or_default().to_vec());
            }
        }
    }
    Ok(all)
}

/// The process's umask, without changing it.
#[must_use]
pub fn umask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let digits = status.lines().find_map(|l| l.strip_prefix("Umask:"));
    // All bits: nothing is created with its final mode then.
    digits.map_or(0o777, |d| u32::from_str_radix(d.trim(), 8).unwrap_or(0o777))
}
