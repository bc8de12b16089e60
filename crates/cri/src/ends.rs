//! Descriptors of pipes and terminals beside streams of a client.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::termios::{Winsize, tcsetwinsize};
use streaming::backend::{Reader, Writer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe::{Receiver, Sender};

/// One buffer a direction.
const CHUNK: usize = 16 << 10;

fn failed(what: &str, e: impl std::fmt::Display) -> pods::Error {
    pods::Error::new(pods::Kind::Failed, format!("{what}: {e}"))
}

fn nonblocking(fd: OwnedFd) -> pods::Result<OwnedFd> {
    let flags = fcntl_getfl(&fd).and_then(|f| fcntl_setfl(&fd, f | OFlags::NONBLOCK));
    flags.map_err(|e| failed("fcntl(O_NONBLOCK)", e))?;
    Ok(fd)
}

/// Writes all that the client sends to a pipe or terminal, until the client's end of file.
pub(crate) fn fill(end: OwnedFd, mut from: Reader) -> pods::Result<impl Future<Output = ()>> {
    // Unchecked: a terminal is no pipe, and is as good for this.
    let sender = Sender::from_owned_fd_unchecked(nonblocking(end)?);
    let mut to = sender.map_err(|e| failed("epoll_ctl", e))?;
    Ok(async move {
        // Whoever reads from it may be gone before the client is.
        let _ = tokio::io::copy(&mut from, &mut to).await;
    })
}

/// Sends the client all that a pipe or terminal has, then an end of file.
pub(crate) fn drain(end: OwnedFd, mut to: Writer) -> pods::Result<impl Future<Output = ()>> {
    let receiver = Receiver::from_owned_fd_unchecked(nonblocking(end)?);
    let mut from = receiver.map_err(|e| failed("epoll_ctl", e))?;
    Ok(async move {
        let mut buffer = vec![0; CHUNK];
        // A terminal without processes says EIO: its end of file.
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            if to.write_all(&buffer[..count]).await.is_err() {
                return;
            }
        }
        // A client that is gone has its end of file.
        let _ = to.shutdown().await;
    })
}

/// A second descriptor of the same terminal.
pub(crate) fn dup(fd: &OwnedFd) -> pods::Result<OwnedFd> {
    fd.as_fd()
        .try_clone_to_owned()
        .map_err(|e| failed("dup", e))
}

/// Sets a terminal's size.
pub(crate) fn resize(terminal: &OwnedFd, rows: u16, columns: u16) {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    if let Err(error) = tcsetwinsize(terminal, size) {
        tracing::debug!(%error, "TIOCSWINSZ");
    }
}
