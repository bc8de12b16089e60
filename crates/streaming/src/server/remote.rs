//! Exec and attach.

use std::collections::HashMap;
use std::future::Future;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;

use super::Server;
use crate::backend::{Backend, Reader, Size, Streams, Writer};
use crate::spdy::{Incoming, Limits, Role, Session, Stream};
use crate::status::Outcome;
use crate::token::Request;
use crate::ws::channels::Channels;
use crate::ws::{Format, channels};

/// Stream protocols over SPDY, the best first.
pub const PROTOCOLS: &[&str] = &[
    "v4.channel.k8s.io",
    "v3.channel.k8s.io",
    "v2.channel.k8s.io",
    "channel.k8s.io",
];

/// Channels of the WebSocket form.
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;

/// More than any size's JSON.
const LONGEST_SIZE: usize = 1024;

/// What was asked for.
#[derive(Clone, Copy)]
struct Wanted {
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
}

impl Wanted {
    fn of(request: &Request) -> Self {
        let (stdin, stdout, stderr, tty) = match request {
            Request::Exec(r) => (r.stdin, r.stdout, r.stderr, r.tty),
            Request::Attach(r) => (r.stdin, r.stdout, r.stderr, r.tty),
            Request::PortForward(_) => (false, false, false, false),
        };
        Wanted {
            stdin,
            stdout,
            // A terminal has one output.
            stderr: stderr && !tty,
            tty,
        }
    }
}

/// Serves one request over SPDY.
pub async fn over_spdy<B, T>(server: &Server<B>, request: Request, protocol: &str, io: T)
where
    B: Backend,
    T: AsyncRead + AsyncWrite + Send + 'static,
{
    let limits = Limits {
        streams: 8,
        idle: server.0.config.idle,
        ..Limits::default()
    };
    // Without zlib there is nobody to tell but the client, by the end of the connection.
    let Ok((session, incoming)) = Session::start(io, Role::Server, limits) else {
        return;
    };
    let wanted = Wanted::of(&request);
    let resize = wanted.tty && matches!(protocol, "v4.channel.k8s.io" | "v3.channel.k8s.io");
    let collecting = collect(incoming, wanted, resize);
    let collected = tokio::time::timeout(server.0.config.stream_timeout, collecting).await;
    let Ok(Some(mut open)) = collected else {
        session.close();
        return;
    };
    let Some(error) = open.remove("error") else {
        session.close();
        return;
    };
    let mut kept = Vec::new();
    let mut read = |name: &str| -> Option<Reader> {
        let (read, write) = open.remove(name)?.split();
        // The end of our half tells the client that the process reads no more.
        kept.push(write);
        Some(Box::new(read))
    };
    let stdin = read("stdin");
    let resize = read("resize");
    let mut write = |name: &str| -> Option<Writer> {
        let (_, write) = open.remove(name)?.split();
        Some(Box::new(write))
    };
    let streams = Streams {
        stdin,
        stdout: write("stdout"),
        stderr: write("stderr"),
        resize: sizes(resize),
    };
    let outcome = run(server, request, streams, session.ended()).await;
    let (_unread, mut error) = error.split();
    if let Some(outcome) = outcome {
        let text = outcome.encode(protocol == "v4.channel.k8s.io");
        // A client that is gone needs no outcome.
        let _ = error.write_all(text.as_bytes()).await;
        let _ = error.shutdown().await;
    }
    session.close();
    // The halves stay until all is sent, so that ends of files are not followed by resets.
    session.ended().await;
    drop(kept);
}

/// The streams by their names, once all that are needed are there.
async fn collect(
    mut incoming: Incoming,
    wanted: Wanted,
    resize: bool,
) -> Option<HashMap<String, Stream>> {
    let needed = [
        ("error", true),
        ("stdin", wanted.stdin),
        ("stdout", wanted.stdout),
        ("stderr", wanted.stderr),
        ("resize", resize),
    ];
    let mut missing: Vec<&str> = needed
        .iter()
        .filter_map(|(name, needed)| needed.then_some(*name))
        .collect();
    let mut open = HashMap::new();
    while !missing.is_empty() {
        let stream = incoming.next().await?;
        let name = stream.header("streamtype").unwrap_or_default().to_owned();
        if missing.iter().any(|m| *m == name) {
            missing.retain(|m| *m != name);
            open.insert(name, stream);
        }
    }
    // Streams that come later have no meaning; they are refused by being dropped.
    tokio::spawn(async move { while incoming.next().await.is_some() {} });
    Some(open)
}

/// Serves one request over WebSocket channels.
pub async fn over_channels<B, S>(
    server: &Server<B>,
    request: Request,
    format: Format,
    socket: WebSocketStream<S>,
) where
    B: Backend,
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let wanted = Wanted::of(&request);
    let all = Channels {
        reads: &[STDIN, RESIZE],
        writes: &[STDOUT, STDERR, ERROR],
        tells_ends: false,
    };
    let (readers, writers, mut connection) =
        channels::start(socket, format, all, server.0.config.idle);
    let (Ok([stdin, resize]), Ok([mut stdout, mut stderr, mut error])) =
        (<[_; 2]>::try_from(readers), <[_; 3]>::try_from(writers))
    else {
        return;
    };
    // An empty message tells the client that the streams are up.
    match (wanted.stdout, wanted.stderr) {
        (true, _) => stdout.announce(&[]).await,
        (false, true) => stderr.announce(&[]).await,
        (false, false) => error.announce(&[]).await,
    }
    let streams = Streams {
        stdin: wanted.stdin.then(|| Box::new(stdin) as Reader),
        stdout: wanted.stdout.then(|| Box::new(stdout) as Writer),
        stderr: wanted.stderr.then(|| Box::new(stderr) as Writer),
        resize: sizes(wanted.tty.then(|| Box::new(resize) as Reader)),
    };
    let outcome = run(server, request, streams, connection.ended()).await;
    if let Some(outcome) = outcome {
        let text = outcome.encode(format.json_status);
        // A client that is gone needs no outcome.
        let _ = error.write_all(text.as_bytes()).await;
        let _ = error.shutdown().await;
    }
}

/// Runs the request until it ends or the client does.
async fn run<B: Backend>(
    server: &Server<B>,
    request: Request,
    streams: Streams,
    client_gone: impl Future<Output = ()>,
) -> Option<Outcome> {
    let backend = &server.0.backend;
    let work = async move {
        match request {
            Request::Exec(request) => match backend.exec(request, streams).await {
                Ok(code) => Outcome::Exit(code),
                Err(e) => Outcome::Failed(format!("error executing command in container: {e}")),
            },
            Request::Attach(request) => match backend.attach(request, streams).await {
                Ok(()) => Outcome::Exit(0),
                Err(e) => Outcome::Failed(format!("error attaching to container: {e}")),
            },
            Request::PortForward(_) => Outcome::Failed("a port-forward has no process".to_owned()),
        }
    };
    tokio::select! {
        outcome = work => Some(outcome),
        () = client_gone => None,
    }
}

/// The sizes that come as JSON objects one behind the other.
fn sizes(from: Option<Reader>) -> mpsc::Receiver<Size> {
    let (send, receive) = mpsc::channel(4);
    if let Some(mut from) = from {
        tokio::spawn(async move {
            let mut buffer = Vec::new();
            let mut chunk = [0; 256];
            while let Ok(n @ 1..) = from.read(&mut chunk).await {
                buffer.extend_from_slice(&chunk[..n]);
                let mut objects = serde_json::Deserializer::from_slice(&buffer).into_iter();
                let mut last = None;
                while let Some(Ok(size)) = objects.next() {
                    last = Some(size);
                }
                let used = objects.byte_offset();
                buffer.drain(..used);
                if buffer.len() > LONGEST_SIZE {
                    return;
                }
                // Of many sizes at once the last one counts.
                if let Some(size) = last
                    && send.send(size).await.is_err()
                {
                    return;
                }
            }
        });
    }
    receive
}
