//! The server: URLs that are good once, and what happens when a client comes with one.

mod forward;
mod http;
mod remote;
mod tls;

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::backend::{AttachRequest, Backend, ExecRequest, PortForwardRequest};
use crate::error::Error;
use crate::token::{Request, Tokens};

pub use tls::{Tls, TlsFiles};

/// How the server behaves.
#[derive(Debug, Clone)]
pub struct Config {
    /// What clients are told to connect to; the listener's own address if absent.
    pub advertise: Option<SocketAddr>,
    /// Certificates; plain HTTP without.
    pub tls: Option<Tls>,
    /// A connection without data for so long is closed.
    pub idle: Option<Duration>,
    /// A client that has upgraded opens its streams within this.
    pub stream_timeout: Duration,
    /// Connections at a time.
    pub connections: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            advertise: None,
            tls: None,
            idle: Some(Duration::from_secs(4 * 3600)),
            stream_timeout: Duration::from_secs(30),
            connections: 4096,
        }
    }
}

/// The streaming server of a daemon. Clones are the same server.
#[derive(Debug)]
pub struct Server<B>(Arc<Shared<B>>);

impl<B> Clone for Server<B> {
    fn clone(&self) -> Self {
        Server(Arc::clone(&self.0))
    }
}

#[derive(Debug)]
struct Shared<B> {
    backend: B,
    config: Config,
    address: SocketAddr,
    tokens: Tokens,
    places: Arc<Semaphore>,
}

impl<B: Backend> Server<B> {
    /// A server for the listener at `address`.
    pub fn new(backend: B, config: Config, address: SocketAddr) -> Self {
        Server(Arc::new(Shared {
            backend,
            address: config.advertise.unwrap_or(address),
            places: Arc::new(Semaphore::new(config.connections)),
            config,
            tokens: Tokens::default(),
        }))
    }

    /// The URL for the CRI's Exec.
    ///
    /// # Errors
    /// Too many requests wait for their clients.
    pub fn exec_url(&self, request: ExecRequest) -> Result<String, Error> {
        self.url(Request::Exec(request))
    }

    /// The URL for the CRI's Attach.
    ///
    /// # Errors
    /// Too many requests wait for their clients.
    pub fn attach_url(&self, request: AttachRequest) -> Result<String, Error> {
        self.url(Request::Attach(request))
    }

    /// The URL for the CRI's PortForward.
    ///
    /// # Errors
    /// Too many requests wait for their clients.
    pub fn port_forward_url(&self, request: PortForwardRequest) -> Result<String, Error> {
        self.url(Request::PortForward(request))
    }

    fn url(&self, request: Request) -> Result<String, Error> {
        let verb = request.verb();
        let token = self.0.tokens.leave(request, Instant::now())?;
        let scheme = if self.0.config.tls.is_some() {
            "https"
        } else {
            "http"
        };
        let mut address = self.0.address;
        if address.ip().is_unspecified() {
            // Clients of a listener on all addresses come from this machine.
            address.set_ip(match address.ip() {
                IpAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
            });
        }
        Ok(format!("{scheme}://{address}/{verb}/{token}"))
    }

    /// Serves until `shutdown`; connections that are open then go on until they end by themselves.
    ///
    /// # Errors
    /// The listener fails for good.
    pub async fn serve(
        &self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), Error> {
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            // Accepts only with a place free: the others wait in the kernel's queue.
            let place = tokio::select! {
                place = Arc::clone(&self.0.places).acquire_owned() => place,
                () = &mut shutdown => return Ok(()),
            };
            let Ok(place) = place else { return Ok(()) };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = &mut shutdown => return Ok(()),
            };
            match accepted {
                Ok((socket, _)) => {
                    let server = self.clone();
                    tokio::spawn(async move { server.connection(socket, place).await });
                }
                Err(e) if is_passing(&e) => tokio::time::sleep(Duration::from_millis(50)).await,
                Err(e) => return Err(Error::io("accept a streaming client")(e)),
            }
        }
    }

    async fn connection(&self, socket: TcpStream, place: tokio::sync::OwnedSemaphorePermit) {
        // A keystroke is a packet; it does not wait for more. Where that cannot be set it is slow.
        let _ = socket.set_nodelay(true);
        let place = Arc::new(place);
        match &self.0.config.tls {
            None => http::serve(self, socket, place).await,
            Some(tls) => {
                let accepted = tokio::time::timeout(http::HEAD_TIMEOUT, tls.accept(socket)).await;
                if let Ok(Ok(socket)) = accepted {
                    http::serve(self, socket, place).await;
                }
            }
        }
    }
}

/// Errors of one connection, or of a moment without descriptors or memory.
fn is_passing(e: &std::io::Error) -> bool {
    use rustix::io::Errno;
    let passing = [
        Errno::CONNABORTED,
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOBUFS,
        Errno::NOMEM,
        Errno::PROTO,
        Errno::INTR,
        Errno::PERM,
    ];
    Errno::from_io_error(e).is_some_and(|e| passing.contains(&e))
}
