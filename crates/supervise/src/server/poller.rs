//! epoll(7), with what each descriptor is for.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{Timespec, epoll};
use sys::{Context as _, Errno};

use crate::Result;

/// Most events taken at once.
const BATCH: usize = 32;

/// What a descriptor is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Source {
    Listener,
    Signals,
    Connection(u64),
    /// The pidfd of a worker.
    Worker(u64),
    /// What a worker says.
    Word(u64),
    /// The process of a container that is being started.
    Start(u64),
    /// The pidfd of a container's first process.
    Container(u64),
    /// An output of a container.
    Output(u64, usize),
    /// The memory of a container.
    Oom(u64),
    /// A follower of a container.
    Follower(u64, u64),
    /// The pidfd of a command.
    Exec(u64),
    /// An output of a command.
    Captured(u64, usize),
}

/// Names a registration.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Token(u64);

/// The set of descriptors that are waited for.
#[derive(Debug)]
pub(super) struct Poller {
    epoll: OwnedFd,
    sources: BTreeMap<u64, Source>,
    last: u64,
}

impl Poller {
    pub fn new() -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("epoll_create1", || "")?;
        Ok(Self {
            epoll,
            sources: BTreeMap::new(),
            last: 0,
        })
    }

    /// Waits for it to become readable; with `only_errors`, for its other end to go.
    pub fn add(&mut self, fd: impl AsFd, source: Source, only_errors: bool) -> Result<Token> {
        self.last += 1;
        let flags = if only_errors {
            epoll::EventFlags::empty()
        } else {
            epoll::EventFlags::IN
        };
        let data = epoll::EventData::new_u64(self.last);
        epoll::add(&self.epoll, fd, data, flags).context("epoll_ctl", || format!("{source:?}"))?;
        self.sources.insert(self.last, source);
        Ok(Token(self.last))
    }

    /// Stops waiting. Must come before the descriptor is closed: others may hold a duplicate, and
    /// then closing it is not enough.
    pub fn remove(&mut self, fd: impl AsFd, token: Token) {
        if self.sources.remove(&token.0).is_some() {
            // It cannot fail for one that was added.
            let _ = epoll::delete(&self.epoll, fd);
        }
    }

    /// Waits, at most so long. Who is to `rest` gives back memory before.
    pub fn wait(&self, limit: Option<Duration>, rest: bool) -> Result<Vec<Source>> {
        let limit = limit.and_then(|l| Timespec::try_from(l).ok());
        let mut events = Vec::with_capacity(BATCH);
        let buffer = rustix::buffer::spare_capacity(&mut events);
        if rest {
            sys::idle::rest(&self.epoll)?;
        }
        match epoll::wait(&self.epoll, buffer, limit.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(sys::Error::new("epoll_wait", "", e).into()),
        }
        let ready = events.iter().filter_map(|event| {
            // One may have been removed on behalf of another of the same batch.
            self.sources.get(&event.data.u64()).copied()
        });
        Ok(ready.collect())
    }

    /// Whether it is still waited for.
    pub fn has(&self, source: Source) -> bool {
        self.sources.values().any(|s| *s == source)
    }
}
