//! The parts of erofs's format that a layer needs (Linux, fs/erofs/erofs_fs.h): one block size,
//! extended inodes, plain and inline data, attributes beside their inode, no compression.

use std::collections::BTreeMap;

use crate::{Error, Result};

/// Size of a block.
pub const BLOCK: u64 = 4096;
/// The same for lengths in memory.
pub const BLOCK_LEN: usize = 4096;
/// Where the superblock begins.
pub const SUPER_OFFSET: u64 = 1024;
/// Its length.
pub const SUPER_LEN: usize = 128;
/// Inodes are numbered by their place in units of this.
pub const SLOT: u64 = 32;
/// Length of an inode.
pub const INODE_LEN: usize = 64;
/// Length of a directory entry without its name.
pub const DIRENT_LEN: usize = 12;
const MAGIC: u32 = 0xe0f5_e1e2;
/// Times are of modification, not of change.
const COMPAT_MTIME: u32 = 2;
/// Header of the attributes of an inode.
const XATTR_HEADER: usize = 12;

/// File types as in an inode's mode.
pub const S_IFMT: u16 = 0o170_000;
/// A directory.
pub const S_IFDIR: u16 = 0o040_000;
/// A regular file.
pub const S_IFREG: u16 = 0o100_000;
/// A symbolic link.
pub const S_IFLNK: u16 = 0o120_000;
/// A character device.
pub const S_IFCHR: u16 = 0o020_000;
/// A block device.
pub const S_IFBLK: u16 = 0o060_000;
/// A named pipe.
pub const S_IFIFO: u16 = 0o010_000;

/// Where an inode's data is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Layout {
    /// In whole blocks.
    Plain,
    /// In whole blocks, and what is left right behind the inode.
    Inline,
}

/// One inode.
#[derive(Clone, Copy, Debug)]
pub struct Inode {
    /// Where its data is.
    pub layout: Layout,
    /// Type and permission bits.
    pub mode: u16,
    /// Size in bytes.
    pub size: u64,
    /// First block of the data, or the device's number.
    pub union: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds of the time of last modification.
    pub mtime: i64,
    /// Its nanoseconds.
    pub nanos: u32,
    /// Number of names.
    pub nlink: u32,
    /// Units of attributes behind it, as the format counts them.
    pub xattrs: u16,
}

/// Where `nlink` is in an inode.
pub const NLINK_OFFSET: u64 = 44;

impl Inode {
    /// Its bytes; `ino` is what 32-bit programs see as its number.
    pub fn encode(&self, ino: u32) -> [u8; INODE_LEN] {
        let mut out = [0u8; INODE_LEN];
        let layout = match self.layout {
            Layout::Plain => 0u16,
            Layout::Inline => 2,
        };
        let mut put = |at: usize, bytes: &[u8]| {
            for (to, from) in out.iter_mut().skip(at).zip(bytes) {
                *to = *from;
            }
        };
        put(0, &(1 | layout << 1).to_le_bytes());
        put(2, &self.xattrs.to_le_bytes());
        put(4, &self.mode.to_le_bytes());
        put(8, &self.size.to_le_bytes());
        put(16, &self.union.to_le_bytes());
        put(20, &ino.to_le_bytes());
        put(24, &self.uid.to_le_bytes());
        put(28, &self.gid.to_le_bytes());
        put(32, &self.mtime.to_le_bytes());
        put(40, &self.nanos.to_le_bytes());
        put(44, &self.nlink.to_le_bytes());
        out
    }

    /// Reads one that we wrote.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let format = u16_at(bytes, 0)?;
        let layout = match format {
            1 => Layout::Plain,
            5 => Layout::Inline,
            _ => return None,
        };
        Some(Self {
            layout,
            mode: u16_at(bytes, 4)?,
            size: u64_at(bytes, 8)?,
            union: u32_at(bytes, 16)?,
            uid: u32_at(bytes, 24)?,
            gid: u32_at(bytes, 28)?,
            mtime: u64_at(bytes, 32)?.cast_signed(),
            nanos: u32_at(bytes, 40)?,
            nlink: u32_at(bytes, 44)?,
            xattrs: u16_at(bytes, 2)?,
        })
    }

    /// Bytes of attributes behind it.
    pub fn xattr_len(&self) -> usize {
        match self.xattrs {
            0 => 0,
            n => XATTR_HEADER + (usize::from(n) - 1) * 4,
        }
    }
}

pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

pub fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// A device's number as the kernel's `new_encode_dev` packs it.
pub fn encode_device(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

/// Undoes [`encode_device`].
pub fn decode_device(packed: u32) -> (u32, u32) {
    (
        (packed & 0xf_ff00) >> 8,
        (packed & 0xff) | ((packed >> 12) & 0xf_ff00),
    )
}

/// The superblock.
pub fn superblock(root: u16, inodes: u64, blocks: u32) -> [u8; SUPER_LEN] {
    let mut out = [0u8; SUPER_LEN];
    let mut put = |at: usize, bytes: &[u8]| {
        for (to, from) in out.iter_mut().skip(at).zip(bytes) {
            *to = *from;
        }
    };
    put(0, &MAGIC.to_le_bytes());
    put(8, &COMPAT_MTIME.to_le_bytes());
    put(12, &[12]);
    put(14, &root.to_le_bytes());
    put(16, &inodes.to_le_bytes());
    put(36, &blocks.to_le_bytes());
    out
}

/// Whether these are a superblock's bytes, and the number of the root's inode.
pub fn root_of(superblock: &[u8]) -> Option<u64> {
    let ours = u32_at(superblock, 0)? == MAGIC && superblock.get(12) == Some(&12);
    ours.then(|| u16_at(superblock, 14).map(u64::from))?
}

/// Prefixes of attributes' names and their numbers. A whole name comes before the prefix of it.
const PREFIXES: [(&[u8], u8); 5] = [
    (b"system.posix_acl_access", 2),
    (b"system.posix_acl_default", 3),
    (b"user.", 1),
    (b"trusted.", 4),
    (b"security.", 6),
];

/// The attributes behind an inode, and their length in the format's units. Names that the format
/// has no number for (other file systems' own) are left out.
pub fn encode_xattrs(all: &BTreeMap<Vec<u8>, Vec<u8>>) -> Result<(Vec<u8>, u16)> {
    let mut out = vec![0u8; XATTR_HEADER];
    for (name, value) in all {
        let Some((prefix, index)) = PREFIXES.iter().find(|(p, _)| name.starts_with(p)) else {
            continue;
        };
        let rest = name.get(prefix.len()..).unwrap_or_default();
        let too_long = |_| Error::Layer {
            what: format!("extended attribute {}", name.escape_ascii()),
            why: "too long",
        };
        out.push(u8::try_from(rest.len()).map_err(too_long)?);
        out.push(*index);
        out.extend(u16::try_from(value.len()).map_err(too_long)?.to_le_bytes());
        out.extend_from_slice(rest);
        out.extend_from_slice(value);
        out.resize(out.len().next_multiple_of(4), 0);
    }
    if out.len() == XATTR_HEADER {
        return Ok((Vec::new(), 0));
    }
    let units = (out.len() - XATTR_HEADER) / 4 + 1;
    let units = u16::try_from(units).map_err(|_| Error::Layer {
        what: "extended attributes".to_owned(),
        why: "more than an erofs image can hold",
    })?;
    Ok((out, units))
}

/// Undoes [`encode_xattrs`]; `None` for what we would not have written.
pub fn decode_xattrs(bytes: &[u8]) -> Option<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut all = BTreeMap::new();
    if bytes.is_empty() {
        return Some(all);
    }
    let mut rest = bytes.get(XATTR_HEADER..)?;
    while !rest.is_empty() {
        let (name_len, index) = (usize::from(*rest.first()?), *rest.get(1)?);
        let value_len = usize::from(u16_at(rest, 2)?);
        let (prefix, _) = PREFIXES.iter().find(|(_, i)| *i == index)?;
        let name = rest.get(4..4 + name_len)?;
        let value = rest.get(4 + name_len..4 + name_len + value_len)?;
        all.insert([prefix, name].concat(), value.to_vec());
        let len = (4 + name_len + value_len).next_multiple_of(4);
        rest = rest.get(len..)?;
    }
    Some(all)
}

/// Bytes of a directory whose entries have names of these lengths, in order: full blocks, then
/// the rest.
pub fn directory_len(names: impl Iterator<Item = usize>) -> u64 {
    let mut full = 0u64;
    let mut used = 0;
    for name in names {
        let need = DIRENT_LEN + name;
        if used + need > BLOCK_LEN {
            full += BLOCK;
            used = 0;
        }
        used += need;
    }
    full + used as u64
}

/// One entry of a directory.
#[derive(Clone, Copy, Debug)]
pub struct Dirent<'a> {
    /// Number of its inode.
    pub nid: u64,
    /// The format's number of its type.
    pub kind: u8,
    /// Its name.
    pub name: &'a [u8],
}

/// The bytes of a directory; entries are sorted by name, all blocks but the last are full.
pub fn encode_directory(entries: &[Dirent<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = entries;
    while !rest.is_empty() {
        let mut used = 0;
        let fits = |e: &&Dirent<'_>| {
            used += DIRENT_LEN + e.name.len();
            used <= BLOCK_LEN
        };
        let count = rest.iter().take_while(fits).count().max(1);
        let (block, later) = rest.split_at(count);
        let start = out.len();
        let mut at = count * DIRENT_LEN;
        for entry in block {
            out.extend(entry.nid.to_le_bytes());
            // Within a block, so that it fits.
            out.extend(u16::try_from(at).unwrap_or(u16::MAX).to_le_bytes());
            out.extend([entry.kind, 0]);
            at += entry.name.len();
        }
        for entry in block {
            out.extend_from_slice(entry.name);
        }
        if !later.is_empty() {
            out.resize(start + BLOCK_LEN, 0);
        }
        rest = later;
    }
    out
}

/// Reads a directory's bytes: name, inode number, type. `None` for what we would not have
/// written.
pub fn decode_directory(bytes: &[u8]) -> Option<Vec<(Vec<u8>, u64, u8)>> {
    let mut all = Vec::new();
    for block in bytes.chunks(BLOCK_LEN) {
        let count = usize::from(u16_at(block, 8)?) / DIRENT_LEN;
        for i in 0..count {
            let at = i * DIRENT_LEN;
            let start = usize::from(u16_at(block, at + 8)?);
            let end = match i + 1 < count {
                true => usize::from(u16_at(block, at + DIRENT_LEN + 8)?),
                false => block.len(),
            };
            let name = block.get(start..end)?;
            let name = name.split(|&b| b == 0).next()?;
            all.push((name.to_vec(), u64_at(block, at)?, *block.get(at + 10)?));
        }
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices() {
        for (major, minor) in [(0, 0), (1, 3), (8, 255), (259, 1_048_575), (4095, 256)] {
            assert_eq!(decode_device(encode_device(major, minor)), (major, minor));
        }
        assert_eq!(encode_device(1, 3), 0x103);
    }

    #[test]
    fn attributes() {
        let all: BTreeMap<Vec<u8>, Vec<u8>> = [
            (&b"security.capability"[..], vec![1; 20]),
            (b"user.a", vec![]),
            (b"system.posix_acl_access", vec![2; 7]),
            (b"trusted.overlay.opaque", b"y".to_vec()),
        ]
        .into_iter()
        .map(|(k, v)| (k.to_vec(), v))
        .collect();
        let (bytes, units) = encode_xattrs(&all).unwrap();
        assert_eq!(bytes.len(), 12 + (usize::from(units) - 1) * 4);
        assert_eq!(decode_xattrs(&bytes).unwrap(), all);
        assert_eq!(encode_xattrs(&BTreeMap::new()).unwrap(), (vec![], 0));
        let foreign = [(b"system.other".to_vec(), vec![1])].into();
        assert_eq!(encode_xattrs(&foreign).unwrap(), (vec![], 0));
    }

    #[test]
    fn directories_of_several_blocks() {
        let names: Vec<Vec<u8>> = (0..500).map(|i| format!("{i:0>40}").into_bytes()).collect();
        let entries: Vec<Dirent<'_>> = (names.iter().zip(100..))
            .map(|(name, nid)| Dirent { nid, kind: 1, name })
            .collect();
        let bytes = encode_directory(&entries);
        assert_eq!(
            bytes.len() as u64,
            directory_len(names.iter().map(Vec::len))
        );
        let read = decode_directory(&bytes).unwrap();
        assert_eq!(read.len(), 500);
        assert!(
            read.iter()
                .zip(&entries)
                .all(|(r, e)| r.0 == e.name && r.1 == e.nid)
        );
    }
}
