//! Writes layers into a directory.
//!
//! All work goes through held descriptors of directories and single components that are not
//! followed. A directory on the way that is a symbolic link is resolved here, component by
//! component, as if the tree were the root: there is no path by which the kernel could be led
//! outside. Attributes of directories are given at the end, so that what is written into them
//! does not change their times and their modes do not keep anyone out.

mod finish;
mod nodes;
mod remove;

use std::collections::{HashMap, VecDeque};
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, linkat, makedev, mkdirat, mknodat, symlinkat};
use rustix::io::Errno;
use sys::Context as _;

use super::attrs::{self, Attrs, Policy};
use super::entry::Shown;
use super::rules::XattrUse;
use super::write::{Data, NoData, Place};
use super::{Entry, EntryKind, EntryPath, Extent, LayerWriter, Lower, Ownership};
use crate::{Error, Result};
use nodes::{Node, Own, ROOT};

pub(crate) use finish::resolve;
pub(crate) use remove::{names, remove_contents, remove_tree};

/// The unit of disk space that is counted.
const BLOCK: u64 = 4096;

/// What the directory is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Target {
    /// A whole root file system: whiteouts delete what lower layers have put there.
    Tree,
    /// One layer for overlayfs: whiteouts become its own marks.
    Layer {
        /// The marks are attributes of a user, not of the system (overlayfs's `userxattr`).
        userxattr: bool,
    },
}

/// Something that this layer itself replaced: `from` of all files with data on, its `path` is
/// below `replaced/N`, N being its place in the list.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct Moved {
    /// Files with data that came before.
    pub before: u64,
    /// Where it was.
    pub from: Vec<u8>,
    /// Where it went, below the layer's own directory.
    pub to: Vec<u8>,
}

/// Writes layers into one directory.
#[derive(Debug)]
pub struct DirWriter {
    target: Target,
    policy: Policy,
    nodes: Vec<Node>,
    /// Nodes whose descriptor is open, oldest first.
    open: VecDeque<u32>,
    /// The directory that the last entry was in, and its node.
    last: Option<(Vec<Vec<u8>>, u32)>,
    /// Links to files that only lower layers have.
    pending: Vec<(EntryPath, EntryPath)>,
    /// Where replaced files of a layer are kept.
    replaced: Option<OwnedFd>,
    moved: Vec<Moved>,
    files: u64,
    /// Bytes on disk and inodes, as far as they can be known without asking.
    written: (u64, u64),
    /// The time that directories get which nothing gives one.
    fallback: HashMap<u32, super::Timestamp>,
}

impl DirWriter {
    /// Writes into the directory that `root` is open on.
    ///
    /// # Errors
    /// fstat(2)'s.
    pub fn new(root: OwnedFd, target: Target, ownership: Ownership) -> Result<Self> {
        let stat = rustix::fs::fstat(&root).context("fstat", || "root of the layer")?;
        // A directory with set-group-id hands its group down; then each owner must be set.
        let default_owner = match (stat.st_mode & 0o2000, target) {
            (0, Target::Layer { .. }) => Some((stat.st_uid, stat.st_gid)),
            _ => None,
        };
        let xattrs = match target {
            Target::Tree => XattrUse::Plain,
            Target::Layer { .. } => XattrUse::Overlay,
        };
        Ok(Self {
            target,
            policy: Policy {
                ownership,
                xattrs,
                default_owner,
                umask: attrs::umask(),
            },
            nodes: vec![Node::root(root)],
            open: VecDeque::new(),
            last: None,
            pending: Vec::new(),
            replaced: None,
            moved: Vec::new(),
            files: 0,
            written: (BLOCK, 1),
            fallback: HashMap::new(),
        })
    }

    /// Keeps what a layer itself replaces in `dir`, for its tar stream to be put together again.
    pub fn keep_replaced(&mut self, dir: OwnedFd) {
        self.replaced = Some(dir);
    }

    /// What was replaced or moved.
    #[must_use]
    pub fn moved(&self) -> &[Moved] {
        &self.moved
    }

    /// Bytes on disk and inodes of what was written: what replaced files took is in it.
    #[must_use]
    pub fn written(&self) -> (u64, u64) {
        self.written
    }

    fn count(&mut self, bytes: u64) {
        self.written.0 += bytes.next_multiple_of(BLOCK);
        self.written.1 += 1;
    }

    /// Begins the next layer of a whole tree.
    pub fn next_layer(&mut self) {
        for node in &mut self.nodes {
            node.own.clear();
        }
        self.last = None;
    }

    fn is_layer(&self) -> bool {
        matches!(self.target, Target::Layer { .. })
    }

    fn root_entry(&mut self, mut entry: Entry) -> Result<()> {
        if entry.kind != EntryKind::Directory {
            return Err(Error::Layer {
                what: "the root".to_owned(),
                why: "an entry would make it something else than a directory",
            });
        }
        let attrs = self.policy.attrs(&mut entry)?;
        self.give_node(ROOT, attrs);
        Ok(())
    }

    fn give_node(&mut self, id: u32, attrs: Attrs) {
        let node = self.node_mut(id);
        node.attrs = Some(attrs);
        node.implicit = false;
    }

    fn directory_entry(&mut self, parent: u32, entry: &Entry, attrs: Attrs) -> Result<()> {
        let name = entry.path.name();
        if let Some(id) = self.child(parent, name) {
            self.own(parent, name, Own::Entry);
            self.give_node(id, attrs);
            return Ok(());
        }
        let hidden = self.owned(parent, name) == Some(Own::Whiteout);
        let dir = self.fd(parent)?;
        let id = match self.open_directory(&dir, name) {
            Ok(fd) => self.add(parent, name, Some(fd), false),
            Err(e) if e == Errno::NOENT => self.make_directory(parent, &dir, name)?,
            Err(Errno::NOTDIR | Errno::LOOP) => {
                self.clear(parent, name)?;
                self.make_directory(parent, &dir, name)?
            }
            Err(e) => return Err(call("openat", &entry.path, e)),
        };
        self.node_mut(id).opaque |= hidden;
        self.own(parent, name, Own::Entry);
        self.give_node(id, attrs);
        Ok(())
    }

    fn make_directory(&mut self, parent: u32, dir: &Arc<OwnedFd>, name: &[u8]) -> Result<u32> {
        mkdirat(dir, OsStr::from_bytes(name), Mode::RWXU)
            .context("mkdirat", || Shown(name).to_string())?;
        self.count(BLOCK);
        Ok(self.add(parent, name, None, true))
    }

    fn file(
        &mut self,
        parent: u32,
        entry: &Entry,
        attrs: &Attrs,
        data: &mut dyn Data,
    ) -> Result<Option<Place>> {
        let (size, extents) = match &entry.kind {
            EntryKind::File { size, extents } => (*size, extents.as_slice()),
            _ => (0, &[][..]),
        };
        let path = &entry.path;
        let dir = self.fd(parent)?;
        let name = OsStr::from_bytes(path.name());
        let (mode, chmod) = self.policy.creation_mode(attrs.mode);
        let flags =
            OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = self.twice(
            parent,
            path,
            || rustix::fs::openat(&dir, name, flags, mode),
            "openat",
        )?;
        write_extents(&fd, size, extents, data, path)?;
        self.policy.give_fd(fd.as_fd(), attrs, chmod, path)?;
        self.count(extents.iter().map(|e| e.len).sum());
        if extents.is_empty() {
            return Ok(None);
        }
        self.files += 1;
        Ok(Some(Place::Path(self.path_of(parent).join(path.name())?)))
    }

    /// Makes something; what is in the way is removed and it is tried again.
    fn twice<T>(
        &mut self,
        parent: u32,
        path: &EntryPath,
        make: impl Fn() -> rustix::io::Result<T>,
        what: &'static str,
    ) -> Result<T> {
        let made = match make() {
            Err(Errno::EXIST) => {
                self.clear(parent, path.name())?;
                make()
            }
            other => other,
        };
        made.map_err(|e| call(what, path, e))
    }

    fn special(&mut self, parent: u32, entry: &Entry, attrs: &Attrs) -> Result<()> {
        let path = &entry.path;
        let (kind, device) = match entry.kind {
            EntryKind::CharDevice { major: 0, minor: 0 } if self.is_layer() => {
                // Overlayfs takes it for a whiteout, wherever it comes from.
                return self.hide(parent, path.name());
            }
            EntryKind::CharDevice { major, minor } => {
                (FileType::CharacterDevice, makedev(major, minor))
            }
            EntryKind::BlockDevice { major, minor } => {
                (FileType::BlockDevice, makedev(major, minor))
            }
            _ => (FileType::Fifo, 0),
        };
        if kind != FileType::Fifo && self.policy.ownership.is_unprivileged() {
            self.file(parent, entry, attrs, &mut NoData)?;
            return Ok(());
        }
        let dir = self.fd(parent)?;
        let name = OsStr::from_bytes(path.name());
        let make = || mknodat(&dir, name, kind, Mode::from_raw_mode(0o600), device);
        self.twice(parent, path, make, "mknodat")?;
        self.count(0);
        self.policy.give_at(dir.as_fd(), attrs, &entry.kind, path)
    }

    fn symlink(&mut self, parent: u32, entry: &Entry, target: &[u8], attrs: &Attrs) -> Result<()> {
        let dir = self.fd(parent)?;
        let name = OsStr::from_bytes(entry.path.name());
        let target = OsStr::from_bytes(target);
        self.twice(
            parent,
            &entry.path,
            || symlinkat(target, &dir, name),
            "symlinkat",
        )?;
        self.count(0);
        self.policy
            .give_at(dir.as_fd(), attrs, &entry.kind, &entry.path)
    }

    fn hard_link(&mut self, parent: u32, path: &EntryPath, target: &EntryPath) -> Result<()> {
        let refuse = |why| Error::Layer {
            what: format!("{path}: hard link to {target}"),
            why,
        };
        let found = self.lookup(&target.parent())?;
        let source = match found {
            Some(dir) if self.owned(dir, target.name()) != Some(Own::Whiteout) => Some(dir),
            _ => None,
        };
        if source == Some(parent) && target.name() == path.name() {
            return Err(refuse("to itself"));
        }
        let linked = match source {
            Some(dir) => self.link(parent, path, dir, target.name())?,
            None => false,
        };
        if linked {
            return Ok(());
        }
        if !self.is_layer() {
            return Err(refuse("there is no such file"));
        }
        self.pending.push((path.clone(), target.clone()));
        Ok(())
    }

    /// Links; false where the target is missing.
    fn link(&mut self, parent: u32, path: &EntryPath, from: u32, target: &[u8]) -> Result<bool> {
        let (to, from) = (self.fd(parent)?, self.fd(from)?);
        let name = OsStr::from_bytes(path.name());
        let target = OsStr::from_bytes(target);
        let make = || linkat(&from, target, &to, name, AtFlags::empty());
        let made = match make() {
            Err(Errno::EXIST) => {
                // Only now: a link to nothing must not remove anything.
                if rustix::fs::statat(&from, target, AtFlags::SYMLINK_NOFOLLOW).is_err() {
                    return Ok(false);
                }
                self.clear(parent, path.name())?;
                make()
            }
            other => other,
        };
        match made {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(e) => Err(call("linkat", path, e)),
        }
    }
}

impl LayerWriter for DirWriter {
    fn entry(&mut self, mut entry: Entry, data: &mut dyn Data) -> Result<Option<Place>> {
        if entry.path.is_root() {
            self.root_entry(entry)?;
            return Ok(None);
        }
        let parent = self.parent_of(&entry.path)?;
        if parent != ROOT {
            self.fallback.entry(parent).or_insert(entry.mtime);
        }
        let attrs = self.policy.attrs(&mut entry)?;
        let place = match &entry.kind {
            EntryKind::Directory => {
                self.directory_entry(parent, &entry, attrs)?;
                return Ok(None);
            }
            EntryKind::File { .. } => self.file(parent, &entry, &attrs, data)?,
            EntryKind::Symlink { target } => {
                self.symlink(parent, &entry, target, &attrs)?;
                None
            }
            EntryKind::Hardlink { target } => {
                self.hard_link(parent, &entry.path, target)?;
                None
            }
            EntryKind::CharDevice { major: 0, minor: 0 } if self.is_layer() => {
                self.special(parent, &entry, &attrs)?;
                return Ok(None);
            }
            _ => {
                self.special(parent, &entry, &attrs)?;
                None
            }
        };
        self.own(parent, entry.path.name(), Own::Entry);
        Ok(place)
    }

    fn whiteout(&mut self, path: &EntryPath) -> Result<()> {
        if self.is_layer() {
            let parent = self.parent_of(path)?;
            return self.hide(parent, path.name());
        }
        match self.lookup(&path.parent())? {
            Some(parent) => self.delete_lower(parent, path.name()),
            None => Ok(()),
        }
    }

    fn opaque(&mut self, dir: &EntryPath) -> Result<()> {
        if self.is_layer() {
            let id = self.directory(dir.components())?;
            self.node_mut(id).opaque = true;
            return Ok(());
        }
        match self.lookup(dir)? {
            Some(id) => self.purge(id),
            None => Ok(()),
        }
    }

    fn finish(&mut self, lower: &dyn Lower) -> Result<()> {
        self.complete(lower)
    }
}

/// Puts a file's bytes where they belong; what is not written stays a hole.
fn write_extents(
    fd: &OwnedFd,
    size: u64,
    extents: &[Extent],
    data: &mut dyn Data,
    path: &EntryPath,
) -> Result<()> {
    let mut end = 0;
    for extent in extents {
        let mut at = extent.offset;
        end = extent.offset + extent.len;
        while at < end {
            let chunk = data.chunk()?;
            let want = usize::try_from(end - at).unwrap_or(usize::MAX);
            let part = chunk.get(..want).unwrap_or(chunk);
            if part.is_empty() {
                return Err(Error::Layer {
                    what: path.to_string(),
                    why: "its data ends early",
                });
            }
            let n = rustix::io::pwrite(fd, part, at).context("pwrite", || path.to_string())?;
            data.consume(n);
            at += n as u64;
        }
    }
    if size > end {
        rustix::fs::ftruncate(fd, size).context("ftruncate", || format!("{path}, {size}"))?;
    }
    Ok(())
}

/// An error of a call about an entry.
fn call(name: &'static str, path: &EntryPath, errno: Errno) -> Error {
    Error::System(sys::Error::new(name, path.to_string(), errno))
}
