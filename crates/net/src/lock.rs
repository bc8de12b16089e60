//! Locks that hold between processes and between threads: flock(2) on a file opened anew.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use sys::Context as _;

use crate::Result;

/// A lock that is held; it is let go when this is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    path: PathBuf,
    /// Whether there was no file of that name before.
    fresh: bool,
    _file: File,
}

impl Lock {
    /// Waits for the lock.
    pub(crate) fn acquire(path: &Path) -> Result<Self> {
        loop {
            if let Some(lock) = Self::attempt(path, FlockOperation::LockExclusive)? {
                return Ok(lock);
            }
        }
    }

    /// Waits until no one has the lock for himself, and shares it.
    pub(crate) fn share(path: &Path) -> Result<Self> {
        loop {
            if let Some(lock) = Self::attempt(path, FlockOperation::LockShared)? {
                return Ok(lock);
            }
        }
    }

    /// The lock, unless someone holds it.
    pub(crate) fn try_acquire(path: &Path) -> Result<Option<Self>> {
        Self::attempt(path, FlockOperation::NonBlockingLockExclusive)
    }

    /// None where it is held, or where the file was removed before we had it.
    fn attempt(path: &Path, operation: FlockOperation) -> Result<Option<Self>> {
        let name = || path.display().to_string();
        let mut options = OpenOptions::new();
        options.write(true).mode(0o600);
        let made = options.clone().create_new(true).open(path);
        let fresh = made.is_ok();
        let file = made
            .or_else(|_| options.create(true).open(path))
            .context("open", name)?;
        match flock(&file, operation) {
            Err(Errno::WOULDBLOCK | Errno::INTR) => return Ok(None),
            other => other.context("flock", name)?,
        }
        let ours = file.metadata().context("fstat", name)?;
        let there = fs::symlink_metadata(path);
        let same = there.is_ok_and(|t| (t.dev(), t.ino()) == (ours.dev(), ours.ino()));
        Ok(same.then(|| Self {
            path: path.to_owned(),
            fresh,
            _file: file,
        }))
    }

    /// Whether we are the first to take it since it was removed.
    pub(crate) fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// Lets go and removes the file: there is nothing left to guard.
    pub(crate) fn remove(self) {
        // Who waits for it sees that it is gone, and begins again.
        let _ = fs::remove_file(&self.path);
    }
}
