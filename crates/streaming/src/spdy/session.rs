//! A connection: the task that reads and writes it, and the handle to open and close.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{
    AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, ReadHalf,
    WriteHalf,
};
use tokio::sync::{Notify, mpsc, watch};

use super::frame::{self, HEAD, Head};
use super::state::State;
use super::stream::Stream;
use crate::error::Error;
use crate::idle::Activity;

/// After our last byte the peer's remaining bytes are read for so long, lest the kernel answers
/// them by a reset that overtakes what we have sent.
const LINGER: Duration = Duration::from_secs(5);
/// For what is queued when the peer has stopped sending.
const FAREWELL: Duration = Duration::from_secs(1);
/// Read from the socket at once.
const READ: usize = 16 << 10;

/// Which side of the connection this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Opens streams.
    Client,
    /// Is given streams.
    Server,
}

/// Bounds of one connection.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Open streams.
    pub streams: usize,
    /// Bytes that wait for the reader of one stream.
    pub stream_window: usize,
    /// Bytes that wait for readers in all.
    pub connection_window: usize,
    /// Without any data for so long the connection is closed.
    pub idle: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            streams: 4096,
            stream_window: 256 << 10,
            connection_window: 8 << 20,
            idle: None,
        }
    }
}

/// What the handle, the streams and the task share.
#[derive(Debug)]
pub(super) struct Inner {
    state: Mutex<State>,
    to_send: Notify,
    room: Notify,
    ended: watch::Sender<bool>,
    /// Data that went either way.
    pub(super) activity: Activity,
}

impl Inner {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic happens under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There is something to send.
    pub(super) fn send(&self) {
        self.to_send.notify_one();
    }

    /// A buffer has room again, and perhaps a window is to be granted.
    pub(super) fn read_something(&self) {
        self.room.notify_one();
        self.to_send.notify_one();
    }
}

/// The streams that the peer opens.
#[derive(Debug)]
pub struct Incoming(mpsc::Receiver<Stream>);

impl Incoming {
    /// The next one; none after the connection's end.
    pub async fn next(&mut self) -> Option<Stream> {
        self.0.recv().await
    }
}

/// A SPDY connection. Dropping the handle leaves the streams alone; the connection ends by
/// [`Session::close`], by the peer, by idleness or by an error.
#[derive(Debug, Clone)]
pub struct Session(Arc<Inner>);

impl Session {
    /// Starts to speak over an upgraded connection.
    ///
    /// # Errors
    /// zlib cannot be set up.
    pub fn start<T>(io: T, role: Role, limits: Limits) -> Result<(Self, Incoming), Error>
    where
        T: AsyncRead + AsyncWrite + Send + 'static,
    {
        let inner = Arc::new(Inner {
            state: Mutex::new(State::new(role, limits).map_err(Error::Spdy)?),
            to_send: Notify::new(),
            room: Notify::new(),
            ended: watch::Sender::new(false),
            activity: Activity::default(),
        });
        let (opened, incoming) = mpsc::channel(limits.streams.max(1));
        tokio::spawn(drive(Arc::clone(&inner), io, limits.idle, opened));
        Ok((Session(inner), Incoming(incoming)))
    }

    /// Opens a stream. It can be written at once; a refusal shows as a reset.
    ///
    /// # Errors
    /// The connection is closing; the headers are too long.
    pub fn open(&self, headers: &[(&str, &str)]) -> Result<Stream, Error> {
        let id = self.0.state().open(headers).map_err(Error::Spdy)?;
        self.0.send();
        Ok(Stream::new(Arc::clone(&self.0), id, Vec::new()))
    }

    /// How many streams are open.
    #[must_use]
    pub fn open_streams(&self) -> usize {
        self.0.state().open_streams()
    }

    /// Sends what is queued and a GOAWAY, then ends the connection in the background.
    pub fn close(&self) {
        self.0.state().go_away(0);
        self.0.send();
    }

    /// Waits until the connection is gone.
    pub async fn ended(&self) {
        // The sender lives in the same Arc, so this cannot fail.
        let _ = self.0.ended.subscribe().wait_for(|ended| *ended).await;
    }
}

/// Reads and writes until the end.
async fn drive<T>(inner: Arc<Inner>, io: T, idle: Option<Duration>, opened: mpsc::Sender<Stream>)
where
    T: AsyncRead + AsyncWrite,
{
    let (read, write) = tokio::io::split(io);
    let mut reading = std::pin::pin!(read_frames(&inner, read, opened));
    let mut sending = std::pin::pin!(send_frames(&inner, write));
    tokio::select! {
        // Whatever it is, streams learn that the connection is gone, and nobody else asks. A peer
        // that has only stopped sending, or is told what rule it broke, may still listen.
        _ = &mut reading => {
            inner.state().closing = true;
            inner.send();
            let _ = tokio::time::timeout(FAREWELL, sending).await;
        }
        sent = &mut sending => {
            if sent.is_ok() {
                let _ = tokio::time::timeout(LINGER, reading).await;
            }
        }
        () = inner.activity.quiet_for(idle) => {}
    }
    inner.state().lost();
    inner.ended.send_replace(true);
}

/// Ends when the connection is closing and everything has been sent.
async fn send_frames<T: AsyncWrite>(inner: &Inner, mut io: WriteHalf<T>) -> std::io::Result<()> {
    let mut batch = BytesMut::new();
    loop {
        let closing = {
            let mut state = inner.state();
            std::mem::swap(&mut batch, &mut state.out);
            state.drained();
            state.closing
        };
        if !batch.is_empty() {
            io.write_all(&batch).await?;
            io.flush().await?;
            // Nothing is kept while nothing flows.
            batch = BytesMut::new();
        } else if closing {
            return io.shutdown().await;
        } else {
            inner.to_send.notified().await;
        }
    }
}

async fn read_frames<T: AsyncRead>(
    inner: &Arc<Inner>,
    io: ReadHalf<T>,
    opened: mpsc::Sender<Stream>,
) -> Result<(), Error> {
    let mut io = BufReader::with_capacity(READ, io);
    let mut payload = Vec::new();
    loop {
        let mut head = [0; HEAD];
        io.read_exact(&mut head)
            .await
            .map_err(Error::io("read a frame"))?;
        match frame::head(head).map_err(|e| refuse(inner, e))? {
            Head::Data { id, flags, length } => {
                read_data(inner, &mut io, id, flags, length).await?
            }
            Head::Control {
                kind,
                flags,
                length,
            } => {
                payload.resize(usize::try_from(length).unwrap_or(0), 0);
                io.read_exact(&mut payload)
                    .await
                    .map_err(Error::io("read a frame"))?;
                let done = frame::control(kind, flags, &payload)
                    .and_then(|frame| inner.state().control(&frame));
                if let Some((id, headers)) = done.map_err(|e| refuse(inner, e))? {
                    // The channel has a place for each stream that may be open; a stream that is
                    // dropped unread is refused by its drop.
                    let _ = opened.try_send(Stream::new(Arc::clone(inner), id, headers));
                }
                inner.send();
            }
        }
    }
}

/// Tells the peer that it broke the rules; the caller ends the connection.
fn refuse(inner: &Inner, reason: String) -> Error {
    inner.state().go_away(frame::status::PROTOCOL_ERROR);
    Error::Spdy(reason)
}

async fn read_data<T: AsyncRead>(
    inner: &Inner,
    io: &mut BufReader<ReadHalf<T>>,
    id: u32,
    flags: u8,
    length: u32,
) -> Result<(), Error> {
    inner.activity.touch();
    let target = inner.state().data(id, length);
    let target = target.map_err(|e| refuse(inner, e))?;
    let mut left = usize::try_from(length).unwrap_or(0);
    while left > 0 {
        let bytes = io.fill_buf().await.map_err(Error::io("read a frame"))?;
        if bytes.is_empty() {
            return Err(Error::Closed);
        }
        let bytes = &bytes[..bytes.len().min(left)];
        let taken = inner.state().take_in(target, bytes);
        if taken == 0 {
            inner.room.notified().await;
        }
        io.consume(taken);
        left -= taken;
    }
    inner.state().data_end(id, flags);
    inner.send();
    Ok(())
}
