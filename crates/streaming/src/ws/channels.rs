//! Channels: each message carries a channel's number and some of its bytes.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, BytesMut};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::Format;
use crate::idle::Activity;

/// What waits for a channel's reader.
const WINDOW: usize = 64 << 10;
/// Messages that wait to be sent.
const QUEUE: usize = 8;
/// The largest message sent.
const CHUNK: usize = 32 << 10;
/// The channel whose messages close the one they name.
const CLOSE: u8 = 255;
/// The peer's answer to our close is waited for so long.
const LINGER: Duration = Duration::from_secs(5);

type Permit = Result<mpsc::OwnedPermit<Message>, mpsc::error::SendError<()>>;

/// A channel to write. Dropped or shut down, it is the end of file where the protocol has one.
pub struct ChannelWriter {
    number: u8,
    format: Format,
    queue: Option<mpsc::Sender<Message>>,
    permit: Option<Pin<Box<dyn Future<Output = Permit> + Send>>>,
}

impl std::fmt::Debug for ChannelWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ChannelWriter({})", self.number)
    }
}

/// The connection below its channels.
#[derive(Debug, Clone)]
pub struct Connection(watch::Receiver<bool>);

impl Connection {
    /// Waits until the peer or the connection is gone.
    pub async fn ended(&mut self) {
        // A sender that is gone means the same.
        let _ = self.0.wait_for(|ended| *ended).await;
    }
}

/// Which channels there are.
#[derive(Debug, Clone, Copy)]
pub struct Channels<'c> {
    /// Those that are read.
    pub reads: &'c [u8],
    /// Those that are written.
    pub writes: &'c [u8],
    /// The end of a written one is told, where the protocol can: clients do it. Those written in
    /// Go do not know what to do with it.
    pub tells_ends: bool,
}

/// Starts to speak: a reader for each channel to read, a writer for each to write. The connection
/// is closed once all writers are dropped and everything is sent.
pub fn start<S>(
    socket: WebSocketStream<S>,
    format: Format,
    channels: Channels<'_>,
    idle: Option<Duration>,
) -> (Vec<DuplexStream>, Vec<ChannelWriter>, Connection)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (queue, queued) = mpsc::channel(QUEUE);
    let mut readers = Vec::new();
    let mut ends = HashMap::new();
    for number in channels.reads {
        let (end, reader) = tokio::io::duplex(WINDOW);
        ends.insert(*number, end);
        readers.push(reader);
    }
    let writing = Format {
        can_close: format.can_close && channels.tells_ends,
        ..format
    };
    let writers = channels
        .writes
        .iter()
        .map(|number| ChannelWriter {
            number: *number,
            format: writing,
            queue: Some(queue.clone()),
            permit: None,
        })
        .collect();
    let (ended, connection) = watch::channel(false);
    tokio::spawn(async move {
        drive(socket, format, ends, queued, idle).await;
        ended.send_replace(true);
    });
    (readers, writers, Connection(connection))
}

async fn drive<S>(
    socket: WebSocketStream<S>,
    format: Format,
    ends: HashMap<u8, DuplexStream>,
    mut queued: mpsc::Receiver<Message>,
    idle: Option<Duration>,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let activity = Arc::new(Activity::default());
    let (mut sink, source) = socket.split();
    let mut reading = std::pin::pin!(read(source, format, ends, &activity));
    let sending = async {
        while let Some(message) = queued.recv().await {
            activity.touch();
            if sink.send(message).await.is_err() {
                return;
            }
        }
        // Go's clients take any other code, and none, for a failure. Nothing can be done for a
        // peer that is gone.
        let normal = CloseFrame {
            code: CloseCode::Normal,
            reason: Utf8Bytes::default(),
        };
        let _ = sink.send(Message::Close(Some(normal))).await;
        let _ = sink.close().await;
    };
    tokio::select! {
        () = &mut reading => {}
        () = sending => { let _ = tokio::time::timeout(LINGER, reading).await; }
        () = activity.quiet_for(idle) => {}
    }
}

/// Hands messages out until the peer closes. A channel that is not read holds the others: the
/// protocol has no windows.
async fn read<R>(
    mut source: R,
    format: Format,
    mut ends: HashMap<u8, DuplexStream>,
    activity: &Activity,
) where
    R: StreamExt<Item = Result<Message, tokio_tungstenite::tungstenite::Error>> + Unpin,
{
    while let Some(Ok(message)) = source.next().await {
        activity.touch();
        let (number, bytes) = match (&message, format.base64) {
            (Message::Close(_), _) => return,
            (Message::Binary(bytes), false) => match bytes.split_first() {
                Some((number, bytes)) => (*number, bytes.to_vec()),
                None => continue,
            },
            (Message::Text(text), true) => match decode(text.as_str()) {
                Some(decoded) => decoded,
                None => return,
            },
            _ => continue,
        };
        if number == CLOSE && format.can_close {
            bytes.first().map(|number| ends.remove(number));
        } else if let Some(end) = ends.get_mut(&number)
            && end.write_all(&bytes).await.is_err()
        {
            // Its reader is gone; what comes later has no use.
            ends.remove(&number);
        }
    }
}

fn decode(text: &str) -> Option<(u8, Vec<u8>)> {
    let (number, rest) = text.as_bytes().split_first()?;
    let number = number.checked_sub(b'0').filter(|n| *n <= 9)?;
    Some((number, STANDARD.decode(rest).ok()?))
}

fn encode(format: Format, number: u8, bytes: &[u8]) -> Message {
    if format.base64 {
        let digit = char::from(b'0'.saturating_add(number));
        return Message::text(format!("{digit}{}", STANDARD.encode(bytes)));
    }
    let mut message = BytesMut::with_capacity(1 + bytes.len());
    message.put_u8(number);
    message.put_slice(bytes);
    Message::Binary(message.freeze())
}

impl ChannelWriter {
    /// Sends a message even if it is empty: clients take one as the sign that the channel is up.
    pub async fn announce(&mut self, bytes: &[u8]) {
        if let Some(queue) = &self.queue {
            // A connection that is gone shows at the next write.
            let _ = queue.send(encode(self.format, self.number, bytes)).await;
        }
    }

    fn poll_permit(&mut self, cx: &mut Context<'_>) -> Poll<Option<mpsc::OwnedPermit<Message>>> {
        let Some(queue) = &self.queue else {
            return Poll::Ready(None);
        };
        let permit = self
            .permit
            .get_or_insert_with(|| Box::pin(queue.clone().reserve_owned()));
        let result = ready!(permit.as_mut().poll(cx));
        self.permit = None;
        Poll::Ready(result.ok())
    }
}

impl AsyncWrite for ChannelWriter {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let Some(permit) = ready!(self.poll_permit(cx)) else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        let n = buf.len().min(CHUNK);
        permit.send(encode(self.format, self.number, &buf[..n]));
        Poll::Ready(Ok(n))
    }

    /// What is queued is sent without being asked.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.format.can_close
            && let Some(permit) = ready!(self.poll_permit(cx))
        {
            permit.send(encode(self.format, CLOSE, &[self.number]));
        }
        self.permit = None;
        self.queue = None;
        Poll::Ready(Ok(()))
    }
}

impl Drop for ChannelWriter {
    fn drop(&mut self) {
        let (Some(queue), true) = (self.queue.take(), self.format.can_close) else {
            return;
        };
        // Writers are shut down in the ordinary course; a full queue here means a slow peer, which
        // then learns of the end by the connection's.
        let _ = queue.try_send(encode(self.format, CLOSE, &[self.number]));
    }
}
