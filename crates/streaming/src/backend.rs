//! What is served: the program that has the containers implements [`Backend`].

use std::future::Future;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::pump::{Ends, Pump};

/// What the client sends.
pub type Reader = Box<dyn AsyncRead + Send + Unpin>;
/// What the client is sent; `shutdown` is its end of file.
pub type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// A terminal's size in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Size {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

/// A command to run in a container, as the CRI's ExecRequest has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecRequest {
    /// The container's full id.
    pub container: String,
    /// Program and arguments; never empty.
    pub cmd: Vec<String>,
    /// With a terminal.
    pub tty: bool,
    /// Which streams there are.
    pub stdin: bool,
    /// See `stdin`.
    pub stdout: bool,
    /// See `stdin`; never with a terminal.
    pub stderr: bool,
}

/// The streams of a container's own process, as the CRI's AttachRequest has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachRequest {
    /// The container's full id.
    pub container: String,
    /// The container has a terminal.
    pub tty: bool,
    /// Which streams there are.
    pub stdin: bool,
    /// See `stdin`.
    pub stdout: bool,
    /// See `stdin`; never with a terminal.
    pub stderr: bool,
}

/// Connections to ports of a pod, as the CRI's PortForwardRequest has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortForwardRequest {
    /// The sandbox's full id.
    pub pod: String,
    /// Ports named in advance; only the WebSocket channel form needs them.
    pub ports: Vec<u16>,
}

/// The client's ends of one exec or attach.
pub struct Streams {
    /// What the client types; end of file when it closes its half.
    pub stdin: Option<Reader>,
    /// Absent when not asked for.
    pub stdout: Option<Writer>,
    /// Absent when not asked for, and with a terminal.
    pub stderr: Option<Writer>,
    /// Sizes of the client's terminal; ends with the client.
    pub resize: mpsc::Receiver<Size>,
}

impl std::fmt::Debug for Streams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Streams")
            .field("stdin", &self.stdin.is_some())
            .field("stdout", &self.stdout.is_some())
            .field("stderr", &self.stderr.is_some())
            .finish_non_exhaustive()
    }
}

impl Streams {
    /// For a backend that speaks in descriptors: pipes whose far ends go to the process, with
    /// tasks that copy between them and the client. Also gives back the terminal's sizes.
    ///
    /// # Errors
    /// No pipe can be made.
    pub fn into_pipes(self) -> std::io::Result<(Ends, Pump, mpsc::Receiver<Size>)> {
        let (ends, pump) = crate::pump::start(self.stdin, self.stdout, self.stderr)?;
        Ok((ends, pump, self.resize))
    }
}

/// Who runs commands and opens connections.
///
/// Every method's future is dropped when the client is gone: what it holds must let go of the
/// process then (kill it, or leave it, as the daemon's contract says).
pub trait Backend: Send + Sync + 'static {
    /// Runs a command; the exit code (128 + n for signal n), or one line why it did not start.
    /// All output must have been written to the streams when this returns.
    fn exec(
        &self,
        request: ExecRequest,
        streams: Streams,
    ) -> impl Future<Output = Result<i32, String>> + Send;

    /// Joins a running container's streams; returns when the container or the client ends.
    fn attach(
        &self,
        request: AttachRequest,
        streams: Streams,
    ) -> impl Future<Output = Result<(), String>> + Send;

    /// A connection to a port on the pod's loopback, made inside its network namespace.
    fn port_forward(
        &self,
        pod: &str,
        port: u16,
    ) -> impl Future<Output = Result<TcpStream, String>> + Send;
}
