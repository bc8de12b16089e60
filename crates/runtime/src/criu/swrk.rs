//! criu as a child that serves one socket (`criu swrk`).

use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::process::{Child, Command};

use rustix::io::{Errno, FdFlags, fcntl_setfd, retry_on_intr};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair,
};
use sys::Context as _;

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
    /// Starts `criu` from PATH. It gets our standard streams, and `inherited` under their own
    /// numbers.
    ///
    /// # Errors
    /// There is no criu, or it cannot be executed.
    pub(crate) fn start(inherited: &[BorrowedFd<'_>]) -> Result<Self> {
        let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
        let (ours, theirs) = socketpair(family, kind, SocketFlags::CLOEXEC, None)
            .context("socketpair", || "AF_UNIX, SOCK_SEQPACKET")?;
        let number = theirs.as_raw_fd().to_string();
        let _open = Inheritable::new(inherited.iter().copied())?;
        let _socket = Inheritable::new(std::iter::once(std::os::fd::AsFd::as_fd(&theirs)))?;
        let child = Command::new("criu").args(["swrk", &number]).spawn();
        Ok(Self {
            child: child.context("execve", || "\"criu\", looked for in PATH")?,
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
        self.receive()
    }

    /// A dump or restore: `notified` gets each notification and says whether to go on.
    ///
    /// # Errors
    /// criu's failure, in its words as far as it has some.
    pub(crate) fn run(
        &self,
        kind: Kind,
        options: &Options,
        mut notified: impl FnMut(&str, i32, &Self) -> Result<()>,
    ) -> Result<Response> {
        let mut response = self.ask(kind, Some(options))?;
        while let Some((name, pid)) = response.notification.take() {
            let handled = notified(&name, pid, self);
            self.send(&acknowledgement(handled.is_ok()))?;
            handled?;
            response = self.receive()?;
        }
        if response.success {
            return Ok(response);
        }
        let errno = Errno::from_raw_os_error(response.errno.abs());
        let words = match (response.message, response.errno) {
            (Some(words), _) => words,
            (None, 0) => "no reason given".to_owned(),
            (None, _) => sys::ErrnoText(errno).to_string(),
        };
        Err(Error::Criu(format!("criu failed: {words}")))
    }

    /// A descriptor that criu sends on its socket before a notification.
    ///
    /// # Errors
    /// recvmsg(2)'s, or no descriptor came.
    pub(crate) fn receive_fd(&self) -> Result<OwnedFd> {
        let received = crate::console::receive_fd(self.socket()?)?;
        let fd = received.map(|(_, fd)| fd);
        fd.ok_or_else(|| Error::Criu("criu sent no terminal".to_owned()))
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

    fn receive(&self) -> Result<Response> {
        let socket = self.socket()?;
        let mut buffer = vec![0; LONGEST];
        let (n, whole) = retry_on_intr(|| recv(socket, buffer.as_mut_slice(), RecvFlags::TRUNC))
            .context("recv", || "criu")?;
        if n == 0 {
            return Err(Error::Criu("criu ended without an answer".to_owned()));
        }
        let response = buffer
            .get(..n)
            .filter(|_| whole == n)
            .and_then(Response::decode);
        response.ok_or_else(|| Error::Criu("criu gave an answer that cannot be read".to_owned()))
    }
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
        let criu = Criu::start(&[]).unwrap();
        let response = criu.ask(Kind::Version, None).unwrap();
        assert!(response.success);
        let [major, minor, _] = response.version.unwrap();
        assert!(major >= 3, "{major}.{minor}");
    }

    #[test]
    fn a_dump_that_cannot_be_is_an_error_in_a_line() {
        let criu = Criu::start(&[]).unwrap();
        // No process has this pid, and no directory is given.
        let options = Options {
            pid: i32::MAX,
            log_file: "dump.log",
            ..Options::default()
        };
        let e = criu
            .run(Kind::Dump, &options, |_, _, _| Ok(()))
            .unwrap_err();
        let text = e.to_string();
        assert!(text.starts_with("criu ") && !text.contains('\n'), "{text}");
    }
}
