//! The two halves of a stream, as tokio reads and writes them.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frame::status;
use super::headers::Headers;
use super::session::Inner;

/// A stream of a [`super::Session`].
#[derive(Debug)]
pub struct Stream {
    headers: Headers,
    read: ReadHalf,
    write: WriteHalf,
}

/// What the peer sends. Dropped, what comes later is thrown away; with both halves dropped the
/// stream is cancelled if the peer has not ended it.
#[derive(Debug)]
pub struct ReadHalf {
    inner: Arc<Inner>,
    id: u32,
}

/// What the peer is sent. Dropped or shut down, it is the end of file.
#[derive(Debug)]
pub struct WriteHalf {
    inner: Arc<Inner>,
    id: u32,
}

impl Stream {
    pub(super) fn new(inner: Arc<Inner>, id: u32, headers: Headers) -> Self {
        Stream {
            headers,
            read: ReadHalf {
                inner: Arc::clone(&inner),
                id,
            },
            write: WriteHalf { inner, id },
        }
    }

    /// Its number, unique in its connection.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.read.id
    }

    /// The first header of this name (in lower case).
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The halves, each to live its own life.
    #[must_use]
    pub fn split(self) -> (ReadHalf, WriteHalf) {
        (self.read, self.write)
    }
}

impl WriteHalf {
    /// Ends the stream at once, both ways.
    pub fn cancel(&self) {
        self.inner.state().abort(self.id, status::CANCEL);
        self.inner.send();
    }
}

impl AsyncRead for ReadHalf {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let result = self.inner.state().read(self.id, cx, buf);
        if result.is_ready() {
            self.inner.read_something();
        }
        result
    }
}

impl AsyncWrite for WriteHalf {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let result = self.inner.state().write(self.id, cx, buf);
        if result.is_ready() {
            self.inner.activity.touch();
            self.inner.send();
        }
        result
    }

    /// What is queued is sent without being asked.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.state().shutdown(self.id);
        self.inner.send();
        Poll::Ready(Ok(()))
    }
}

impl Drop for ReadHalf {
    fn drop(&mut self) {
        self.inner.state().release(self.id, 0);
        self.inner.read_something();
    }
}

impl Drop for WriteHalf {
    fn drop(&mut self) {
        self.inner.state().release(self.id, 1);
        self.inner.send();
    }
}
