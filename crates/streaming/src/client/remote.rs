//! Exec and attach as a client.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{TlsOptions, Transport, connect};
use crate::backend::{Reader, Size, Writer};
use crate::error::Error;
use crate::spdy::{Limits, Role, Session, Stream};
use crate::status::Outcome;
use crate::ws::channels::Channels;
use crate::ws::{self, channels};

/// SPDY's stream protocols, the best first.
const SPDY: &[&str] = &[
    "v4.channel.k8s.io",
    "v3.channel.k8s.io",
    "v2.channel.k8s.io",
    "channel.k8s.io",
];
/// WebSocket's, the best first.
const WEBSOCKET: &[&str] = &["v5.channel.k8s.io", "v4.channel.k8s.io", "channel.k8s.io"];
/// No outcome is longer.
const LONGEST_OUTCOME: u64 = 64 << 10;

/// Which streams there are; as in the CRI request that gave the URL.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ask {
    /// Send input.
    pub stdin: bool,
    /// Receive output.
    pub stdout: bool,
    /// Receive errors; never with a terminal.
    pub stderr: bool,
    /// There is a terminal; its size can be sent.
    pub tty: bool,
}

/// Sends the terminal's size.
pub struct Resizer(Writer);

impl std::fmt::Debug for Resizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Resizer")
    }
}

impl Resizer {
    /// Sends a size.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn send(&mut self, size: Size) -> Result<(), Error> {
        let mut json = serde_json::to_vec(&size).unwrap_or_default();
        json.push(b'\n');
        let sent = self.0.write_all(&json).await;
        sent.map_err(Error::io("send the terminal's size"))
    }
}

/// A command or container at the other end. The streams are taken out and used beside
/// [`Remote::outcome`].
pub struct Remote {
    /// Input; shut down or dropped, it is the end of file.
    pub stdin: Option<Writer>,
    /// Output, to its end.
    pub stdout: Option<Reader>,
    /// Errors, to their end.
    pub stderr: Option<Reader>,
    /// With a terminal, if the protocol can.
    pub resize: Option<Resizer>,
    error: Reader,
    json: bool,
    connection: Connection,
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote").finish_non_exhaustive()
    }
}

/// What lives as long as the streams do.
enum Connection {
    /// The halves that nobody uses: dropped, they would reset their streams.
    Spdy(Session, Vec<Reader>),
    WebSocket,
}

impl Remote {
    /// Connects to a URL that the runtime gave.
    ///
    /// # Errors
    /// No connection, no upgrade, no common protocol.
    pub async fn connect(
        url: &str,
        transport: Transport,
        ask: Ask,
        tls: &TlsOptions,
    ) -> Result<Self, Error> {
        match transport {
            Transport::Spdy => Self::spdy(url, ask, tls).await,
            Transport::WebSocket => Self::websocket(url, ask, tls).await,
        }
    }

    async fn spdy(url: &str, ask: Ask, tls: &TlsOptions) -> Result<Self, Error> {
        let (io, protocol) = connect::spdy(url, tls, SPDY).await?;
        let (session, _) = Session::start(io, Role::Client, Limits::default())?;
        let mut kept = Vec::new();
        let open = |name: &str| session.open(&[("streamtype", name)]);
        let read = |wanted: bool, name: &str| -> Result<Option<Reader>, Error> {
            wanted.then(|| open(name).map(reading)).transpose()
        };
        // The error stream comes first, as servers expect it.
        let error = read(true, "error")?;
        let mut write = |wanted: bool, name: &str| -> Result<Option<Writer>, Error> {
            if !wanted {
                return Ok(None);
            }
            let (unread, write) = open(name)?.split();
            kept.push(Box::new(unread) as Reader);
            Ok(Some(Box::new(write) as Writer))
        };
        let stdin = write(ask.stdin, "stdin")?;
        let can_resize = matches!(protocol.as_str(), "v4.channel.k8s.io" | "v3.channel.k8s.io");
        let stdout = read(ask.stdout, "stdout")?;
        let stderr = read(ask.stderr && !ask.tty, "stderr")?;
        let resize = write(ask.tty && can_resize, "resize")?.map(Resizer);
        Ok(Remote {
            stdin,
            stdout,
            stderr,
            resize,
            error: error.ok_or(Error::Closed)?,
            json: protocol == "v4.channel.k8s.io",
            connection: Connection::Spdy(session, kept),
        })
    }

    async fn websocket(url: &str, ask: Ask, tls: &TlsOptions) -> Result<Self, Error> {
        let (socket, protocol) = connect::websocket(url, tls, WEBSOCKET).await?;
        let format = ws::remote_format(&protocol)
            .ok_or_else(|| Error::WebSocket(format!("{url}: the server chose {protocol:?}")))?;
        let all = Channels {
            reads: &[1, 2, 3],
            writes: &[0, 4],
            tells_ends: true,
        };
        let (readers, writers, _) = channels::start(socket, format, all, None);
        let mut readers = readers.into_iter().map(|r| Box::new(r) as Reader);
        let mut writers = writers.into_iter().map(|w| Box::new(w) as Writer);
        let (stdout, stderr, error) = (readers.next(), readers.next(), readers.next());
        let (stdin, resize) = (writers.next(), writers.next());
        Ok(Remote {
            stdin: stdin.filter(|_| ask.stdin),
            stdout: stdout.filter(|_| ask.stdout),
            stderr: stderr.filter(|_| ask.stderr && !ask.tty),
            // Kept also without a terminal: the connection lives as long as a writer does.
            resize: resize.map(Resizer),
            error: error.ok_or(Error::Closed)?,
            json: format.json_status,
            connection: Connection::WebSocket,
        })
    }

    /// Waits for the end: the exit code. The other streams are read to their ends by the caller
    /// at the same time.
    ///
    /// # Errors
    /// The command did not run, or the connection broke.
    pub async fn outcome(&mut self) -> Result<Outcome, Error> {
        let mut text = String::new();
        let read = (&mut self.error)
            .take(LONGEST_OUTCOME)
            .read_to_string(&mut text)
            .await;
        // A connection that breaks after the outcome has said all.
        if let (Err(e), true) = (read, text.is_empty()) {
            return Err(Error::io("read the outcome")(e));
        }
        Ok(Outcome::decode(&text, self.json))
    }

    /// Ends the connection; what was written before is sent.
    pub async fn close(self) {
        if let Connection::Spdy(session, _kept) = self.connection {
            session.close();
            session.ended().await;
        }
    }
}

fn reading(stream: Stream) -> Reader {
    // Our half says nothing and is closed by its drop.
    Box::new(stream.split().0)
}
