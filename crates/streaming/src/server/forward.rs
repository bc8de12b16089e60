//! Port-forward. A connection that fails ends its own streams and nothing else.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;

use super::Server;
use crate::backend::{Backend, PortForwardRequest};
use crate::spdy::{Limits, Role, Session, Stream};
use crate::ws::channels::Channels;
use crate::ws::{Format, channels};

/// How often streams without a partner are looked for.
const SWEEP: Duration = Duration::from_secs(5);
/// Copied at once.
const CHUNK: usize = 16 << 10;
/// Channels are numbered by a byte, two for each port; in base64 by a digit.
const MOST_PORTS: usize = 120;

/// An error or a data stream that waits for the other one.
struct Half {
    stream: Stream,
    since: Instant,
}

/// Serves over SPDY, straight or within WebSocket.
pub async fn over_spdy<B, T>(server: &Server<B>, request: &PortForwardRequest, io: T)
where
    B: Backend,
    T: AsyncRead + AsyncWrite + Send + 'static,
{
    let limits = Limits {
        idle: server.0.config.idle,
        ..Limits::default()
    };
    let Ok((_session, mut incoming)) = Session::start(io, Role::Server, limits) else {
        return;
    };
    let pod: Arc<str> = request.pod.as_str().into();
    let mut waiting: HashMap<String, Half> = HashMap::new();
    // Dropped with the connection, and all that is left of it with that.
    let mut running = JoinSet::new();
    let mut sweep = tokio::time::interval(SWEEP);
    loop {
        let stream = tokio::select! {
            stream = incoming.next() => stream,
            Some(_) = running.join_next() => continue,
            _ = sweep.tick() => {
                let bound = server.0.config.stream_timeout;
                waiting.retain(|_, half| half.since.elapsed() < bound);
                continue;
            }
        };
        let Some(stream) = stream else { return };
        let key = partner(&stream);
        match waiting.remove(&key) {
            None => {
                let since = Instant::now();
                waiting.insert(key, Half { stream, since });
            }
            Some(other) => {
                let is_error = stream.header("streamtype") == Some("error");
                let (error, data) = match is_error {
                    true => (stream, other.stream),
                    false => (other.stream, stream),
                };
                let server = server.clone();
                let pod = Arc::clone(&pod);
                running.spawn(async move { connection(&server, &pod, data, error).await });
            }
        }
    }
}

/// What an error stream and its data stream have in common: a request's number, or, with clients
/// older than that, numbers of streams that follow each other.
fn partner(stream: &Stream) -> String {
    match stream.header("requestid") {
        Some(id) => id.to_owned(),
        None if stream.header("streamtype") == Some("error") => format!("#{}", stream.id()),
        None => format!("#{}", stream.id().saturating_sub(2)),
    }
}

async fn connection<B: Backend>(server: &Server<B>, pod: &str, data: Stream, error: Stream) {
    let port = data.header("port").unwrap_or_default().to_owned();
    let (_unread, mut error) = error.split();
    let connected = match port.parse() {
        Ok(port) => server.0.backend.port_forward(pod, port).await,
        Err(_) => Err(format!("{port:?} is no port")),
    };
    match connected {
        Ok(socket) => join(socket, data).await,
        Err(reason) => {
            let reason = format!("error forwarding port {port} to pod {pod}: {reason}");
            // A client that is gone needs no reason.
            let _ = error.write_all(reason.as_bytes()).await;
            let _ = error.shutdown().await;
            data.split().1.cancel();
        }
    }
}

/// Copies both ways, ends of files one by one. A broken connection resets its stream.
async fn join(socket: TcpStream, data: Stream) {
    // A small answer is a packet; where that cannot be set it is slow.
    let _ = socket.set_nodelay(true);
    let (mut from_client, mut to_client) = data.split();
    let (mut from_pod, mut to_pod) = socket.into_split();
    let up = async {
        relay(&mut from_client, &mut to_pod).await?;
        to_pod.shutdown().await
    };
    let down = async {
        relay(&mut from_pod, &mut to_client).await?;
        to_client.shutdown().await
    };
    let broken = tokio::try_join!(up, down).is_err();
    if broken {
        to_client.cancel();
    }
}

async fn relay<R, W>(from: &mut R, to: &mut W) -> std::io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = vec![0; CHUNK];
    loop {
        let n = from.read(&mut buffer).await?;
        if n == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..n]).await?;
    }
}

/// Serves over WebSocket channels: two for each port that was named, one connection each.
pub async fn over_channels<B, S>(
    server: &Server<B>,
    request: &PortForwardRequest,
    format: Format,
    socket: WebSocketStream<S>,
) where
    B: Backend,
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let most = if format.base64 { 5 } else { MOST_PORTS };
    let ports = &request.ports[..request.ports.len().min(most)];
    let numbers: Vec<u8> = (0..=u8::MAX).step_by(2).take(ports.len()).collect();
    let writes: Vec<u8> = numbers.iter().flat_map(|n| [*n, n + 1]).collect();
    let all = Channels {
        reads: &numbers,
        writes: &writes,
        tells_ends: false,
    };
    let (readers, writers, mut client) = channels::start(socket, format, all, server.0.config.idle);
    let mut writers = writers.into_iter();
    let mut running = JoinSet::new();
    for (port, from_client) in ports.iter().copied().zip(readers) {
        let (Some(mut to_client), Some(mut error)) = (writers.next(), writers.next()) else {
            return;
        };
        // Each channel begins with its port.
        to_client.announce(&port.to_le_bytes()).await;
        error.announce(&port.to_le_bytes()).await;
        let server = server.clone();
        let pod = request.pod.clone();
        running.spawn(async move {
            let mut from_client = from_client;
            match server.0.backend.port_forward(&pod, port).await {
                Err(reason) => {
                    let reason = format!("error forwarding port {port} to pod {pod}: {reason}");
                    // A client that is gone needs no reason.
                    let _ = error.write_all(reason.as_bytes()).await;
                }
                Ok(socket) => {
                    let (mut from_pod, mut to_pod) = socket.into_split();
                    // The protocol has no end of file: the pod's end is the end.
                    tokio::select! {
                        _ = relay(&mut from_pod, &mut to_client) => {}
                        _ = async {
                            relay(&mut from_client, &mut to_pod).await?;
                            to_pod.shutdown().await?;
                            std::future::pending::<std::io::Result<()>>().await
                        } => {}
                    }
                }
            }
        });
    }
    drop(writers);
    tokio::select! {
        () = client.ended() => {}
        () = async { while running.join_next().await.is_some() {} } => {}
    }
}
