//! Waiting for the OOM killer.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::io::Errno;
use sys::Context;

use crate::dir::Dir;
use crate::error::Result;
use crate::{parse, v1, v2};

/// A descriptor to poll(2) for reading, and what to do when it is readable.
#[derive(Debug)]
pub struct OomWatch {
    fd: OwnedFd,
    path: PathBuf,
    /// Version 2: how many kills are known.
    seen: Option<u64>,
}

/// What a readable [`OomWatch`] meant.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OomEvent {
    /// Nothing of interest.
    None,
    /// The group ran out of memory.
    Oom,
    /// The group has gone, or nobody is in it any more: there is nothing left to watch.
    Gone,
}

impl OomWatch {
    pub(crate) fn v1(dir: &Dir) -> Result<Self> {
        Ok(Self {
            fd: v1::oom::watch(dir)?,
            path: dir.path().to_owned(),
            seen: None,
        })
    }

    pub(crate) fn v2(dir: &Dir) -> Result<Self> {
        let fd = v2::oom::watch(dir)?;
        Ok(Self {
            fd,
            path: dir.path().to_owned(),
            seen: Some(v2::oom::kills(dir)?.unwrap_or(0)),
        })
    }

    /// Takes what is there; does not block.
    ///
    /// # Errors
    /// A read that failed.
    pub fn take(&mut self) -> Result<OomEvent> {
        let mut buffer = [0_u8; 4096];
        match rustix::io::read(&self.fd, &mut buffer) {
            Ok(_) => {}
            Err(Errno::AGAIN | Errno::INTR) => return Ok(OomEvent::None),
            Err(e) => Err(e).context("read", || "OOM notifications")?,
        }
        let dir = Dir::new(&self.path);
        if !dir.exists() {
            return Ok(OomEvent::Gone);
        }
        let Some(seen) = &mut self.seen else {
            return Ok(OomEvent::Oom);
        };
        let kills = v2::oom::kills(&dir)?.unwrap_or(0);
        if kills > *seen {
            *seen = kills;
            return Ok(OomEvent::Oom);
        }
        let events = dir.read_opt("cgroup.events")?;
        let populated = events.and_then(|t| parse::field(&t, "populated"));
        Ok(match populated {
            Some(1) => OomEvent::None,
            _ => OomEvent::Gone,
        })
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
