//! Calls about files that rustix lacks.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::{Context as _, Errno, Error, Result};

/// No file that is read here is longer.
const MAX: usize = 64 << 20;
/// The kernel makes most of its files anew for each read that does not begin where the last one
/// ended, and this holds nearly all of them at once.
const FIRST: usize = 4096;

/// Reads a file of the kernel's, in few and large reads. Such a file does not tell its size, and
/// what the standard library does then is to ask in vain and to begin with 32 bytes.
///
/// # Errors
/// open(2)'s, read(2)'s; EFBIG for more than 64 MiB.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    let describe = || path.display().to_string();
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, Mode::empty()).context("open", describe)?;
    read_fd(fd.as_fd(), describe)
}

/// Reads a file of the kernel's as text. What is not UTF-8 (a mount point can be anything) is
/// replaced.
///
/// # Errors
/// As for [`read`].
pub fn read_text(path: &Path) -> Result<String> {
    read(path).map(into_text)
}

/// Reads an open file of the kernel's to its end.
///
/// # Errors
/// read(2)'s; EFBIG for more than 64 MiB.
pub fn read_fd(fd: BorrowedFd<'_>, describe: impl Fn() -> String) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(FIRST);
    loop {
        if bytes.len() >= MAX {
            return Err(Error::new("read", describe(), Errno::FBIG));
        }
        if bytes.capacity() - bytes.len() < FIRST / 2 {
            bytes.reserve(bytes.len().max(FIRST));
        }
        match rustix::io::read(fd, rustix::buffer::spare_capacity(&mut bytes)) {
            Ok(0) => return Ok(bytes),
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(Error::new("read", describe(), e)),
        }
    }
}

/// Text of which what is not UTF-8 is replaced.
#[must_use]
pub fn into_text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}

/// sync_file_range(2) with SYNC_FILE_RANGE_WRITE: begins to write a range to disk and does not
/// wait. Only a hint, so that a failure is none.
pub fn start_writeback(fd: BorrowedFd<'_>, offset: u64, len: u64) {
    let (Ok(offset), Ok(len)) = (i64::try_from(offset), i64::try_from(len)) else {
        return;
    };
    // SAFETY: integers only; the descriptor is borrowed for the call.
    unsafe {
        libc::sync_file_range(fd.as_raw_fd(), offset, len, libc::SYNC_FILE_RANGE_WRITE);
    }
}
