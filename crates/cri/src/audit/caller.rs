//! Who is at the other end of a connection.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use runtime::audit::Caller;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tonic::transport::server::Connected;

/// Whoever connected, as the kernel says (SO_PEERCRED), and the program that it ran then.
fn caller_of(stream: &UnixStream) -> Caller {
    let Ok(peer) = stream.peer_cred() else {
        return Caller::default();
    };
    let pid = peer.pid().filter(|&pid| pid > 0);
    Caller {
        uid: Some(peer.uid()),
        gid: Some(peer.gid()),
        pid,
        program: pid.map(Caller::program_of).unwrap_or_default(),
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
        let caller = caller_of(&stream);
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
