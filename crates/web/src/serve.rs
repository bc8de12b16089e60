//! `GET /metrics`, and `GET /` for the status page.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use pods::Engine;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;

use crate::Metrics;
use crate::status::{self, Shape, Slow};

/// Connections at a time.
const CONNECTIONS: usize = 64;
/// How long a client may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(10);
/// The type of what [`Metrics::text`] gives.
const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Where clients come from.
#[derive(Debug)]
pub enum Listener {
    /// The network.
    Tcp(TcpListener),
    /// This machine.
    Unix(UnixListener),
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Listener {
    async fn accept(&self) -> std::io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Tcp(l) => Box::new(l.accept().await?.0),
            Self::Unix(l) => Box::new(l.accept().await?.0),
        })
    }
}

/// What a listener gives away.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Shown {
    /// Only the metrics: names of pods do not leave.
    Metrics,
    /// The metrics and the status page.
    All,
}

/// Serves until `end`.
pub async fn serve(
    listener: Listener,
    shown: Shown,
    metrics: Arc<Metrics>,
    engine: Engine,
    end: impl Future<Output = ()> + Send,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let slow = Slow::default();
    let mut end = std::pin::pin!(end);
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut end => return,
        };
        let Ok(socket) = accepted else {
            // Out of descriptors, most likely: others may give some back.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (metrics, engine, slow) = (Arc::clone(&metrics), engine.clone(), slow.clone());
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let (metrics, engine, slow) = (&metrics, &engine, &slow);
                async move {
                    let response = answer(&request, shown, metrics, engine, slow).await;
                    Ok::<_, Infallible>(response)
                }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .serve_connection(TokioIo::new(socket), service);
            // A client that has gone is its own affair.
            let _ = connection.await;
            drop(place);
        });
    }
}

async fn answer(
    request: &Request<Incoming>,
    shown: Shown,
    metrics: &Metrics,
    engine: &Engine,
    slow: &Slow,
) -> Response<Full<Bytes>> {
    let plain = |status: StatusCode, text: &str| {
        let mut response = Response::new(Full::new(Bytes::from(text.to_owned())));
        *response.status_mut() = status;
        response
    };
    let typed = |kind: &'static str, text: &str| {
        let mut response = plain(StatusCode::OK, text);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        // Nothing but the page's own style: names in it come from others.
        let policy = "default-src 'none'; style-src 'unsafe-inline'";
        headers.insert(
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static(policy),
        );
        response
    };
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics") => match metrics.text(engine) {
            Ok(text) => typed(TYPE, &text),
            Err(_) => plain(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the metrics cannot be written\n",
            ),
        },
        (&Method::GET, "/" | "/status") if shown == Shown::All => {
            let shape = Shape::of_query(request.uri().query().unwrap_or_default());
            let (kind, text) =
                status::collect(engine, metrics, slow.look(engine).await).write(shape);
            typed(kind, &text)
        }
        (_, "/metrics" | "/" | "/status") if request.method() != Method::GET => {
            plain(StatusCode::METHOD_NOT_ALLOWED, "GET only\n")
        }
        _ => plain(StatusCode::NOT_FOUND, "see /metrics\n"),
    }
}
