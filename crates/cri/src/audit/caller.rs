//! Who is at the other end of a connection.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tonic::transport::server::Connected;

/// Whoever connected, as the kernel says (SO_PEERCRED), and the program that it ran then.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Caller {
    /// The user.
    pub uid: Option<u32>,
    /// The group.
    pub gid: Option<u32>,
    /// The process, in our pid namespace.
    pub pid: Option<i32>,
    /// Its executable file; empty where it cannot be seen.
    pub program: String,
}

impl Caller {
    fn of(stream: &UnixStream) -> Self {
        let Ok(peer) = stream.peer_cred() else {
            return Self::default();
        };
        let pid = peer.pid().filter(|&pid| pid > 0);
        let program = pid.and_then(|pid| std::fs::read_link(format!("/proc/{pid}/exe")).ok());
        Self {
            uid: Some(peer.uid()),
            gid: Some(peer.gid()),
            pid,
            program: program.unwrap_or_default().to_string_lossy().into_owned(),
        }
    }
}

impl fmt::Display for Caller {
    /// `crictl (process 4711, user 0)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.program.rsplit('/').next().filter(|n| !n.is_empty());
        f.write_str(name.unwrap_or("somebody"))?;
        match (self.pid, self.uid) {
            (Some(pid), Some(uid)) => write!(f, " (process {pid}, user {uid})"),
            (None, Some(uid)) => write!(f, " (user {uid})"),
            _ => Ok(()),
        }
    }
}

/// A connection that knows who made it.
#[derive(Debug)]
pub struct Peer {
    stream: UnixStream,
    caller: Caller,
}

impl Peer {
    /// Looks who it is. To be called when the connection is accepted: the process may be gone
    /// later, and its number another's.
    #[must_use]
    pub fn new(stream: UnixStream) -> Self {
        let caller = Caller::of(&stream);
        Self { stream, caller }
    }
}

impl Connected for Peer {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for Peer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Peer {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }
}
