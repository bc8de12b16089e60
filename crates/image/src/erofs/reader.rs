//! Reads an image that [`ErofsWriter`](super::ErofsWriter) wrote, without mounting it.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use super::format::{self, BLOCK, Inode, Layout, SLOT};
use crate::layer::{Entry, EntryKind, EntryPath, Extent, Found, Timestamp};
use crate::{Error, Hasher, Result};

/// Largest directory or link that is read into memory.
const LIMIT: u64 = 1 << 30;

/// An image.
#[derive(Debug)]
pub(crate) struct Reader {
    file: Arc<File>,
    root: u64,
}

/// One inode, with what is beside it.
#[derive(Debug)]
struct Read {
    inode: Inode,
    xattrs: std::collections::BTreeMap<Vec<u8>, Vec<u8>>,
    /// Where its data is.
    runs: Vec<(u64, u64)>,
}

/// What the image says of a path.
#[derive(Debug)]
pub(crate) enum Says {
    /// It is there.
    Found(Box<Found>),
    /// It is not, and the layers below have no say where `hides`.
    Nothing { hides: bool },
}

fn broken() -> Error {
    Error::store("layer.erofs", "not what was written: damaged on disk")
}

impl Reader {
    /// Reads the superblock.
    pub fn new(file: OwnedFd) -> Result<Self> {
        let file = File::from(file);
        let mut superblock = [0; format::SUPER_LEN];
        file.read_exact_at(&mut superblock, format::SUPER_OFFSET)
            .map_err(|_| broken())?;
        let root = format::root_of(&superblock).ok_or_else(broken)?;
        Ok(Self {
            file: Arc::new(file),
            root,
        })
    }

    fn bytes(&self, at: u64, len: u64) -> Result<Vec<u8>> {
        if len > LIMIT {
            return Err(broken());
        }
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
        self.file
            .read_exact_at(&mut bytes, at)
            .map_err(|_| broken())?;
        Ok(bytes)
    }

    fn inode(&self, nid: u64) -> Result<Read> {
        let at = nid.checked_mul(SLOT).ok_or_else(broken)?;
        let inode = Inode::decode(&self.bytes(at, format::INODE_LEN as u64)?).ok_or_else(broken)?;
        let behind = at + format::INODE_LEN as u64;
        let xattr_len = inode.xattr_len() as u64;
        let xattrs = format::decode_xattrs(&self.bytes(behind, xattr_len)?).ok_or_else(broken)?;
        let start = u64::from(inode.union) * BLOCK;
        let tail = match inode.layout {
            Layout::Plain => 0,
            Layout::Inline => inode.size % BLOCK,
        };
        let runs = [(start, inode.size - tail), (behind + xattr_len, tail)];
        let has_data = matches!(
            inode.mode & format::S_IFMT,
            format::S_IFREG | format::S_IFDIR | format::S_IFLNK
        );
        let runs = runs.into_iter().filter(|r| has_data && r.1 > 0).collect();
        Ok(Read {
            inode,
            xattrs,
            runs,
        })
    }

    fn contents(&self, read: &Read) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        for &(at, len) in &read.runs {
            all.extend(self.bytes(at, len)?);
        }
        Ok(all)
    }

    /// Looks up a path without following links.
    pub fn find(&self, path: &EntryPath) -> Result<Says> {
        let mut read = self.inode(self.root)?;
        let mut hides = false;
        for name in path.components() {
            if read.inode.mode & format::S_IFMT != format::S_IFDIR {
                return Ok(Says::Nothing { hides: true });
            }
            hides |= read.xattrs.contains_key(&b"trusted.overlay.opaque"[..]);
            let entries = format::decode_directory(&self.contents(&read)?).ok_or_else(broken)?;
            let Some((_, nid, _)) = entries.into_iter().find(|(n, _, _)| n == name) else {
                return Ok(Says::Nothing { hides });
            };
            read = self.inode(nid)?;
            if read.inode.mode & format::S_IFMT == format::S_IFCHR && read.inode.union == 0 {
                return Ok(Says::Nothing { hides: true });
            }
        }
        self.found(path, read).map(|f| Says::Found(Box::new(f)))
    }

    fn found(&self, path: &EntryPath, read: Read) -> Result<Found> {
        let inode = read.inode;
        let (major, minor) = format::decode_device(inode.union);
        let mut data: Option<Box<dyn std::io::Read>> = None;
        let kind = match inode.mode & format::S_IFMT {
            format::S_IFDIR => EntryKind::Directory,
            format::S_IFLNK => EntryKind::Symlink {
                target: self.contents(&read)?,
            },
            format::S_IFCHR => EntryKind::CharDevice { major, minor },
            format::S_IFBLK => EntryKind::BlockDevice { major, minor },
            format::S_IFIFO => EntryKind::Fifo,
            _ => {
                data = Some(Box::new(Runs::new(Arc::clone(&self.file), read.runs)));
                let whole = (inode.size > 0).then_some(Extent {
                    offset: 0,
                    len: inode.size,
                });
                EntryKind::File {
                    size: inode.size,
                    extents: whole.into_iter().collect(),
                }
            }
        };
        let entry = Entry {
            path: path.clone(),
            kind,
            mode: u32::from(inode.mode & 0o7777),
            uid: inode.uid,
            gid: inode.gid,
            mtime: Timestamp {
                secs: inode.mtime,
                nanos: inode.nanos,
            },
            xattrs: crate::store::image_xattrs(read.xattrs),
        };
        Ok(Found { entry, data })
    }
}

/// Reads runs of a file as one stream.
pub(crate) struct Runs {
    file: Arc<File>,
    runs: std::vec::IntoIter<(u64, u64)>,
    at: u64,
    left: u64,
}

impl Runs {
    pub fn new(file: Arc<File>, runs: Vec<(u64, u64)>) -> Self {
        Self {
            file,
            runs: runs.into_iter(),
            at: 0,
            left: 0,
        }
    }
}

impl std::io::Read for Runs {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.left == 0 {
            match self.runs.next() {
                Some((at, len)) => (self.at, self.left) = (at, len),
                None => return Ok(0),
            }
        }
        let want = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let n = self
            .file
            .read_at(buffer.get_mut(..want).unwrap_or_default(), self.at)?;
        if n == 0 && want > 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        self.at += n as u64;
        self.left -= n as u64;
        Ok(n)
    }
}

/// Adds runs of a file to a digest.
pub(crate) fn hash_runs(file: &OwnedFd, runs: &[(u64, u64)], hasher: &mut Hasher) -> Result<()> {
    let mut buffer = vec![0; 64 << 10];
    for &(mut at, mut left) in runs {
        while left > 0 {
            let want = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .min(buffer.len());
            let part = buffer.get_mut(..want).unwrap_or_default();
            let n = rustix::io::pread(file, &mut *part, at)
                .map_err(|e| Error::System(sys::Error::new("pread", "layer.erofs", e)))?;
            if n == 0 {
                return Err(broken());
            }
            hasher.update(part.get(..n).unwrap_or_default());
            at += n as u64;
            left -= n as u64;
        }
    }
    Ok(())
}
