//! Output of containers: into the log, and to those who follow it.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice, tee};
use sys::{Context as _, Errno};

use super::Supervisor;
use super::connection::Caller;
use super::container::Container;
use super::poller::{Poller, Source, Token};
use crate::protocol::{Attach, Kind, Part, Phase, Reply, Stdin};
use crate::{Error, Result};

/// What is looked at at once.
const CHUNK: usize = 32 * 1024;
/// How often one output is looked at before it is the others' turn.
const ROUNDS: u32 = 8;
/// How much a follower may lag behind.
const FOLLOWER_PIPE: usize = 1 << 20;

/// An output of a container.
#[derive(Debug)]
pub(super) struct Output {
    pub fd: OwnedFd,
    pub token: Option<Token>,
    pub is_terminal: bool,
    /// The beginning of a line was left where it is, to be taken at the next look.
    left: bool,
}

impl Output {
    pub fn new(fd: OwnedFd, is_terminal: bool) -> Self {
        Self {
            fd,
            token: None,
            is_terminal,
            left: false,
        }
    }
}

/// A client that follows the output: the write ends of its pipes.
#[derive(Debug)]
pub(super) struct Follower {
    pipes: [Option<(OwnedFd, Option<Token>)>; 2],
}

impl Follower {
    pub fn remove(self, poller: &mut Poller) {
        for (fd, token) in self.pipes.into_iter().flatten() {
            if let Some(token) = token {
                poller.remove(&fd, token);
            }
        }
    }
}

/// What a look at an output has found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Found {
    Something,
    /// Nothing for now.
    Nothing,
    /// Its end.
    End,
}

impl Supervisor {
    /// An output is readable.
    pub(super) fn on_output(&mut self, key: u64, stream: usize) {
        self.pump(key, stream, ROUNDS, false);
        self.settle(key);
    }

    /// Takes all that is there, for a container that has ended.
    pub(super) fn drain(&mut self, key: u64) {
        for stream in 0..2 {
            // Whoever still writes must not keep us here: that is more than a pipe holds.
            self.pump(key, stream, 64, true);
        }
    }

    fn pump(&mut self, key: u64, stream: usize, rounds: u32, all: bool) {
        for _ in 0..rounds {
            match self.look(key, stream, all) {
                Found::Something => {}
                Found::Nothing => return,
                Found::End => return self.close_output(key, stream),
            }
        }
    }

    fn look(&mut self, key: u64, stream: usize, all: bool) -> Found {
        let Some(container) = self.containers.get_mut(&key) else {
            return Found::Nothing;
        };
        let Some(output) = container.outputs.get(stream).and_then(Option::as_ref) else {
            return Found::Nothing;
        };
        let mut buffer = Vec::with_capacity(CHUNK);
        let found = if output.is_terminal {
            take(&output.fd, &mut buffer)
        } else {
            peek(&output.fd, &self.side, &mut buffer)
        };
        if found != Found::Something {
            return found;
        }
        let is_terminal = output.is_terminal;
        let all = all || output.left || is_terminal;
        let taken = match &mut container.log {
            Some(log) => {
                let before = log.trouble.is_some();
                let taken = log.write(stream, &buffer, all);
                let trouble = log.trouble.clone().filter(|_| !before);
                if let Some(trouble) = trouble {
                    let id = self.id_of(key);
                    self.announce(&id, crate::protocol::What::LogTrouble(trouble));
                }
                taken
            }
            None => buffer.len(),
        };
        let data = buffer.get(..taken).unwrap_or_default();
        self.pass_on(key, stream, data);
        let left = taken < buffer.len();
        let container = self.containers.get_mut(&key);
        if let Some(output) = container.and_then(|c| c.outputs.get_mut(stream)?.as_mut()) {
            output.left = left;
            if !is_terminal {
                discard(output.fd.as_fd(), taken, self.null.as_fd());
            }
        }
        if left {
            Found::Nothing
        } else {
            Found::Something
        }
    }

    fn close_output(&mut self, key: u64, stream: usize) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        let Some(output) = container.outputs.get_mut(stream).and_then(Option::take) else {
            return;
        };
        if let Some(token) = output.token {
            self.poller.remove(&output.fd, token);
        }
        if let Some(log) = &mut container.log {
            log.end(stream);
        }
        for follower in container.followers.values_mut() {
            if let Some((fd, Some(token))) = follower.pipes.get_mut(stream).and_then(Option::take) {
                self.poller.remove(&fd, token);
            }
        }
    }

    /// Gives output to the followers. One whose pipe is full is cut off.
    fn pass_on(&mut self, key: u64, stream: usize, data: &[u8]) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        let mut slow = Vec::new();
        for (name, follower) in &container.followers {
            let Some((fd, _)) = follower.pipes.get(stream).and_then(Option::as_ref) else {
                continue;
            };
            let written = rustix::io::retry_on_intr(|| rustix::io::write(fd, data));
            if written != Ok(data.len()) {
                slow.push(*name);
            }
        }
        for name in slow {
            self.drop_follower(key, name);
        }
    }

    pub(super) fn drop_follower(&mut self, key: u64, name: u64) {
        if let Some(container) = self.containers.get_mut(&key)
            && let Some(follower) = container.followers.remove(&name)
        {
            follower.remove(&mut self.poller);
        }
    }

    /// A client wants to follow a container.
    pub(super) fn attach(&mut self, caller: Caller, wish: &Attach) -> Result<()> {
        let key = self.by_id(&wish.id)?;
        let name = self.next_key();
        let container = self.containers.get_mut(&key);
        let container = container.ok_or_else(|| super::not_found(&wish.id))?;
        if container.status.phase == Phase::Exited {
            let text = format!("container {:?} has ended", wish.id);
            return Err(Error::of_kind(Kind::WrongState, text));
        }
        let mut follower = Follower {
            pipes: [None, None],
        };
        let mut parts: Vec<(Part, OwnedFd)> = Vec::new();
        let wanted = [(wish.stdout, Part::Stdout), (wish.stderr, Part::Stderr)];
        for (stream, (wanted, part)) in wanted.into_iter().enumerate() {
            if wanted && container.outputs[stream].is_some() {
                let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC).context("pipe2", || "")?;
                let flags = rustix::fs::fcntl_getfl(&ours).context("fcntl", || "F_GETFL")?;
                rustix::fs::fcntl_setfl(&ours, flags | OFlags::NONBLOCK)
                    .context("fcntl", || "F_SETFL")?;
                // There is a limit for all pipes of a user; a smaller one does too.
                let _ = fcntl_setpipe_size(&ours, FOLLOWER_PIPE);
                follower.pipes[stream] = Some((ours, None));
                parts.push((part, theirs));
            }
        }
        if wish.stdin
            && let Some(fd) = take_stdin(container)?
        {
            parts.push((Part::Stdin, fd));
        }
        for (fd, token) in follower.pipes.iter_mut().flatten() {
            *token = self.poller.add(fd, Source::Follower(key, name), true).ok();
        }
        container.followers.insert(name, follower);
        let names: Vec<Part> = parts.iter().map(|(part, _)| *part).collect();
        let fds: Vec<BorrowedFd<'_>> = parts.iter().map(|(_, fd)| fd.as_fd()).collect();
        self.reply_with(caller, Reply::Attached(names), &fds);
        Ok(())
    }
}

/// What writes to the container's input, for a client to have.
fn take_stdin(container: &mut Container) -> Result<Option<OwnedFd>> {
    if let Some(output) = container.outputs[0].as_ref().filter(|o| o.is_terminal) {
        return super::duplicate(&output.fd).map(Some);
    }
    if container.status.create.stdin == Stdin::Once {
        return Ok(container.stdin.take());
    }
    container.stdin.as_ref().map(super::duplicate).transpose()
}

/// Reads what is there.
fn take(fd: &OwnedFd, buffer: &mut Vec<u8>) -> Found {
    let read = rustix::io::retry_on_intr(|| {
        buffer.clear();
        rustix::io::read(fd, rustix::buffer::spare_capacity(buffer))
    });
    match read {
        Ok(0) => Found::End,
        Ok(_) => Found::Something,
        Err(Errno::AGAIN) => Found::Nothing,
        // A terminal says so when its other side is closed.
        Err(_) => Found::End,
    }
}

/// Reads what is there, and leaves it there: if this process were killed before it is written
/// down, the next one would find it.
fn peek(fd: &OwnedFd, side: &(OwnedFd, OwnedFd), buffer: &mut Vec<u8>) -> Found {
    let copied = rustix::io::retry_on_intr(|| tee(fd, &side.1, CHUNK, SpliceFlags::NONBLOCK));
    match copied {
        Ok(0) => return Found::End,
        Ok(_) => {}
        Err(Errno::AGAIN) => return Found::Nothing,
        Err(_) => return Found::End,
    }
    take(&side.0, buffer)
}

/// Takes what was read.
fn discard(fd: BorrowedFd<'_>, mut bytes: usize, null: BorrowedFd<'_>) {
    while bytes > 0 {
        match splice(fd, None, null, None, bytes, SpliceFlags::NONBLOCK) {
            Ok(n) if n > 0 => bytes = bytes.saturating_sub(n),
            Err(Errno::INTR) => {}
            _ => return,
        }
    }
}
