//! Port-forward as a client: any number of connections over one.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::AsyncReadExt;

use super::{TlsOptions, Transport, connect};
use crate::error::Error;
use crate::spdy::{Limits, ReadHalf, Role, Session, WriteHalf};
use crate::ws::{self, tunnel::Tunnel};

/// The stream protocol over SPDY.
const PROTOCOL: &str = "portforward.k8s.io";
/// No reason is longer.
const LONGEST_REASON: u64 = 4096;

/// A connection over which ports of a pod can be reached.
#[derive(Debug)]
pub struct Forwarder {
    session: Session,
    requests: AtomicU64,
}

/// One connection to a port.
#[derive(Debug)]
pub struct Connection {
    /// What the pod sends.
    pub read: ReadHalf,
    /// What the pod is sent.
    pub write: WriteHalf,
    error: ReadHalf,
}

impl Forwarder {
    /// Connects to a URL that the runtime gave.
    ///
    /// # Errors
    /// No connection, no upgrade, no common protocol.
    pub async fn connect(url: &str, transport: Transport, tls: &TlsOptions) -> Result<Self, Error> {
        let limits = Limits::default();
        let (session, _) = match transport {
            Transport::Spdy => {
                let (io, _) = connect::spdy(url, tls, &[PROTOCOL]).await?;
                Session::start(io, Role::Client, limits)?
            }
            Transport::WebSocket => {
                let (socket, protocol) = connect::websocket(url, tls, ws::TUNNEL).await?;
                if !ws::TUNNEL.contains(&protocol.as_str()) {
                    let reason = format!("{url}: the server does not tunnel SPDY; use spdy");
                    return Err(Error::WebSocket(reason));
                }
                Session::start(Tunnel::new(socket), Role::Client, limits)?
            }
        };
        Ok(Forwarder {
            session,
            requests: AtomicU64::new(0),
        })
    }

    /// Asks for a connection to a port. It can be written at once; whether the port answers shows
    /// in its [`Failure`].
    ///
    /// # Errors
    /// The connection below is closing.
    pub fn open(&self, port: u16) -> Result<Connection, Error> {
        let request = self.requests.fetch_add(1, Ordering::Relaxed).to_string();
        let port = port.to_string();
        let open = |kind: &str| {
            self.session.open(&[
                ("streamtype", kind),
                ("port", &port),
                ("requestid", &request),
            ])
        };
        let error = open("error")?.split().0;
        let (read, write) = open("data")?.split();
        Ok(Connection { read, write, error })
    }

    /// Waits until the connection below is gone.
    pub async fn ended(&self) {
        self.session.ended().await;
    }

    /// Ends it.
    pub async fn close(&self) {
        self.session.close();
        self.session.ended().await;
    }
}

impl Connection {
    /// The halves, and what the server says went wrong.
    #[must_use]
    pub fn split(self) -> (ReadHalf, WriteHalf, Failure) {
        (self.read, self.write, Failure(self.error))
    }
}

/// The server's word on a connection.
#[derive(Debug)]
pub struct Failure(ReadHalf);

impl Failure {
    /// Waits until the connection has ended: the reason if it failed.
    pub async fn reason(self) -> Option<String> {
        let mut text = String::new();
        // A connection that breaks says nothing more.
        let _ = self.0.take(LONGEST_REASON).read_to_string(&mut text).await;
        let text = text.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }
}
