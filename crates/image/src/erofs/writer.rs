//! Entries become inodes.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;

use super::format::{self, BLOCK, Inode, Layout};
use super::image::Image;
use super::tree::{Kind, ROOT, Tree};
use crate::layer::rules::{XattrUse, xattrs};
use crate::layer::{
    Data, Entry, EntryKind, EntryPath, Extent, LayerWriter, Lower, Place, Timestamp,
};
use crate::{Digest, Error, Result};

/// Largest rest of a file that goes behind its inode: larger ones would leave as much of a
/// block unused there as they do in a block of their own.
const INLINE: u64 = 2048;
/// Most links in one lookup (path_resolution(7)).
const LINKS: u32 = 40;

/// What directories have.
#[derive(Clone, Debug)]
pub(super) struct Attrs {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Timestamp,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// A directory of the layer.
#[derive(Clone, Debug, Default)]
pub(super) struct Directory {
    /// `None` where the layer only passes through.
    pub attrs: Option<Attrs>,
    /// Hides what is below.
    pub opaque: bool,
    /// Hides the directory below itself: nothing of that is taken over.
    pub fresh: bool,
    /// The time of the first entry, for want of a better.
    pub fallback: Timestamp,
}

/// Writes one layer as an erofs image.
#[derive(Debug)]
pub struct ErofsWriter {
    pub(super) image: Image,
    pub(super) tree: Tree,
    pub(super) directories: HashMap<u32, Directory>,
    pub(super) targets: HashMap<u32, Vec<u8>>,
    /// Further names of an inode.
    pub(super) links: HashMap<u64, u32>,
    /// Links to files that only lower layers have.
    pub(super) pending: Vec<(EntryPath, EntryPath)>,
    pub(super) inodes: u64,
    pub(super) metadata: Option<Digest>,
    last: Option<(Vec<Vec<u8>>, u32)>,
}

impl ErofsWriter {
    /// Writes into an empty file.
    #[must_use]
    pub fn new(file: OwnedFd) -> Self {
        Self {
            image: Image::new(file),
            tree: Tree::new(),
            directories: HashMap::from([(ROOT, Directory::default())]),
            targets: HashMap::new(),
            links: HashMap::new(),
            pending: Vec::new(),
            inodes: 0,
            metadata: None,
            last: None,
        }
    }

    /// After the end: the digest of all that is no file's data.
    #[must_use]
    pub fn metadata(&self) -> Option<&Digest> {
        self.metadata.as_ref()
    }

    /// After the end: where all that is no file's data is.
    #[must_use]
    pub fn metadata_runs(&self) -> &[(u64, u64)] {
        self.image.metadata()
    }

    /// The file.
    #[must_use]
    pub fn file(&self) -> &OwnedFd {
        self.image.file()
    }

    /// Adds an inode with what is behind it; returns its number.
    pub(super) fn inode(&mut self, inode: &Inode, xattrs: &[u8], tail: &[u8]) -> Result<u64> {
        let ino = u32::try_from(self.inodes + 1).unwrap_or(u32::MAX);
        self.inodes += 1;
        let mut item = Vec::with_capacity(format::INODE_LEN + xattrs.len() + tail.len());
        item.extend(inode.encode(ino));
        item.extend_from_slice(xattrs);
        item.extend_from_slice(tail);
        Ok(self.image.put(&item)? / format::SLOT)
    }

    /// Adds something that is not a file with data.
    fn plain(
        &mut self,
        entry: &Entry,
        attrs: &Attrs,
        kind: u16,
        union: u32,
        tail: &[u8],
    ) -> Result<u64> {
        let (bytes, units) = format::encode_xattrs(&attrs.xattrs)?;
        let mut inode = inode_of(attrs, kind, entry_size(entry, tail));
        inode.union = union;
        inode.xattrs = units;
        let behind = format::INODE_LEN + bytes.len() + tail.len();
        if tail.is_empty() {
            return self.inode(&inode, &bytes, &[]);
        }
        if behind as u64 <= BLOCK {
            inode.layout = Layout::Inline;
            return self.inode(&inode, &bytes, tail);
        }
        inode.union = self.block_number()?;
        self.image.append(tail)?;
        self.image.align()?;
        self.inode(&inode, &bytes, &[])
    }

    pub(super) fn block_number(&self) -> Result<u32> {
        u32::try_from(self.image.position() / BLOCK).map_err(|_| Error::Layer {
            what: "the layer".to_owned(),
            why: "larger than 16 TiB",
        })
    }

    fn file_entry(
        &mut self,
        entry: &Entry,
        attrs: &Attrs,
        data: &mut dyn Data,
    ) -> Result<(u64, Option<Place>)> {
        let EntryKind::File { size, extents } = &entry.kind else {
            return Ok((self.plain(entry, attrs, format::S_IFREG, 0, &[])?, None));
        };
        let whole = matches!(extents.as_slice(), [Extent { offset: 0, len }] if len == size);
        if !whole {
            return self.sparse(entry, attrs, *size, extents, data);
        }
        let (bytes, units) = format::encode_xattrs(&attrs.xattrs)?;
        let mut inode = inode_of(attrs, format::S_IFREG, *size);
        inode.xattrs = units;
        let rest = size % BLOCK;
        let room = BLOCK - (format::INODE_LEN as u64).min(BLOCK);
        let inline = rest > 0 && rest <= INLINE && rest + bytes.len() as u64 <= room;
        let blocks = if inline { size - rest } else { *size };
        let start = self.image.position();
        if blocks > 0 {
            inode.union = self.block_number()?;
            copy(data, blocks, &entry.path, |chunk| self.image.append(chunk))?;
            self.image.align()?;
        }
        let mut tail = Vec::new();
        if inline {
            inode.layout = Layout::Inline;
            copy(data, rest, &entry.path, |chunk| {
                tail.extend_from_slice(chunk);
                Ok(())
            })?;
        }
        let nid = self.inode(&inode, &bytes, &tail)?;
        let behind = nid * format::SLOT + (format::INODE_LEN + bytes.len()) as u64;
        let runs = [(start, blocks), (behind, tail.len() as u64)];
        Ok((
            nid,
            Some(Place::At(runs.into_iter().filter(|r| r.1 > 0).collect())),
        ))
    }

    fn sparse(
        &mut self,
        entry: &Entry,
        attrs: &Attrs,
        size: u64,
        extents: &[Extent],
        data: &mut dyn Data,
    ) -> Result<(u64, Option<Place>)> {
        let (bytes, units) = format::encode_xattrs(&attrs.xattrs)?;
        let mut inode = inode_of(attrs, format::S_IFREG, size);
        inode.xattrs = units;
        if size > 0 {
            inode.union = self.block_number()?;
        }
        let start = self.image.skip(size)?;
        let mut runs = Vec::with_capacity(extents.len());
        for extent in extents {
            let mut at = start + extent.offset;
            runs.push((at, extent.len));
            copy(data, extent.len, &entry.path, |chunk| {
                self.image.write_at(chunk, at)?;
                at += chunk.len() as u64;
                Ok(())
            })?;
        }
        let nid = self.inode(&inode, &bytes, &[])?;
        Ok((nid, (!runs.is_empty()).then_some(Place::At(runs))))
    }

    /// The directory `path`; made where it is missing, in place of what is not one.
    pub(super) fn directory(&mut self, path: &[Vec<u8>], time: Timestamp) -> Result<u32> {
        if let Some((last, id)) = &self.last
            && last == path
        {
            return Ok(*id);
        }
        let id = self.walk(path, Some(time))?.unwrap_or(ROOT);
        self.last = Some((path.to_vec(), id));
        Ok(id)
    }

    /// Finds a directory, following links of this layer inside its root; with `make`, what is
    /// missing is made.
    fn walk(&mut self, path: &[Vec<u8>], make: Option<Timestamp>) -> Result<Option<u32>> {
        let mut at = ROOT;
        let mut links = 0;
        let mut rest: Vec<Vec<u8>> = path.iter().rev().cloned().collect();
        while let Some(name) = rest.pop() {
            if name == b".." {
                at = self.tree.node(at).parent;
                continue;
            }
            let found = self.tree.child(at, &name);
            let kind = found.map(|id| (id, self.tree.node(id).kind));
            match (kind, make) {
                (Some((id, Kind::Directory)), _) => at = id,
                (Some((id, Kind::Symlink)), _) => {
                    links += 1;
                    if links > LINKS {
                        return Err(Error::Layer {
                            what: EntryPath::from_checked(path.to_vec()).to_string(),
                            why: "more than 40 symbolic links on the way",
                        });
                    }
                    let target = self.targets.get(&id).cloned().unwrap_or_default();
                    if target.starts_with(b"/") {
                        at = ROOT;
                    }
                    let parts = target.split(|&b| b == b'/').rev();
                    let parts = parts.filter(|p| !matches!(*p, b"" | b"."));
                    rest.extend(parts.map(<[u8]>::to_vec));
                }
                (_, None) => return Ok(None),
                (_, Some(time)) => at = self.make_directory(at, &name, time),
            }
        }
        Ok(Some(at))
    }

    /// A directory on the way, or in place of something else.
    pub(super) fn make_directory(&mut self, parent: u32, name: &[u8], time: Timestamp) -> u32 {
        let hidden = self.clear(parent, name);
        let id = self.tree.put(parent, name, Kind::Directory, 0);
        let directory = Directory {
            attrs: None,
            opaque: hidden,
            fresh: hidden,
            fallback: time,
        };
        self.directories.insert(id, directory);
        id
    }

    /// Removes what is under a name; whether it was a mark that hides what is below.
    pub(super) fn clear(&mut self, parent: u32, name: &[u8]) -> bool {
        let Some(id) = self.tree.child(parent, name) else {
            return false;
        };
        let hidden = self.tree.node(id).kind == Kind::Whiteout;
        for dead in self.tree.kill(id) {
            if let Some(more) = self.links.get_mut(&dead.nid) {
                *more = more.saturating_sub(1);
            }
        }
        self.last = None;
        hidden
    }

    fn hard_link(&mut self, parent: u32, path: &EntryPath, target: &EntryPath) -> Result<()> {
        let refuse = |why| Error::Layer {
            what: format!("{path}: hard link to {target}"),
            why,
        };
        let dir = self.walk(target.parent().components(), None)?;
        let found = dir.and_then(|dir| self.tree.child(dir, target.name()));
        let Some(id) = found.filter(|&id| self.tree.node(id).kind != Kind::Whiteout) else {
            self.pending.push((path.clone(), target.clone()));
            return Ok(());
        };
        if self.tree.child(parent, path.name()) == Some(id) {
            return Err(refuse("to itself"));
        }
        if self.tree.node(id).kind == Kind::Directory {
            return Err(refuse("it is a directory"));
        }
        self.link(parent, path.name(), id);
        Ok(())
    }

    /// One more name for an inode.
    pub(super) fn link(&mut self, parent: u32, name: &[u8], id: u32) {
        let node = *self.tree.node(id);
        *self.links.entry(node.nid).or_default() += 1;
        self.clear(parent, name);
        let new = self.tree.put(parent, name, node.kind, node.nid);
        if let Some(target) = self.targets.get(&id).cloned() {
            self.targets.insert(new, target);
        }
    }

    fn hide(&mut self, parent: u32, name: &[u8]) {
        match self.tree.child(parent, name) {
            Some(id) => {
                if let Some(directory) = self.directories.get_mut(&id)
                    && self.tree.node(id).kind == Kind::Directory
                {
                    directory.opaque = true;
                }
            }
            None => {
                self.tree.put(parent, name, Kind::Whiteout, 0);
            }
        }
    }

    fn directory_entry(&mut self, entry: &Entry, attrs: Attrs) -> Result<()> {
        let id = if entry.path.is_root() {
            ROOT
        } else {
            let parent = self.directory(entry.path.parent().components(), entry.mtime)?;
            let name = entry.path.name();
            match self.tree.child(parent, name) {
                Some(id) if self.tree.node(id).kind == Kind::Directory => id,
                _ => self.make_directory(parent, name, entry.mtime),
            }
        };
        self.directories.entry(id).or_default().attrs = Some(attrs);
        Ok(())
    }
}

impl LayerWriter for ErofsWriter {
    fn entry(&mut self, mut entry: Entry, data: &mut dyn Data) -> Result<Option<Place>> {
        let attrs = Attrs {
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            mtime: entry.mtime,
            xattrs: xattrs(std::mem::take(&mut entry.xattrs), XattrUse::Overlay)?,
        };
        if entry.kind == EntryKind::Directory {
            self.directory_entry(&entry, attrs)?;
            return Ok(None);
        }
        if entry.path.is_root() {
            return Err(Error::Layer {
                what: "the root".to_owned(),
                why: "an entry would make it something else than a directory",
            });
        }
        let parent = self.directory(entry.path.parent().components(), entry.mtime)?;
        let mut place = None;
        let (kind, nid) = match &entry.kind {
            EntryKind::Hardlink { target } => {
                self.hard_link(parent, &entry.path, target)?;
                return Ok(None);
            }
            EntryKind::CharDevice { major: 0, minor: 0 } => {
                self.hide(parent, entry.path.name());
                return Ok(None);
            }
            EntryKind::Symlink { target } => (
                Kind::Symlink,
                self.plain(&entry, &attrs, format::S_IFLNK, 0, target)?,
            ),
            EntryKind::CharDevice { major, minor } => {
                let device = format::encode_device(*major, *minor);
                (
                    Kind::Other(3),
                    self.plain(&entry, &attrs, format::S_IFCHR, device, &[])?,
                )
            }
            EntryKind::BlockDevice { major, minor } => {
                let device = format::encode_device(*major, *minor);
                (
                    Kind::Other(4),
                    self.plain(&entry, &attrs, format::S_IFBLK, device, &[])?,
                )
            }
            EntryKind::Fifo => (
                Kind::Other(5),
                self.plain(&entry, &attrs, format::S_IFIFO, 0, &[])?,
            ),
            EntryKind::File { .. } | EntryKind::Directory => {
                let (nid, at) = self.file_entry(&entry, &attrs, data)?;
                place = at;
                (Kind::Other(1), nid)
            }
        };
        self.clear(parent, entry.path.name());
        let id = self.tree.put(parent, entry.path.name(), kind, nid);
        if let EntryKind::Symlink { target } = entry.kind {
            self.targets.insert(id, target);
        }
        Ok(place)
    }

    fn whiteout(&mut self, path: &EntryPath) -> Result<()> {
        let parent = self.directory(path.parent().components(), Timestamp::default())?;
        self.hide(parent, path.name());
        Ok(())
    }

    fn opaque(&mut self, dir: &EntryPath) -> Result<()> {
        let id = self.directory(dir.components(), Timestamp::default())?;
        self.directories.entry(id).or_default().opaque = true;
        Ok(())
    }

    fn finish(&mut self, lower: &dyn Lower) -> Result<()> {
        self.complete(lower)
    }
}

fn entry_size(entry: &Entry, tail: &[u8]) -> u64 {
    match &entry.kind {
        EntryKind::File { size, .. } => *size,
        _ => tail.len() as u64,
    }
}

pub(super) fn inode_of(attrs: &Attrs, kind: u16, size: u64) -> Inode {
    let mode = u16::try_from(attrs.mode & 0o7777).unwrap_or(0);
    Inode {
        layout: Layout::Plain,
        mode: if kind == format::S_IFLNK {
            kind | 0o777
        } else {
            kind | mode
        },
        size,
        union: 0,
        uid: attrs.uid,
        gid: attrs.gid,
        mtime: attrs.mtime.secs,
        nanos: attrs.mtime.nanos,
        nlink: 1,
        xattrs: 0,
    }
}

/// Moves `count` bytes.
fn copy(
    data: &mut dyn Data,
    count: u64,
    path: &EntryPath,
    mut to: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let mut left = count;
    while left > 0 {
        let chunk = data.chunk()?;
        let want = usize::try_from(left).unwrap_or(usize::MAX);
        let part = chunk.get(..want).unwrap_or(chunk);
        if part.is_empty() {
            return Err(Error::Layer {
                what: path.to_string(),
                why: "its data ends early",
            });
        }
        to(part)?;
        let n = part.len();
        data.consume(n);
        left -= n as u64;
    }
    Ok(())
}
