//! What is in a directory tree, and what changed in it.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, openat, readlinkat, statat};
use serde::{Deserialize, Serialize};
use sys::Context as _;

use crate::layer::attrs::read_xattrs_at;
use crate::layer::dir::names;
use crate::layer::tar_write::TarWriter;
use crate::layer::{Entry, EntryKind, EntryPath, Ownership, Timestamp};
use crate::store::kind_of;
use crate::{Error, Result};

/// One entry of a tree, as it is on disk.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Seen {
    /// Type and permission bits.
    pub mode: u32,
    /// Owner and group.
    pub owner: (u32, u32),
    /// Size; of files only.
    pub size: u64,
    /// Time of last modification.
    pub mtime: (i64, u32),
    /// Time of last change, which nobody can set: not of directories, whose entries change it.
    pub ctime: (i64, u32),
    /// Device number, of devices only.
    pub device: u64,
    /// Device and number of its inode: the same for all names of one file.
    pub inode: (u64, u64),
    /// Target, of symbolic links only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub target: Vec<u8>,
    /// Extended attributes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

/// A tree: paths with slashes, the root is the empty one.
pub type Listing = BTreeMap<Vec<u8>, Seen>;

/// What happened to a path.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// It is not as it was.
    Modified,
    /// It is gone.
    Deleted,
}

/// A change.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Change {
    /// Where.
    pub path: EntryPath,
    /// What.
    pub kind: ChangeKind,
}

/// Lists the tree below `root`. Nothing is followed, other file systems below it are not entered.
///
/// # Errors
/// Not readable.
pub fn list(root: BorrowedFd<'_>) -> Result<Listing> {
    let mut all = Listing::new();
    let top = statat(root, c"", AtFlags::EMPTY_PATH).context("fstat", || "root of the tree")?;
    let own = root.try_clone_to_owned().context("dup", || "root")?;
    all.insert(Vec::new(), see(&own, OsStr::new("."), &top)?);
    let mut todo = vec![(Vec::new(), own)];
    while let Some((path, dir)) = todo.pop() {
        for name in names(dir.as_fd())? {
            let name = OsStr::from_bytes(name.to_bytes());
            let below = match path.is_empty() {
                true => name.as_bytes().to_vec(),
                false => [&path, b"/".as_slice(), name.as_bytes()].concat(),
            };
            let shown = || below.escape_ascii().to_string();
            let stat = statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW).context("fstatat", shown)?;
            let is_directory = FileType::from_raw_mode(stat.st_mode).is_dir();
            all.insert(below.clone(), see(&dir, name, &stat)?);
            if is_directory && stat.st_dev == top.st_dev {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let fd = openat(&dir, name, flags, Mode::empty()).context("openat", shown)?;
                todo.push((below, fd));
            }
        }
    }
    Ok(all)
}

fn see(dir: &OwnedFd, name: &OsStr, stat: &rustix::fs::Stat) -> Result<Seen> {
    let kind = FileType::from_raw_mode(stat.st_mode);
    let nanos = |n: u64| u32::try_from(n).unwrap_or(0);
    let mut target = Vec::new();
    if kind.is_symlink() {
        target = readlinkat(dir, name, Vec::new())
            .context("readlinkat", || format!("{name:?}"))?
            .into_bytes();
    }
    let xattrs = read_xattrs_at(dir.as_fd(), name)?;
    let readable = |(k, v): (Vec<u8>, Vec<u8>)| Some((String::from_utf8(k).ok()?, v));
    Ok(Seen {
        mode: stat.st_mode,
        owner: (stat.st_uid, stat.st_gid),
        size: if kind.is_file() {
            u64::try_from(stat.st_size).unwrap_or(0)
        } else {
            0
        },
        mtime: (stat.st_mtime, nanos(stat.st_mtime_nsec)),
        ctime: if kind.is_dir() {
            (0, 0)
        } else {
            (stat.st_ctime, nanos(stat.st_ctime_nsec))
        },
        device: if kind.is_char_device() || kind.is_block_device() {
            stat.st_rdev
        } else {
            0
        },
        inode: (stat.st_dev, stat.st_ino),
        target,
        xattrs: xattrs.into_iter().filter_map(readable).collect(),
    })
}

/// What must be done to `old` to get `new`. Below what is gone, or no directory any more, nothing
/// is named.
#[must_use]
pub fn compare(old: &Listing, new: &Listing) -> Vec<Change> {
    let change = |path: &Vec<u8>, kind| Change {
        path: EntryPath::from_checked(
            path.split(|&b| b == b'/')
                .filter(|c| !c.is_empty())
                .map(<[u8]>::to_vec)
                .collect(),
        ),
        kind,
    };
    let mut all = Vec::new();
    for (path, seen) in new {
        match old.get(path) {
            None => all.push(change(path, ChangeKind::Added)),
            Some(before) if before != seen => all.push(change(path, ChangeKind::Modified)),
            Some(_) => {}
        }
    }
    for path in old.keys().filter(|p| !new.contains_key(*p)) {
        let cut = path.iter().rposition(|&b| b == b'/').unwrap_or(0);
        let parent = new.get(path.get(..cut).unwrap_or_default());
        if parent.is_some_and(|p| FileType::from_raw_mode(p.mode).is_dir()) {
            all.push(change(path, ChangeKind::Deleted));
        }
    }
    all.sort();
    all
}

/// Lists both trees and compares them.
///
/// Times of last change and inode numbers say nothing between two trees and are passed over, and
/// so a file of the same size and time counts as the same.
///
/// # Errors
/// Not readable.
pub fn diff(old: BorrowedFd<'_>, new: BorrowedFd<'_>) -> Result<Vec<Change>> {
    let plain = |fd| -> Result<Listing> {
        let mut all = list(fd)?;
        for seen in all.values_mut() {
            (seen.ctime, seen.inode) = ((0, 0), (0, 0));
        }
        Ok(all)
    };
    Ok(compare(&plain(old)?, &plain(new)?))
}

/// Writes the layer of `changes` to the tree below `root` as a tar stream.
///
/// # Errors
/// Not readable, not written, or an owner outside of the maps.
pub fn write_changes<W: std::io::Write>(
    root: BorrowedFd<'_>,
    changes: &[Change],
    ownership: &Ownership,
    to: W,
) -> Result<W> {
    let mut tar = TarWriter::new(to);
    let mut first: HashMap<(u64, u64), EntryPath> = HashMap::new();
    for change in changes {
        if change.kind == ChangeKind::Deleted {
            tar.whiteout(&change.path)?;
            continue;
        }
        let (dir, name) = open_parent(root, &change.path)?;
        let stat = statat(&dir, name.as_os_str(), AtFlags::SYMLINK_NOFOLLOW)
            .context("fstatat", || change.path.to_string())?;
        let mut kind = kind_of(&dir, &name, &stat)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Socket {
            // Nothing a layer could hold; whoever listens makes it again.
            continue;
        }
        if stat.st_nlink > 1 && kind != EntryKind::Directory {
            let target = first
                .entry((stat.st_dev, stat.st_ino))
                .or_insert_with(|| change.path.clone());
            if *target != change.path {
                kind = EntryKind::Hardlink {
                    target: target.clone(),
                };
            }
        }
        write_entry(
            &mut tar,
            (&dir, &name),
            &stat,
            kind,
            &change.path,
            ownership,
        )?;
    }
    tar.finish()
}

pub(crate) fn write_entry<W: std::io::Write>(
    tar: &mut TarWriter<W>,
    (dir, name): (&OwnedFd, &OsStr),
    stat: &rustix::fs::Stat,
    kind: EntryKind,
    path: &EntryPath,
    ownership: &Ownership,
) -> Result<()> {
    let xattrs = read_xattrs_at(dir.as_fd(), name)?;
    let (uid, gid) = ownership.in_image(stat.st_uid, stat.st_gid, &xattrs)?;
    let is_file = matches!(kind, EntryKind::File { .. });
    let mtime = Timestamp {
        secs: stat.st_mtime,
        nanos: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
    };
    let mut entry = Entry {
        path: path.clone(),
        kind,
        mode: stat.st_mode & 0o7777,
        uid,
        gid,
        mtime,
        xattrs: crate::store::image_xattrs(xattrs),
    };
    entry.xattrs.remove(&b"security.selinux"[..]);
    if !is_file {
        return tar.entry(&entry, None);
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = openat(dir, name, flags, Mode::empty()).context("openat", || path.to_string())?;
    tar.entry(&entry, Some(&mut File::from(fd)))
}

/// The directory that `path` is in, step by step and without following anything, and its name.
pub(crate) fn open_parent(
    root: BorrowedFd<'_>,
    path: &EntryPath,
) -> Result<(OwnedFd, std::ffi::OsString)> {
    let mut dir = root.try_clone_to_owned().map_err(|e| Error::io("dup", e))?;
    let Some((name, parents)) = path.components().split_last() else {
        return Ok((dir, ".".into()));
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    for parent in parents {
        dir = openat(&dir, OsStr::from_bytes(parent), flags, Mode::empty())
            .context("openat", || path.to_string())?;
    }
    Ok((dir, OsStr::from_bytes(name).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes() {
        let dir = tempfile::tempdir().unwrap();
        let at = |p: &str| dir.path().join(p);
        for sub in ["gone/deep", "gone-too", "turns", "stays"] {
            std::fs::create_dir_all(at(sub)).unwrap();
            std::fs::write(at(sub).join("f"), sub).unwrap();
        }
        let open = || File::open(dir.path()).unwrap();
        let old = list(open().as_fd()).unwrap();
        assert!(compare(&old, &list(open().as_fd()).unwrap()).is_empty());
        for sub in ["gone", "gone-too", "turns"] {
            std::fs::remove_dir_all(at(sub)).unwrap();
        }
        std::fs::write(at("turns"), "").unwrap();
        std::fs::write(at("stays/f"), "other").unwrap();
        std::fs::write(at("new"), "").unwrap();
        let changes = compare(&old, &list(open().as_fd()).unwrap());
        let shown: Vec<String> = changes
            .iter()
            .map(|c| format!("{:?} {}", c.kind, c.path))
            .collect();
        let wanted = [
            "Modified /",
            "Deleted /gone",
            "Deleted /gone-too",
            "Added /new",
            "Modified /stays/f",
            "Modified /turns",
        ];
        assert_eq!(shown, wanted);
    }
}
