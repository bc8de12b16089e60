//! The other end of `--console-socket`: takes the masters of pseudo-terminals.

use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use sys::Context as _;

use crate::{Error, Result, console, foreground};

/// A listening console socket, removed when dropped.
#[derive(Debug)]
pub struct Receiver {
    listener: UnixListener,
    path: PathBuf,
    signals: OwnedFd,
}

impl Receiver {
    /// Makes the socket.
    ///
    /// # Errors
    /// bind(2)'s: the path must not exist.
    pub fn bind(path: &Path) -> Result<Self> {
        // First, so that no signal ends us between making the socket and being able to remove it.
        let signals = foreground::attach_signals()?;
        let listener = UnixListener::bind(path).context("bind", || path.display().to_string())?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            signals,
        })
    }

    /// Takes one terminal and attaches to it until its other side is closed.
    ///
    /// # Errors
    /// A call that failed, or a connection that brought no terminal.
    pub fn single(self, input: bool) -> Result<()> {
        if !self.wait_for(&[])?.listener {
            return Ok(());
        }
        let master = self.accept()?;
        let signals = rustix::io::fcntl_dupfd_cloexec(&self.signals, 3)
            .context("fcntl", || "F_DUPFD_CLOEXEC")?;
        // The path is free for the next one from here on.
        drop(self);
        let master = master.ok_or_else(|| Error::Invalid("no terminal was sent".to_owned()))?;
        foreground::attach(master, input, &signals)
    }

    /// Takes all terminals that come and throws their output away, until SIGTERM, SIGINT or
    /// SIGHUP.
    ///
    /// # Errors
    /// A call that failed.
    pub fn null(self) -> Result<()> {
        let mut masters = Vec::new();
        loop {
            let ready = self.wait_for(&masters)?;
            if ready.signal {
                return Ok(());
            }
            if ready.listener {
                // Who sends nonsense harms nobody else.
                masters.extend(self.accept().ok().flatten());
            }
            let mut n = 0;
            masters.retain(|master| {
                let readable = ready.masters.get(n).copied().unwrap_or(false);
                n += 1;
                !readable || read_some(master)
            });
        }
    }

    fn accept(&self) -> Result<Option<OwnedFd>> {
        let args = || self.path.display().to_string();
        let (stream, _) = self.listener.accept().context("accept", args)?;
        let received = console::receive_fd(&stream)?;
        Ok(received
            .map(|(_, fd)| fd)
            .filter(|fd| rustix::termios::isatty(fd)))
    }

    fn wait_for(&self, masters: &[OwnedFd]) -> Result<Ready> {
        let fixed = [self.listener.as_fd(), self.signals.as_fd()];
        let all = fixed.into_iter().chain(masters.iter().map(|m| m.as_fd()));
        let mut fds: Vec<_> = all
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(sys::Error::new("poll", "console socket", e).into()),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        let signal = match sys::signal::read_signal(&self.signals)? {
            // A terminal of ours that changes its size ends nothing.
            Some(number) => number != foreground::SIGWINCH,
            None => false,
        };
        Ok(Ready {
            listener: ready.first().copied().unwrap_or(false) && !signal,
            signal,
            masters: ready.get(2..).unwrap_or_default().to_vec(),
        })
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = rustix::fs::unlink(&self.path);
    }
}

struct Ready {
    listener: bool,
    signal: bool,
    masters: Vec<bool>,
}

/// Reads what fits into a buffer; false once the other side is closed.
fn read_some(master: &OwnedFd) -> bool {
    let mut buffer = [0; 4096];
    match rustix::io::read(master, &mut buffer) {
        Ok(n) => n > 0,
        Err(e) => matches!(e, Errno::INTR | Errno::AGAIN),
    }
}
