//! criu as a child that serves one socket (`criu swrk`).

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::process::{Child, Command, Stdio};

use rustix::io::{Errno, FdFlags, fcntl_setfd, retry_on_intr};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketFlags,
    SocketType, recvmsg, send, socketpair,
};
use sys::Context as _;

use super::log::{Log, first_error};
use super::message::{Kind, Options, Response, acknowledgement, request};
use super::protobuf::Writer;
use crate::{Error, Result};

/// Longest response that is read; criu's are some hundred bytes.
const LONGEST: usize = 64 * 1024;

/// A criu that waits for requests. Dropped, it is ended and reaped.
#[derive(Debug)]
pub(crate) struct Criu {
    child: Child,
    /// `None` once there is nothing more to ask.
    socket: Option<OwnedFd>,
}

impl Criu {
    /// Starts `criu` from PATH, to ask or to dump.
    ///
    /// # Errors
    /// There is no criu, or it cannot be executed.
    pub(crate) fn start() -> Result<Self> {
        let mut command = Command::new("criu");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Self::start_as(command, &[])
    }

    /// Starts `criu` from PATH, to restore: what it restores gets our standard streams, and criu
    /// itself also `inherited` under their own numbers.
    ///
    /// # Errors
    /// There is no criu, or it cannot be executed.
    pub(crate) fn start_for_restore(inherited: &[BorrowedFd<'_>]) -> Result<Self> {
        Self::start_as(Command::new("criu"), inherited)
    }

    fn start_as(mut command: Command, inherited: &[BorrowedFd<'_>]) -> Result<Self> {
        let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
        let (ours, theirs) = socketpair(family, kind, SocketFlags::CLOEXEC, None)
            .context("socketpair", || "AF_UNIX, SOCK_SEQPACKET")?;
        let number = theirs.as_raw_fd().to_string();
        let _open = Inheritable::new(inherited.iter().copied())?;
        let _socket = Inheritable::new(std::iter::once(std::os::fd::AsFd::as_fd(&theirs)))?;
        let child = match command.args(["swrk", &number]).spawn() {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let text = "criu is not in PATH: install it, or put its directory there";
                return Err(Error::Criu(text.to_owned()));
            }
            result => result.context("execve", || "\"criu\"")?,
        };
        Ok(Self {
            child,
            socket: Some(ours),
        })
    }

    /// criu's pid, which its notifications and descriptors refer to.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// One request with one answer.
    ///
    /// # Errors
    /// criu went away, or said something that is no answer.
    pub(crate) fn ask(&self, kind: Kind, options: Option<&Options>) -> Result<Response> {
        self.send(&request(kind, options))?;
        Ok(self.receive()?.0)
    }

    /// A dump or restore: `notified` gets each notification, with the descriptor that came along,
    /// and decides whether criu goes on.
    ///
    /// # Errors
    /// criu's failure, in the words of `log` as far as it has some; the error of `notified`.
    pub(crate) fn run(
        &self,
        kind: Kind,
        options: &Options,
        log: &Log,
        mut notified: impl FnMut(Notification) -> Result<()>,
    ) -> Result<Response> {
        self.send(&request(kind, Some(options)))?;
        loop {
            let received = self.receive();
            let (mut response, fd) = received.map_err(|e| log.failure(&e.to_string()))?;
            let Some((name, pid)) = response.notification.take() else {
                return finished(response, log);
            };
            let handled = notified(Notification { name, pid, fd });
            self.send(&acknowledgement(handled.is_ok()))?;
            handled?;
        }
    }

    /// Kills it.
    ///
    /// # Errors
    /// kill(2)'s.
    pub(crate) fn kill(&mut self) -> Result<()> {
        Ok(self.child.kill().context("kill", || "criu")?)
    }

    fn socket(&self) -> Result<&OwnedFd> {
        let socket = self.socket.as_ref();
        socket.ok_or_else(|| sys::Error::new("send", "criu", Errno::NOTCONN).into())
    }

    fn send(&self, message: &Writer) -> Result<()> {
        let socket = self.socket()?;
        retry_on_intr(|| send(socket, message.as_bytes(), SendFlags::NOSIGNAL))
            .context("send", || "criu")?;
        Ok(())
    }

    fn receive(&self) -> Result<(Response, Option<OwnedFd>)> {
        let socket = self.socket()?;
        let mut buffer = vec![0; LONGEST];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = retry_on_intr(|| {
            let mut data = [IoSliceMut::new(&mut buffer)];
            recvmsg(socket, &mut data, &mut control, RecvFlags::CMSG_CLOEXEC)
        });
        let n = received.context("recvmsg", || "criu")?.bytes;
        let fds = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds.collect::<Vec<_>>()),
            _ => None,
        });
        let fd = fds.flatten().next();
        if n == 0 {
            return Err(Error::Criu("criu ended without an answer".to_owned()));
        }
        let response = buffer.get(..n).and_then(Response::decode);
        let response = response
            .ok_or_else(|| Error::Criu("criu gave an answer that cannot be read".to_owned()))?;
        Ok((response, fd))
    }
}

/// What criu says on its way.
#[derive(Debug)]
pub(crate) struct Notification {
    /// `post-restore`, `orphan-pts-master`, …
    pub(crate) name: String,
    /// The first process, where it is about one.
    pub(crate) pid: i32,
    /// A terminal's master.
    pub(crate) fd: Option<OwnedFd>,
}

fn finished(response: Response, log: &Log) -> Result<Response> {
    if response.success {
        return Ok(response);
    }
    // criu's own numbers are errnos, or nothing.
    let errno = response
        .errno
        .checked_abs()
        .filter(|n| (1..4096).contains(n));
    let words = match (response.message.as_deref().and_then(first_error), errno) {
        (Some(words), _) => words.to_owned(),
        (None, Some(n)) => sys::ErrnoText(Errno::from_raw_os_error(n)).to_string(),
        (None, None) => "no reason given".to_owned(),
    };
    Err(log.failure(&words))
}

impl Drop for Criu {
    fn drop(&mut self) {
        // criu ends when its socket closes; there is nothing to do if it has ended otherwise.
        drop(self.socket.take());
        let _ = self.child.wait();
    }
}

/// Descriptors without close-on-exec, for as long as it lives: for one spawn of a process that
/// has one thread.
struct Inheritable<'fd>(Vec<BorrowedFd<'fd>>);

impl<'fd> Inheritable<'fd> {
    fn new(fds: impl Iterator<Item = BorrowedFd<'fd>>) -> Result<Self> {
        let this = Self(fds.collect());
        for fd in &this.0 {
            fcntl_setfd(fd, FdFlags::empty()).context("fcntl", || "F_SETFD, 0")?;
        }
        Ok(this)
    }
}

impl Drop for Inheritable<'_> {
    fn drop(&mut self) {
        for fd in &self.0 {
            // Cannot fail for a descriptor that is open.
            let _ = fcntl_setfd(fd, FdFlags::CLOEXEC);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn criu_tells_its_version() {
        let criu = Criu::start().unwrap();
        let response = criu.ask(Kind::Version, None).unwrap();
        assert!(response.success);
        let [major, minor, _] = response.version.unwrap();
        assert!(major >= 3, "{major}.{minor}");
    }

    #[test]
    fn a_dump_that_cannot_be_is_an_error_in_a_line() {
        let criu = Criu::start().unwrap();
        // No process has this pid, and no directory is given.
        let options = Options {
            pid: i32::MAX,
            log_file: "dump.log",
            ..Options::default()
        };
        let log = Log::new("criu 1.2".to_owned(), "/no/log".into());
        let e = criu.run(Kind::Dump, &options, &log, |_| Ok(()));
        let text = e.unwrap_err().to_string();
        assert!(text.starts_with("criu 1.2 failed: "), "{text}");
        assert!(!text.contains('\n'), "{text}");
    }
}
