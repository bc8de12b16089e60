//! The client: what `exec`, `attach` and `port-forward` need, over both transports.

mod connect;
mod forward;
mod remote;

use std::path::PathBuf;
use std::str::FromStr;

pub use forward::{Connection, Failure, Forwarder};
pub use remote::{Ask, Remote, Resizer};

/// How the streams cross the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Transport {
    /// SPDY/3.1, which every runtime has.
    #[default]
    Spdy,
    /// WebSocket.
    WebSocket,
}

impl FromStr for Transport {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "spdy" => Ok(Transport::Spdy),
            "websocket" => Ok(Transport::WebSocket),
            other => Err(format!("transport {other}: there are spdy and websocket")),
        }
    }
}

/// How an `https` server is checked, and what it is shown.
#[derive(Debug, Clone, Default)]
pub struct TlsOptions {
    /// Name in the server's certificate; the host of the URL if absent.
    pub server_name: Option<String>,
    /// Certificates to trust, PEM. Without it the server is not checked: its certificate is
    /// commonly its own, and its URL came over the runtime's socket.
    pub ca: Option<PathBuf>,
    /// The client's certificate and key, PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
}
