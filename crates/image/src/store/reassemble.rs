//! A layer on disk becomes its tar stream again, byte for byte.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat};
use rustix::io::Errno;
use sys::Context as _;

use super::build::{IMAGE, SPLIT, open_file};
use super::record::{Format, LayerRecord};
use super::split::{Piece, SplitReader};
use crate::layer::EntryPath;
use crate::{Algorithm, Digest, Error, Hasher, Result};

/// The tar stream of a layer.
pub(crate) struct LayerTar {
    dir: OwnedFd,
    record: LayerRecord,
    split: SplitReader<File>,
    /// The file that data comes from now.
    file: Option<File>,
    /// Files so far, for a directory.
    files: u64,
    now: Now,
    /// Of an image: what is no file's data, as the split says.
    metadata: Vec<(u64, u64)>,
}

enum Now {
    Nothing,
    Raw(Vec<u8>, usize),
    Data { at: u64, left: u64 },
}

impl LayerTar {
    /// Begins to read the layer in `dir`.
    pub fn new(dir: OwnedFd, record: LayerRecord) -> Result<Self> {
        let split = SplitReader::new(File::from(open_file(dir.as_fd(), SPLIT)?))?;
        let file = match record.format {
            Format::Erofs => Some(File::from(open_file(dir.as_fd(), IMAGE)?)),
            Format::Directory => None,
        };
        Ok(Self {
            dir,
            record,
            split,
            file,
            files: 0,
            now: Now::Nothing,
            metadata: Vec::new(),
        })
    }

    fn advance(&mut self) -> Result<bool> {
        loop {
            self.now = match self.split.next()? {
                None => return Ok(false),
                Some(Piece::Raw(bytes)) => Now::Raw(bytes, 0),
                Some(Piece::Data { at, len }) => Now::Data { at, left: len },
                Some(Piece::File(path)) => {
                    self.file = Some(self.open(&path)?);
                    self.files += 1;
                    continue;
                }
                Some(Piece::Metadata { at, len }) => {
                    self.metadata.push((at, len));
                    continue;
                }
            };
            return Ok(true);
        }
    }

    /// A file of a directory, wherever the layer itself has moved it since.
    fn open(&self, path: &EntryPath) -> Result<File> {
        let mut place = [b"tree/".as_slice(), &path.to_bytes()].concat();
        for moved in &self.record.moved {
            let from = [b"tree/".as_slice(), &moved.from].concat();
            let rest = place.strip_prefix(from.as_slice());
            let rest = rest.filter(|r| r.is_empty() || r.starts_with(b"/"));
            if let (Some(rest), true) = (rest, self.files < moved.before) {
                place = [moved.to.as_slice(), rest].concat();
            }
        }
        open_beneath(self.dir.as_fd(), &place)
    }

    fn piece(&mut self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            match &mut self.now {
                Now::Raw(bytes, at) if *at < bytes.len() => {
                    let mut rest = bytes.get(*at..).unwrap_or_default();
                    let n = rest.read(buffer).unwrap_or(0);
                    *at += n;
                    return Ok(n);
                }
                Now::Data { at, left } if *left > 0 => {
                    let file = self
                        .file
                        .as_ref()
                        .ok_or_else(|| damaged("no file for data"))?;
                    let want = usize::try_from(*left)
                        .unwrap_or(usize::MAX)
                        .min(buffer.len());
                    let part = buffer.get_mut(..want).unwrap_or_default();
                    let n = file
                        .read_at(part, *at)
                        .map_err(|e| Error::io("read a layer", e))?;
                    if n == 0 {
                        return Err(damaged("a file is too short"));
                    }
                    *at += n as u64;
                    *left -= n as u64;
                    return Ok(n);
                }
                _ => {
                    if !self.advance()? {
                        return Ok(0);
                    }
                }
            }
        }
    }

    /// Reads all and compares with what the record says.
    pub fn verify(mut self) -> Result<()> {
        let mut hasher = Hasher::new(self.record.diff_id.algorithm());
        let mut buffer = vec![0u8; 256 << 10];
        let mut size = 0u64;
        loop {
            let n = self.piece(&mut buffer)?;
            if n == 0 {
                break;
            }
            size += n as u64;
            hasher.update(buffer.get(..n).unwrap_or_default());
        }
        let digest = hasher.finish();
        if digest != self.record.diff_id || size != self.record.tar_size {
            return Err(damaged(&format!("its tar stream has the digest {digest}")));
        }
        let Some(wanted) = self.record.metadata.clone() else {
            return Ok(());
        };
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let file = self.file.take().ok_or_else(|| damaged("no image"))?;
        crate::erofs::hash_runs(&file.into(), &self.metadata, &mut hasher)?;
        let digest: Digest = hasher.finish();
        if digest != wanted {
            return Err(damaged("inodes or directories of its image"));
        }
        Ok(())
    }
}

impl Read for LayerTar {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        self.piece(buffer).map_err(std::io::Error::other)
    }
}

fn damaged(why: &str) -> Error {
    Error::store("layer", format!("damaged on disk: {why}"))
}

fn open_beneath(dir: BorrowedFd<'_>, path: &[u8]) -> Result<File> {
    use std::os::unix::ffi::OsStrExt as _;
    let path = std::ffi::OsStr::from_bytes(path);
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let open = |flags| match sys::path::openat2(dir, path, flags, Mode::empty(), resolve) {
        // The tree is ours alone, and its directories were made by name.
        Err(Errno::NOSYS) => openat(dir, path, flags | OFlags::CLOEXEC, Mode::empty()),
        other => other,
    };
    let fd = match open(flags) {
        Err(Errno::ACCESS) => open(OFlags::PATH | OFlags::NOFOLLOW).and_then(|fd| reopen(&fd)),
        other => other,
    };
    Ok(File::from(
        fd.context("openat2", || format!("layer, {path:?}"))?,
    ))
}

/// The image's mode may keep its owner, who is not root, from reading a file.
fn reopen(held: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", held.as_raw_fd());
    let mode = Mode::from_raw_mode(rustix::fs::fstat(held)?.st_mode & 0o7777);
    rustix::fs::chmod(path.as_str(), mode | Mode::RUSR)?;
    let opened = openat(
        CWD,
        path.as_str(),
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    );
    rustix::fs::chmod(path.as_str(), mode)?;
    opened
}
