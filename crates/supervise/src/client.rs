//! The other end of a supervisor's socket.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};
use sys::{Context as _, Errno};

use crate::protocol::{
    Adopt, Answer, Attach, Call, Create, Delete, Event, Exec, ExecSync, Output, Part, Process,
    Reply, Request, Signal, Status, Stop,
};
use crate::{Error, Result, SOCKET, packet};

/// A connection to a supervisor. One that is made per call costs little, and lets calls that
/// wait (stop, exec) wait beside each other.
#[derive(Debug)]
pub struct Client {
    socket: OwnedFd,
    path: PathBuf,
    last: u64,
    events: VecDeque<Event>,
}

/// A command that runs; its end comes over the connection that started it.
#[derive(Debug)]
pub struct Running {
    /// Its process.
    pub process: Process,
    /// The master of its terminal.
    pub terminal: Option<OwnedFd>,
    /// Of its process.
    pub pidfd: Option<OwnedFd>,
    number: u64,
}

/// The output of a command, read.
#[derive(Debug)]
pub struct Collected {
    /// How it went.
    pub output: Output,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

/// Descriptors that came with a reply, by what they are.
pub type Parts = Vec<(Part, OwnedFd)>;

impl Client {
    /// Connects to the supervisor of the pod whose directory this is.
    ///
    /// # Errors
    /// connect(2)'s: ENOENT and ECONNREFUSED where there is none.
    pub fn connect(dir: &Path) -> Result<Self> {
        let path = dir.join(SOCKET);
        let args = || path.display().to_string();
        let socket = socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .context("socket", || "AF_UNIX, SOCK_SEQPACKET")?;
        let (_directory, address) = runtime::console::unix_address(&path)?;
        connect(&socket, &address).context("connect", args)?;
        Ok(Self {
            socket,
            path,
            last: 0,
            events: VecDeque::new(),
        })
    }

    /// Sends a request without waiting; the number that its replies will have.
    ///
    /// # Errors
    /// sendmsg(2)'s.
    pub fn send(&mut self, request: Request, fds: &[BorrowedFd<'_>]) -> Result<u64> {
        self.last += 1;
        let number = self.last;
        let sent = packet::send(self.socket.as_fd(), &Call { number, request }, fds);
        sent.map_err(|e| self.or_gone(e))?;
        Ok(number)
    }

    /// Waits for the next answer of any kind.
    ///
    /// # Errors
    /// [`Error::Gone`], recvmsg(2)'s (EAGAIN on a socket that does not block).
    pub fn receive(&mut self) -> Result<(Answer, Vec<OwnedFd>)> {
        match packet::receive(self.socket.as_fd()) {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(self.gone()),
            Err(e) => Err(self.or_gone(e)),
        }
    }

    /// Waits for a reply to the call of this number; events that come meanwhile are kept for
    /// [`Client::next_event`].
    ///
    /// # Errors
    /// [`Error::Failed`] with what the supervisor says, and those of [`Client::receive`].
    pub fn reply(&mut self, number: u64) -> Result<(Reply, Vec<OwnedFd>)> {
        loop {
            match self.receive()? {
                (Answer::Reply(n, Reply::Failed(failure)), _) if n == number => {
                    return Err(Error::Failed(failure));
                }
                (Answer::Reply(n, reply), fds) if n == number => return Ok((reply, fds)),
                (Answer::Event(event), _) => self.events.push_back(event),
                // To a call whose caller has given up.
                (Answer::Reply(..), _) => {}
            }
        }
    }

    fn call(&mut self, request: Request, fds: &[BorrowedFd<'_>]) -> Result<(Reply, Vec<OwnedFd>)> {
        let number = self.send(request, fds)?;
        self.reply(number)
    }

    fn done(&mut self, request: Request) -> Result<()> {
        self.call(request, &[]).map(drop)
    }

    /// Makes a container. The descriptors are what another supervisor would need; keep them.
    ///
    /// # Errors
    /// What the runtime says.
    pub fn create(&mut self, create: Create) -> Result<(Process, Parts)> {
        match self.call(Request::Create(Box::new(create)), &[])? {
            (Reply::Created(process), fds) => {
                let parts = process.parts.iter().copied().zip(fds).collect();
                Ok((process, parts))
            }
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Starts a created container.
    ///
    /// # Errors
    /// What the runtime says; [`crate::protocol::Kind::Program`] where the program cannot be run.
    pub fn start(&mut self, id: &str) -> Result<()> {
        self.done(Request::Start(id.to_owned()))
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// The container does not run.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        self.done(Request::Signal(signal))
    }

    /// Stops a container, and waits until it has ended.
    ///
    /// # Errors
    /// It does not end: the message names the process that is stuck and where.
    pub fn stop(&mut self, stop: Stop) -> Result<()> {
        self.done(Request::Stop(stop))
    }

    /// Unmakes a container.
    ///
    /// # Errors
    /// It runs and there is no `force`; or what could not be undone.
    pub fn delete(&mut self, id: &str, force: bool) -> Result<()> {
        let id = id.to_owned();
        self.done(Request::Delete(Delete { id, force }))
    }

    /// Runs a command with these descriptors in the order of `exec.parts`.
    ///
    /// # Errors
    /// What the runtime says.
    pub fn exec(&mut self, exec: Exec, fds: &[BorrowedFd<'_>]) -> Result<Running> {
        let number = self.send(Request::Exec(Box::new(exec)), fds)?;
        match self.reply(number)? {
            (Reply::Started(process), fds) => {
                let mut running = Running {
                    process,
                    terminal: None,
                    pidfd: None,
                    number,
                };
                for (part, fd) in running.process.parts.iter().zip(fds) {
                    match part {
                        Part::Terminal => running.terminal = Some(fd),
                        _ => running.pidfd = Some(fd),
                    }
                }
                Ok(running)
            }
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Waits for the end of a command.
    ///
    /// # Errors
    /// The supervisor has gone.
    pub fn ended(&mut self, running: &Running) -> Result<crate::protocol::Ended> {
        match self.reply(running.number)? {
            (Reply::Ended(ended), _) => Ok(ended),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Runs a command and collects its output.
    ///
    /// # Errors
    /// What the runtime says. A deadline that passes is no error.
    pub fn exec_sync(&mut self, exec: ExecSync) -> Result<Collected> {
        match self.call(Request::ExecSync(Box::new(exec)), &[])? {
            (Reply::Output(output), fds) => {
                let mut collected = Collected {
                    output,
                    stdout: Vec::new(),
                    stderr: Vec::new(),
                };
                for (part, fd) in collected.output.parts.iter().zip(fds) {
                    let bytes = packet::contents(fd)?;
                    match part {
                        Part::Stderr => collected.stderr = bytes,
                        _ => collected.stdout = bytes,
                    }
                }
                Ok(collected)
            }
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Attaches to a container: read ends of pipes for its outputs (a reader that lets such a
    /// pipe fill up is cut off), and what writes to its input.
    ///
    /// # Errors
    /// There is no such container, or nothing to attach to.
    pub fn attach(&mut self, attach: Attach) -> Result<Parts> {
        match self.call(Request::Attach(attach), &[])? {
            (Reply::Attached(parts), fds) => Ok(parts.into_iter().zip(fds).collect()),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Sets the size of a container's terminal.
    ///
    /// # Errors
    /// It has none.
    pub fn resize(&mut self, id: &str, rows: u16, columns: u16) -> Result<()> {
        self.done(Request::Resize(id.to_owned(), rows, columns))
    }

    /// Has the log opened again.
    ///
    /// # Errors
    /// open(2)'s; what is written meanwhile goes on to the old file.
    pub fn reopen_log(&mut self, id: &str) -> Result<()> {
        self.done(Request::ReopenLog(id.to_owned()))
    }

    /// All containers.
    ///
    /// # Errors
    /// The supervisor has gone.
    pub fn list(&mut self) -> Result<Vec<Status>> {
        match self.call(Request::List, &[])? {
            (Reply::List(list), _) => Ok(list),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// The descriptors that [`Client::create`] gave, again.
    ///
    /// # Errors
    /// There is no such container.
    pub fn keep(&mut self, id: &str) -> Result<Parts> {
        match self.call(Request::Keep(id.to_owned()), &[])? {
            (Reply::Descriptors(parts), fds) => Ok(parts.into_iter().zip(fds).collect()),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Hands a container to a supervisor that was started with `--resume`.
    ///
    /// # Errors
    /// Nothing was written down about it, or it is there already.
    pub fn adopt(&mut self, id: &str, parts: &Parts) -> Result<()> {
        let fds: Vec<BorrowedFd<'_>> = parts.iter().map(|(_, fd)| fd.as_fd()).collect();
        let adopt = Adopt {
            id: id.to_owned(),
            parts: parts.iter().map(|(part, _)| *part).collect(),
        };
        self.call(Request::Adopt(adopt), &fds).map(drop)
    }

    /// Asks for the events after this number, those that lie in wait and those to come.
    ///
    /// # Errors
    /// The supervisor has gone.
    pub fn subscribe(&mut self, after: u64) -> Result<()> {
        self.done(Request::Events(after))
    }

    /// The next event; `None` where none comes in time.
    ///
    /// # Errors
    /// The supervisor has gone.
    pub fn next_event(&mut self, timeout: std::time::Duration) -> Result<Option<Event>> {
        let deadline = std::time::Instant::now() + timeout;
        while self.events.is_empty() {
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            let left = Timespec::try_from(left).ok();
            let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
            match poll(&mut fds, left.as_ref()) {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(e) => return Err(sys::Error::new("poll", "supervisor", e).into()),
            }
            if let (Answer::Event(event), _) = self.receive()? {
                self.events.push_back(event);
            }
        }
        Ok(self.events.pop_front())
    }

    /// Has events up to this number forgotten.
    ///
    /// # Errors
    /// The supervisor has gone.
    pub fn acknowledge(&mut self, number: u64) -> Result<()> {
        self.done(Request::Acknowledge(number))
    }

    /// Ends the supervisor.
    ///
    /// # Errors
    /// It still has containers.
    pub fn quit(&mut self) -> Result<()> {
        self.done(Request::Quit)
    }

    /// The process at the other end: the supervisor, or who made its socket.
    ///
    /// # Errors
    /// getsockopt(2)'s.
    pub fn peer(&self) -> Result<rustix::process::Pid> {
        let peer = rustix::net::sockopt::socket_peercred(&self.socket);
        Ok(peer.context("getsockopt", || "SO_PEERCRED")?.pid)
    }

    fn gone(&self) -> Error {
        Error::Gone(self.path.display().to_string())
    }

    fn or_gone(&self, e: Error) -> Error {
        match e {
            Error::Sys(e) if matches!(e.errno, Errno::PIPE | Errno::CONNRESET) => self.gone(),
            other => other,
        }
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn unexpected(reply: &Reply) -> Error {
    Error::Invalid(format!("the supervisor answers something else: {reply:?}"))
}
