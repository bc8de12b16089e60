//! Committed layers, seen as one tree.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, major, minor, openat, readlinkat, statat};
use rustix::io::Errno;
use sys::Context as _;

use crate::Result;
use crate::erofs::{Reader, Says};
use crate::layer::attrs::{read_xattrs, read_xattrs_at};
use crate::layer::{Entry, EntryKind, EntryPath, Extent, Found, Lower, Ownership, Timestamp};

/// What one layer says of a path.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub found: Option<Found>,
    /// The layers below have no say.
    pub hides: bool,
}

/// The files of one layer.
pub(crate) trait Content: Send + Sync + std::fmt::Debug {
    /// Looks up a path without following links.
    fn find(&self, path: &EntryPath) -> Result<Said>;
}

/// Layers on top of each other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chain {
    /// Highest first.
    layers: Vec<Arc<dyn Content>>,
}

impl Chain {
    pub fn on(&self, top: Arc<dyn Content>) -> Self {
        let mut layers = vec![top];
        layers.extend(self.layers.iter().cloned());
        Self { layers }
    }
}

impl Lower for Chain {
    fn find(&self, path: &EntryPath) -> Result<Option<Found>> {
        for layer in &self.layers {
            let said = layer.find(path)?;
            if said.found.is_some() || said.hides {
                return Ok(said.found);
            }
        }
        Ok(None)
    }
}

/// A layer in a directory.
#[derive(Debug)]
pub(crate) struct TreeLayer {
    pub root: OwnedFd,
    pub ownership: Ownership,
}

impl Content for TreeLayer {
    fn find(&self, path: &EntryPath) -> Result<Said> {
        let mut dir: Option<OwnedFd> = None;
        let mut said = Said::default();
        let Some((last, parents)) = path.components().split_last() else {
            said.found = Some(self.root_entry()?);
            return Ok(said);
        };
        for name in parents {
            let at = dir.as_ref().unwrap_or(&self.root);
            said.hides |= is_opaque(at)?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match openat(at, OsStr::from_bytes(name), flags, Mode::empty()) {
                Ok(fd) => dir = Some(fd),
                Err(Errno::NOENT) => return Ok(said),
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    said.hides = true;
                    return Ok(said);
                }
                Err(e) => {
                    return Err(e)
                        .context("openat", || path.to_string())
                        .map_err(Into::into);
                }
            }
        }
        let at = dir.as_ref().unwrap_or(&self.root);
        said.hides |= is_opaque(at)?;
        let name = OsStr::from_bytes(last);
        let stat = match statat(at, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(said),
            Err(e) => {
                return Err(e)
                    .context("fstatat", || path.to_string())
                    .map_err(Into::into);
            }
        };
        if is_whiteout(&stat) {
            said.hides = true;
            return Ok(said);
        }
        said.found = Some(self.entry(at, name, &stat, path)?);
        Ok(said)
    }
}

impl TreeLayer {
    fn root_entry(&self) -> Result<Found> {
        let stat = rustix::fs::fstat(&self.root).context("fstat", || "layer")?;
        let xattrs = read_xattrs(&self.root)?;
        let entry = entry_of(
            &stat,
            EntryKind::Directory,
            &EntryPath::default(),
            xattrs,
            &self.ownership,
        )?;
        Ok(Found { entry, data: None })
    }

    fn entry(&self, dir: &OwnedFd, name: &OsStr, stat: &Stat, path: &EntryPath) -> Result<Found> {
        let kind = kind_of(dir, name, stat)?;
        let xattrs = read_xattrs_at(dir.as_fd(), name)?;
        let mut data: Option<Box<dyn std::io::Read>> = None;
        if matches!(kind, EntryKind::File { .. }) {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd =
                openat(dir, name, flags, Mode::empty()).context("openat", || path.to_string())?;
            data = Some(Box::new(std::fs::File::from(fd)));
        }
        let entry = entry_of(stat, kind, path, xattrs, &self.ownership)?;
        Ok(Found { entry, data })
    }
}

impl Content for Reader {
    fn find(&self, path: &EntryPath) -> Result<Said> {
        Ok(match Self::find(self, path)? {
            Says::Found(found) => Said {
                found: Some(*found),
                hides: false,
            },
            Says::Nothing { hides } => Said { found: None, hides },
        })
    }
}

/// What a directory entry is, in a layer's words. A file has one run of data.
pub(crate) fn kind_of(dir: &OwnedFd, name: &OsStr, stat: &Stat) -> Result<EntryKind> {
    let (major, minor) = (major(stat.st_rdev), minor(stat.st_rdev));
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => EntryKind::Directory,
        FileType::Symlink => {
            let target = readlinkat(dir, name, Vec::new()).context("readlinkat", || "layer")?;
            EntryKind::Symlink {
                target: target.into_bytes(),
            }
        }
        FileType::CharacterDevice => EntryKind::CharDevice { major, minor },
        FileType::BlockDevice => EntryKind::BlockDevice { major, minor },
        FileType::Fifo => EntryKind::Fifo,
        _ => {
            let size = u64::try_from(stat.st_size).unwrap_or(0);
            let whole = (size > 0).then_some(Extent {
                offset: 0,
                len: size,
            });
            EntryKind::File {
                size,
                extents: whole.into_iter().collect(),
            }
        }
    })
}

/// An entry with the image's own owner and attributes.
pub(crate) fn entry_of(
    stat: &Stat,
    kind: EntryKind,
    path: &EntryPath,
    xattrs: std::collections::BTreeMap<Vec<u8>, Vec<u8>>,
    ownership: &Ownership,
) -> Result<Entry> {
    let (uid, gid) = ownership.in_image(stat.st_uid, stat.st_gid, &xattrs)?;
    Ok(Entry {
        path: path.clone(),
        kind,
        mode: stat.st_mode & 0o7777,
        uid,
        gid,
        mtime: Timestamp {
            secs: stat.st_mtime,
            nanos: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
        },
        xattrs: image_xattrs(xattrs),
    })
}

/// Undoes what [`rules::xattrs`](crate::layer::rules::xattrs) did: overlayfs's marks go, the
/// image's own attributes of that prefix get their names back.
pub(crate) fn image_xattrs(
    stored: std::collections::BTreeMap<Vec<u8>, Vec<u8>>,
) -> std::collections::BTreeMap<Vec<u8>, Vec<u8>> {
    const PREFIXES: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];
    let image_name = |name: Vec<u8>| -> Option<Vec<u8>> {
        if name == crate::layer::owner::ROOTLESS_XATTR {
            return None;
        }
        let Some(prefix) = PREFIXES.into_iter().find(|p| name.starts_with(p)) else {
            return Some(name);
        };
        let rest = name.get(prefix.len()..).unwrap_or_default();
        rest.strip_prefix(b"overlay.")
            .map(|own| [prefix, own].concat())
    };
    stored
        .into_iter()
        .filter_map(|(name, value)| Some((image_name(name)?, value)))
        .collect()
}

pub(crate) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

pub(crate) fn is_opaque(dir: &OwnedFd) -> Result<bool> {
    for name in ["trusted.overlay.opaque", "user.overlay.opaque"] {
        let mut value = [0u8; 4];
        match rustix::fs::fgetxattr(dir, name, &mut value) {
            Ok(1) if value[0] == b'y' => return Ok(true),
            Ok(_) | Err(Errno::NODATA | Errno::NOTSUP | Errno::RANGE) => {}
            Err(e) => return Err(e).context("fgetxattr", || name).map_err(Into::into),
        }
    }
    Ok(false)
}
