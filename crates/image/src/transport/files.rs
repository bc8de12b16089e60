//! Files of layouts and archives: written under another name, renamed when whole.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::document::Descriptor;
use crate::{Algorithm, Digest, Error, Hasher, Result};

/// Size of the buffers between readers and writers.
pub const BUFFER: usize = 256 << 10;

/// An [`Error::Io`] about a path.
pub fn at(what: &str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let what = format!("{what} {}", path.display());
    move |source| Error::Io { what, source }
}

/// A file that vanishes unless it is given its name.
#[derive(Debug)]
pub struct Pending {
    file: File,
    path: PathBuf,
    named: bool,
}

impl Pending {
    /// Makes a file in `dir`, readable by all: it gets a public name later.
    pub fn create(dir: &Path) -> Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = dir.join(format!(".hull-{}-{n}.part", std::process::id()));
        let file = File::create_new(&path).map_err(at("create", &path))?;
        Ok(Self {
            file,
            path,
            named: false,
        })
    }

    /// The open file.
    pub const fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Gives the file its name, in place of what had it.
    pub fn rename(mut self, to: &Path) -> Result<()> {
        std::fs::rename(&self.path, to).map_err(at("write", to))?;
        self.named = true;
        Ok(())
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.named {
            // Best effort: the error that led here is the one to report.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Writes `bytes` to `path` in one step, as others see it.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let dir = path.parent().unwrap_or_else(|| Path::new("."));
    let mut pending = Pending::create(dir)?;
    pending.file().write_all(bytes).map_err(at("write", path))?;
    pending.rename(path)
}

/// Copies a blob into a new file below `dir`, which [`Pending::rename`] then names.
pub fn receive(
    dir: &Path,
    expected: Option<&Descriptor>,
    data: &mut dyn Read,
) -> Result<(Pending, Digest, u64)> {
    let mut pending = Pending::create(dir)?;
    let what = at("write a blob below", dir);
    let (digest, size) = copy_hashed(expected, data, pending.file()).map_err(what)?;
    Ok((pending, digest, size))
}

/// Copies and computes the digest; with `expected`, other bytes are an error.
pub fn copy_hashed(
    expected: Option<&Descriptor>,
    data: &mut dyn Read,
    to: &mut dyn Write,
) -> io::Result<(Digest, u64)> {
    let algorithm = expected.map_or(Algorithm::Sha256, |d| d.digest.algorithm());
    let mut hasher = Hasher::new(algorithm);
    let mut buffer = vec![0; BUFFER];
    let mut size = 0_u64;
    loop {
        let n = match data.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        let part = buffer.get(..n).unwrap_or_default();
        size += n as u64;
        if expected.is_some_and(|d| size > d.size) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "blob longer than its descriptor says",
            ));
        }
        hasher.update(part);
        to.write_all(part)?;
    }
    let digest = hasher.finish();
    match expected {
        Some(d) if d.digest != digest || d.size != size => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "blob {} of {} bytes is {digest} of {size} bytes",
                d.digest, d.size
            ),
        )),
        _ => Ok((digest, size)),
    }
}

/// Reads a whole file of at most `limit` bytes.
pub fn read_limited(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(at("open", path))?;
    let mut bytes = Vec::new();
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(at("read", path))?;
    if bytes.len() as u64 > limit {
        return Err(Error::Document {
            what: "file",
            why: format!("{} is larger than {limit} bytes", path.display()),
        });
    }
    Ok(bytes)
}
