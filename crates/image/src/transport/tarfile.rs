//! Tar files as containers of files: read by position, written in one go.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Mode, OFlags};

use super::files::{BUFFER, at};
use crate::layer::{EntryKind, EntryPath, tar};
use crate::{Error, Result};

const BLOCK: u64 = 512;
/// Most files in an archive of images.
const ENTRIES: usize = 100_000;
const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// A tar file and where its files are in it.
#[derive(Debug)]
pub struct TarFile {
    file: Arc<File>,
    entries: HashMap<EntryPath, Found>,
}

#[derive(Clone, Debug)]
enum Found {
    File { at: u64, size: u64 },
    Link(EntryPath),
}

/// A part of a file.
#[derive(Debug)]
pub struct Part {
    file: Arc<File>,
    at: u64,
    left: u64,
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let n = self
            .file
            .read_at(buffer.get_mut(..want).unwrap_or_default(), self.at)?;
        if n == 0 && want > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += n as u64;
        self.left -= n as u64;
        Ok(n)
    }
}

impl TarFile {
    /// Opens an archive, compressed or not, and reads its headers.
    ///
    /// # Errors
    /// Not readable, or not an honest tar file.
    pub fn open(path: &Path) -> Result<Self> {
        let file = inflated(path)?;
        let position = Arc::new(AtomicU64::new(0));
        let mut reader = tar::Reader::new(Counted {
            inner: io::BufReader::with_capacity(BUFFER, &file),
            position: Arc::clone(&position),
        });
        let mut entries = HashMap::new();
        while let Some(entry) = reader.next_entry()? {
            let at = position.load(Ordering::Relaxed);
            let found = match entry.kind {
                EntryKind::File { size, extents } if extents.len() <= 1 => Found::File { at, size },
                EntryKind::Hardlink { target } => Found::Link(target),
                EntryKind::Symlink { target } => match relative(&entry.path, &target) {
                    Some(target) => Found::Link(target),
                    None => continue,
                },
                _ => continue,
            };
            entries.insert(entry.path, found);
            if entries.len() > ENTRIES {
                return Err(Error::Document {
                    what: "archive",
                    why: format!("{}: more than {ENTRIES} files", path.display()),
                });
            }
        }
        Ok(Self {
            file: Arc::new(file),
            entries,
        })
    }

    /// The file called `name`, through links.
    pub fn find(&self, name: &str) -> Option<Part> {
        let mut path = EntryPath::parse(name.as_bytes()).ok()?;
        for _ in 0..8 {
            match self.entries.get(&path)? {
                Found::File { at, size } => {
                    return Some(Part {
                        file: Arc::clone(&self.file),
                        at: *at,
                        left: *size,
                    });
                }
                Found::Link(to) => path = to.clone(),
            }
        }
        None
    }

    /// Reads a whole file of at most `limit` bytes.
    ///
    /// # Errors
    /// Not there or larger.
    pub fn read(&self, name: &str, limit: u64) -> Result<Vec<u8>> {
        let mut part = self.find(name).ok_or_else(|| Error::Missing {
            what: name.to_owned(),
            why: "not in the archive".to_owned(),
        })?;
        if part.left > limit {
            return Err(Error::Document {
                what: "archive",
                why: format!("{name} has {} bytes; {limit} are allowed", part.left),
            });
        }
        let mut bytes = Vec::new();
        part.read_to_end(&mut bytes).map_err(|source| Error::Io {
            what: format!("read {name} in an archive"),
            source,
        })?;
        Ok(bytes)
    }
}

impl Part {
    /// Bytes that are left.
    pub const fn len(&self) -> u64 {
        self.left
    }

    /// Whether it begins as gzip or zstd data do.
    pub fn is_compressed(&self) -> io::Result<bool> {
        let mut magic = [0; 4];
        let n = self.file.read_at(&mut magic, self.at)?;
        let magic = magic.get(..n).unwrap_or_default();
        Ok(magic.starts_with(&GZIP) || magic == ZSTD)
    }
}

/// Old `docker save` links a layer that is there twice: `../ID/layer.tar`.
fn relative(from: &EntryPath, target: &[u8]) -> Option<EntryPath> {
    let mut components = from.parent().components().to_vec();
    for component in target.split(|&b| b == b'/') {
        match component {
            b"" | b"." => {}
            b".." => {
                components.pop()?;
            }
            name => components.push(name.to_vec()),
        }
    }
    EntryPath::parse(&components.join(&b'/')).ok()
}

struct Counted<R> {
    inner: R,
    position: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.position.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

/// The file itself, or an unnamed file with its inflated content.
fn inflated(path: &Path) -> Result<File> {
    let mut file = File::open(path).map_err(at("open", path))?;
    let mut magic = [0; 4];
    let n = file.read_at(&mut magic, 0).map_err(at("read", path))?;
    let magic = magic.get(..n).unwrap_or_default();
    let mut reader: Box<dyn Read> = if magic.starts_with(&GZIP) {
        Box::new(flate2::read::MultiGzDecoder::new(io::BufReader::new(file)))
    } else if magic == ZSTD {
        Box::new(zstd::Decoder::new(file).map_err(at("inflate", path))?)
    } else {
        file.rewind().map_err(at("read", path))?;
        return Ok(file);
    };
    let dir = std::env::temp_dir();
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let unnamed = rustix::fs::open(&dir, flags, Mode::RUSR | Mode::WUSR);
    let mut unnamed = File::from(unnamed.map_err(|e| at("create a file in", &dir)(e.into()))?);
    io::copy(&mut reader, &mut unnamed).map_err(at("inflate", path))?;
    unnamed
        .seek(SeekFrom::Start(0))
        .map_err(at("inflate", path))?;
    Ok(unnamed)
}

/// Writes regular files into a tar stream: owned by root, time 0, so that the same images give
/// the same archive.
pub struct TarWriter<W>(pub W);

impl<W: Write> TarWriter<W> {
    /// Adds a file of `size` bytes. `name` has at most 100 bytes.
    pub fn file(&mut self, name: &str, size: u64, data: &mut dyn Read) -> io::Result<()> {
        self.0.write_all(&header(name, b'0', 0o644, size)?)?;
        let copied = io::copy(&mut data.take(size), &mut self.0)?;
        if copied != size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let padding = usize::try_from((BLOCK - size % BLOCK) % BLOCK).unwrap_or(0);
        let zeros = [0; 512];
        self.0.write_all(zeros.get(..padding).unwrap_or_default())
    }

    /// Adds a directory.
    pub fn directory(&mut self, name: &str) -> io::Result<()> {
        self.0
            .write_all(&header(&format!("{name}/"), b'5', 0o755, 0)?)
    }

    /// Ends the archive.
    pub fn finish(mut self) -> io::Result<W> {
        self.0.write_all(&[0; 1024])?;
        Ok(self.0)
    }
}

fn header(name: &str, kind: u8, mode: u32, size: u64) -> io::Result<[u8; 512]> {
    let mut block = [0_u8; 512];
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(field) = block.get_mut(at..at + bytes.len()) {
            field.copy_from_slice(bytes);
        }
    };
    if name.len() > 100 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "name longer than 100 bytes",
        ));
    }
    put(0, name.as_bytes());
    put(100, format!("{mode:07o}").as_bytes());
    put(108, b"0000000");
    put(116, b"0000000");
    if size < 1 << 33 {
        put(124, format!("{size:011o}").as_bytes());
    } else {
        // GNU's and POSIX's common extension: binary, the top bit set.
        put(124, &[0x80, 0, 0, 0]);
        put(128, &size.to_be_bytes());
    }
    put(136, b"00000000000");
    put(148, b"        ");
    put(156, &[kind]);
    put(257, b"ustar\x0000");
    let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
    if let Some(field) = block.get_mut(148..156) {
        field.copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    Ok(block)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.tar");
        let mut writer = TarWriter(File::create(&path).unwrap());
        writer.directory("d").unwrap();
        writer.file("d/one", 3, &mut &b"abc"[..]).unwrap();
        writer.file("two", 512, &mut &[7; 600][..]).unwrap();
        assert!(writer.file("three", 9, &mut &b"short"[..]).is_err());
        let mut writer = TarWriter(File::create(&path).unwrap());
        writer.directory("d").unwrap();
        writer.file("d/one", 3, &mut &b"abc"[..]).unwrap();
        writer.file("two", 512, &mut &[7; 600][..]).unwrap();
        writer.finish().unwrap();
        let tar = TarFile::open(&path).unwrap();
        assert_eq!(tar.read("d/one", 9).unwrap(), b"abc");
        assert_eq!(tar.read("./two", 512).unwrap(), [7; 512]);
        assert!(tar.read("two", 511).is_err());
        assert!(tar.find("d").is_none() && tar.find("three").is_none());
        let listed = std::process::Command::new("tar")
            .arg("-tf")
            .arg(&path)
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&listed.stdout), "d/\nd/one\ntwo\n");
    }

    #[test]
    fn sizes_beyond_octal() {
        let block = header("x", b'0', 0o644, 1 << 40).unwrap();
        let mut reader = tar::Reader::new(&block[..]);
        let entry = reader.next_entry().unwrap().unwrap();
        assert!(matches!(entry.kind, EntryKind::File { size, .. } if size == 1 << 40));
    }

    #[test]
    fn links_stay_inside() {
        let from = EntryPath::parse(b"a/layer.tar").unwrap();
        let to = relative(&from, b"../b/layer.tar").unwrap();
        assert_eq!(to, EntryPath::parse(b"b/layer.tar").unwrap());
        assert_eq!(relative(&from, b"../../etc/passwd"), None);
    }
}
