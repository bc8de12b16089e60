//! The end of a layer: what the layers below know, then directories, then the superblock.

use super::format::{self, BLOCK, Dirent, Inode, Layout, SLOT};
use super::image::place_item;
use super::tree::{Kind, ROOT};
use super::writer::{Attrs, ErofsWriter, inode_of};
use crate::layer::dir::resolve;
use crate::layer::rules::{XattrUse, xattrs};
use crate::layer::{
    Data, Entry, EntryKind, EntryPath, Found, LayerWriter as _, Lower, NoData, ReadData, Timestamp,
};
use crate::{Algorithm, Error, Hasher, Result};

/// Where the root's inode is: right behind the superblock.
const ROOT_AT: u64 = format::SUPER_OFFSET + format::SUPER_LEN as u64;

/// A directory's place and size.
struct Placed {
    id: u32,
    at: u64,
    size: u64,
    inline: bool,
    xattrs: Vec<u8>,
    inode: Inode,
}

impl ErofsWriter {
    pub(super) fn complete(&mut self, lower: &dyn Lower) -> Result<()> {
        for (path, target) in std::mem::take(&mut self.pending) {
            self.link_below(&path, &target, lower)?;
        }
        // A directory that was merged into another may have come to be behind this round.
        while self.settle_all(lower)? {}
        self.whiteout_inode()?;
        self.image.close()?;
        self.write_directories()?;
        self.patch_links()?;
        let blocks = self.image.finish()?;
        let root = u16::try_from(ROOT_AT / SLOT).unwrap_or(0);
        let superblock = format::superblock(root, self.inodes, blocks);
        self.image.write_at(&superblock, format::SUPER_OFFSET)?;
        self.metadata = Some(self.digest_metadata()?);
        Ok(())
    }

    /// Whether anything moved.
    fn settle_all(&mut self, lower: &dyn Lower) -> Result<bool> {
        let mut moved = false;
        let mut id = 0;
        while id < self.tree.len() {
            match self.tree.node(id).kind {
                Kind::Directory => moved |= self.settle(id, lower)?,
                Kind::Whiteout => {
                    let path = EntryPath::from_checked(self.tree.path(id));
                    if lower.find(&path)?.is_none() {
                        self.tree.kill(id);
                    }
                }
                _ => {}
            }
            id += 1;
        }
        Ok(moved)
    }

    /// A directory that the layer only passes through: the layers below know what it is.
    /// Whether it turned out to be a link and its contents moved.
    fn settle(&mut self, id: u32, lower: &dyn Lower) -> Result<bool> {
        let path = EntryPath::from_checked(self.tree.path(id));
        let directory = self.directories.entry(id).or_default();
        let (opaque, known, fallback) = (
            directory.opaque,
            directory.attrs.is_some(),
            directory.fallback,
        );
        let fresh = directory.fresh;
        if known && !opaque {
            return Ok(false);
        }
        let found = lower.find(&path)?;
        let is_directory = matches!(&found, Some(f) if f.entry.kind == EntryKind::Directory);
        let mut settled = None;
        if !known {
            settled = Some(match found {
                Some(Found { entry, .. }) if is_directory && !fresh => attrs_of(entry)?,
                Some(Found { entry, .. }) if id != ROOT && !fresh && is_link(&entry) => {
                    let real = resolve(lower, &path)?;
                    let to = self.directory(real.components(), fallback)?;
                    if to != id {
                        self.merge(id, to);
                        return Ok(true);
                    }
                    default_attrs(fallback)
                }
                _ => default_attrs(fallback),
            });
        }
        let directory = self.directories.entry(id).or_default();
        directory.opaque = opaque && is_directory;
        if settled.is_some() {
            directory.attrs = settled;
        }
        Ok(false)
    }

    /// Moves all of one directory into another: on the way the layer meant a link of the layers
    /// below.
    fn merge(&mut self, from: u32, to: u32) {
        let mut todo = vec![(from, to)];
        while let Some((from, to)) = todo.pop() {
            for child in self.tree.sorted(from) {
                let name = self.tree.name(child).to_vec();
                let node = *self.tree.node(child);
                if node.kind != Kind::Directory {
                    self.clear(to, &name);
                    let id = self.tree.put(to, &name, node.kind, node.nid);
                    if let Some(target) = self.targets.get(&child).cloned() {
                        self.targets.insert(id, target);
                    }
                    continue;
                }
                let known = self.directories.get(&child).cloned().unwrap_or_default();
                let there = self.tree.child(to, &name);
                let there = there.filter(|&id| self.tree.node(id).kind == Kind::Directory);
                let target =
                    there.unwrap_or_else(|| self.make_directory(to, &name, known.fallback));
                let merged = self.directories.entry(target).or_default();
                merged.attrs = known.attrs.or_else(|| merged.attrs.take());
                merged.opaque |= known.opaque;
                todo.push((child, target));
            }
        }
        self.tree.kill(from);
    }

    /// A link to a file of a lower layer: the file is copied here, so that both names are one
    /// file in this layer.
    fn link_below(
        &mut self,
        path: &EntryPath,
        target: &EntryPath,
        lower: &dyn Lower,
    ) -> Result<()> {
        let refuse = |why| Error::Layer {
            what: format!("{path}: hard link to {target}"),
            why,
        };
        let dir = resolve(lower, &target.parent())?;
        let real = dir.join(target.name())?;
        let here = self.directory(dir.components(), Timestamp::default())?;
        if self.tree.child(here, target.name()).is_none() {
            let found = lower.find(&real)?;
            let found =
                found.ok_or_else(|| refuse("there is no such file in this or a lower layer"))?;
            if found.entry.kind == EntryKind::Directory {
                return Err(refuse("it is a directory"));
            }
            let mut entry = found.entry;
            entry.path = real;
            let data: &mut dyn Data = match found.data {
                Some(data) => &mut ReadData::new(data),
                None => &mut NoData,
            };
            self.entry(entry, data)?;
        }
        let id = self.tree.child(here, target.name());
        let id =
            id.filter(|&id| !matches!(self.tree.node(id).kind, Kind::Whiteout | Kind::Directory));
        let id = id.ok_or_else(|| refuse("there is no such file in this or a lower layer"))?;
        let parent = self.directory(path.parent().components(), Timestamp::default())?;
        self.link(parent, path.name(), id);
        Ok(())
    }

    /// All marks share one inode.
    fn whiteout_inode(&mut self) -> Result<()> {
        let marks: Vec<u32> = (0..self.tree.len())
            .filter(|&id| self.tree.node(id).kind == Kind::Whiteout)
            .collect();
        let Some(more) = marks.len().checked_sub(1) else {
            return Ok(());
        };
        let mut inode = inode_of(&default_attrs(Timestamp::default()), format::S_IFCHR, 0);
        inode.mode = format::S_IFCHR;
        let nid = self.inode(&inode, &[], &[])?;
        self.links
            .insert(nid, u32::try_from(more).unwrap_or(u32::MAX));
        for id in marks {
            self.tree.node_mut(id).nid = nid;
        }
        Ok(())
    }

    /// Inodes of directories come last, for their contents are the numbers of all others. Their
    /// own places are settled before any of them is written.
    fn write_directories(&mut self) -> Result<()> {
        let base = self.image.position();
        let mut used = 0;
        let mut placed = Vec::new();
        for id in 0..self.tree.len() {
            if self.tree.node(id).kind == Kind::Directory {
                let mut directory = self.measure(id)?;
                if id == ROOT {
                    directory.at = ROOT_AT;
                } else {
                    let len = format::INODE_LEN + directory.xattrs.len();
                    let tail = if directory.inline {
                        directory.size % BLOCK
                    } else {
                        0
                    };
                    let offset = place_item(used, len as u64 + tail);
                    used = offset + len as u64 + tail;
                    directory.at = base + offset;
                }
                self.tree.node_mut(id).nid = directory.at / SLOT;
                placed.push(directory);
            }
        }
        let base = self.image.skip(used)?;
        if used > 0 {
            self.image.note_metadata(base, used);
        }
        self.image
            .note_metadata(format::SUPER_OFFSET, BLOCK - format::SUPER_OFFSET);
        let blocks_from = self.image.position();
        let mut region = Region::default();
        for directory in placed {
            self.write_directory(directory, &mut region)?;
        }
        region.flush(&self.image)?;
        let blocks_to = self.image.position();
        if blocks_to > blocks_from {
            self.image
                .note_metadata(blocks_from, blocks_to - blocks_from);
        }
        Ok(())
    }

    fn measure(&mut self, id: u32) -> Result<Placed> {
        let directory = self.directories.remove(&id).unwrap_or_default();
        let mut attrs = directory
            .attrs
            .unwrap_or_else(|| default_attrs(directory.fallback));
        if directory.opaque {
            attrs
                .xattrs
                .insert(b"trusted.overlay.opaque".to_vec(), b"y".to_vec());
        }
        let (bytes, units) = format::encode_xattrs(&attrs.xattrs)?;
        let names = self.with_dots(id);
        let size = format::directory_len(names.iter().map(|(name, _)| name.len()));
        let room = match id {
            ROOT => BLOCK - ROOT_AT,
            _ => BLOCK,
        };
        let behind = (format::INODE_LEN + bytes.len()) as u64;
        if id == ROOT && behind > room {
            return Err(Error::Layer {
                what: "the root's extended attributes".to_owned(),
                why: "more than an erofs image can hold there",
            });
        }
        let rest = size % BLOCK;
        let mut inode = inode_of(&attrs, format::S_IFDIR, size);
        inode.xattrs = units;
        let children = self.tree.children(id);
        let below = children
            .filter(|&c| self.tree.node(c).kind == Kind::Directory)
            .count();
        inode.nlink = u32::try_from(below + 2).unwrap_or(u32::MAX);
        Ok(Placed {
            id,
            at: 0,
            size,
            inline: rest > 0 && behind + rest <= room,
            xattrs: bytes,
            inode,
        })
    }

    /// What a directory lists, sorted, with itself and its parent.
    fn with_dots(&self, id: u32) -> Vec<(Vec<u8>, u32)> {
        let children = self.tree.children(id);
        let mut all: Vec<(Vec<u8>, u32)> =
            children.map(|c| (self.tree.name(c).to_vec(), c)).collect();
        all.push((b".".to_vec(), id));
        all.push((b"..".to_vec(), self.tree.node(id).parent));
        all.sort_unstable();
        all
    }

    fn write_directory(&mut self, mut directory: Placed, region: &mut Region) -> Result<()> {
        let names = self.with_dots(directory.id);
        let entries: Vec<Dirent<'_>> = names
            .iter()
            .map(|(name, id)| {
                let node = self.tree.node(*id);
                let kind = match node.kind {
                    Kind::Directory => 2,
                    Kind::Symlink => 7,
                    Kind::Whiteout => 3,
                    Kind::Other(kind) => kind,
                    Kind::Dead => 0,
                };
                Dirent {
                    nid: node.nid,
                    kind,
                    name,
                }
            })
            .collect();
        let bytes = format::encode_directory(&entries);
        let full = match directory.inline {
            true => directory.size - directory.size % BLOCK,
            false => directory.size,
        };
        let (blocks, tail) = bytes.split_at(usize::try_from(full).unwrap_or(0));
        if !blocks.is_empty() {
            directory.inode.union = self.block_number()?;
            self.image.append(blocks)?;
            self.image.align()?;
        }
        if directory.inline {
            directory.inode.layout = Layout::Inline;
        }
        self.inodes += 1;
        let ino = u32::try_from(self.inodes).unwrap_or(u32::MAX);
        let mut item = directory.inode.encode(ino).to_vec();
        item.extend_from_slice(&directory.xattrs);
        item.extend_from_slice(tail);
        if directory.id == ROOT {
            return self.image.write_at(&item, directory.at);
        }
        region.put(&item, directory.at, &self.image)
    }

    /// Inodes were written when their first name came; some got more.
    fn patch_links(&mut self) -> Result<()> {
        for (nid, more) in &self.links {
            if *more > 0 {
                let count = more.saturating_add(1).to_le_bytes();
                self.image
                    .write_at(&count, nid * SLOT + format::NLINK_OFFSET)?;
            }
        }
        Ok(())
    }

    fn digest_metadata(&self) -> Result<crate::Digest> {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        super::reader::hash_runs(self.image.file(), self.image.metadata(), &mut hasher)?;
        Ok(hasher.finish())
    }
}

/// Inodes that follow each other, written in large pieces.
#[derive(Default)]
struct Region {
    at: u64,
    bytes: Vec<u8>,
}

impl Region {
    fn put(&mut self, item: &[u8], at: u64, image: &super::image::Image) -> Result<()> {
        if self.bytes.len() > 256 << 10 {
            self.flush(image)?;
        }
        if self.bytes.is_empty() {
            self.at = at;
        }
        let offset = usize::try_from(at - self.at).unwrap_or(0);
        self.bytes.resize(offset, 0);
        self.bytes.extend_from_slice(item);
        Ok(())
    }

    fn flush(&mut self, image: &super::image::Image) -> Result<()> {
        image.write_at(&self.bytes, self.at)?;
        self.bytes.clear();
        Ok(())
    }
}

fn is_link(entry: &Entry) -> bool {
    matches!(entry.kind, EntryKind::Symlink { .. })
}

fn attrs_of(entry: Entry) -> Result<Attrs> {
    Ok(Attrs {
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        mtime: entry.mtime,
        xattrs: xattrs(entry.xattrs, XattrUse::Overlay)?,
    })
}

fn default_attrs(mtime: Timestamp) -> Attrs {
    Attrs {
        mode: 0o755,
        uid: 0,
        gid: 0,
        mtime,
        xattrs: Default::default(),
    }
}
