//! The request: its token, the protocols it offers, the upgrade.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{CONNECTION, HeaderMap, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OwnedSemaphorePermit;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::{Server, forward, remote};
use crate::backend::Backend;
use crate::token;
use crate::ws;

/// A client sends its request within this.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// What Kubernetes' SPDY clients and servers name their choice of protocol by.
pub const STREAM_PROTOCOL: &str = "x-stream-protocol-version";
/// Port-forward's SPDY protocol.
pub const FORWARD_PROTOCOL: &str = "portforward.k8s.io";

type Body = http_body_util::Full<bytes::Bytes>;

/// What the client and we have agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Agreed {
    /// SPDY, with this stream protocol.
    Spdy(&'static str),
    /// WebSocket channels.
    Channels(ws::Format, String),
    /// SPDY within WebSocket.
    Tunnel(String),
}

/// Why there is no agreement.
type Refusal = (StatusCode, String);

/// Speaks HTTP on a connection until it is upgraded or ends.
pub async fn serve<B, T>(server: &Server<B>, socket: T, place: Arc<OwnedSemaphorePermit>)
where
    B: Backend,
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = service_fn(|request| {
        let response = answer(server, request, &place);
        async { Ok::<_, Infallible>(response) }
    });
    // What goes wrong before the upgrade is the client's to notice.
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(64 << 10)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades()
        .await;
}

fn answer<B: Backend>(
    server: &Server<B>,
    mut request: Request<Incoming>,
    place: &Arc<OwnedSemaphorePermit>,
) -> Response<Body> {
    let upgrade = hyper::upgrade::on(&mut request);
    match agree(server, &request) {
        Err((status, reason)) => text(status, reason),
        Ok((wanted, agreed)) => {
            let response = switching(&agreed, request.headers());
            let server = server.clone();
            let place = Arc::clone(place);
            tokio::spawn(async move {
                run(&server, upgrade, wanted, agreed).await;
                drop(place);
            });
            response
        }
    }
}

fn agree<B: Backend>(
    server: &Server<B>,
    request: &Request<Incoming>,
) -> Result<(token::Request, Agreed), Refusal> {
    if !matches!(*request.method(), Method::GET | Method::POST) {
        let reason = format!("{} is not allowed here", request.method());
        return Err((StatusCode::METHOD_NOT_ALLOWED, reason));
    }
    let path = request.uri().path().trim_start_matches('/');
    let (verb, name) = path.split_once('/').unwrap_or((path, ""));
    let wanted = server.0.tokens.fetch(verb, name, Instant::now());
    let unknown = || {
        let reason = "no such token; each is good once and for a minute";
        (StatusCode::NOT_FOUND, reason.to_owned())
    };
    let mut wanted = wanted.ok_or_else(unknown)?;
    if let token::Request::PortForward(forward) = &mut wanted
        && forward.ports.is_empty()
    {
        forward.ports = query_ports(request.uri().query().unwrap_or_default());
    }
    let forward = matches!(wanted, token::Request::PortForward(_));
    let agreed = negotiate(request.headers(), forward)?;
    Ok((wanted, agreed))
}

fn query_ports(query: &str) -> Vec<u16> {
    query
        .split('&')
        .filter_map(|pair| pair.strip_prefix("port="))
        .flat_map(|list| list.split(','))
        .filter_map(|port| port.parse().ok())
        .collect()
}

/// The values of a header that is a list, over all its lines.
fn values<'h>(headers: &'h HeaderMap, name: &str) -> Vec<&'h str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|value| !value.is_empty())
        .collect()
}

fn negotiate(headers: &HeaderMap, forward: bool) -> Result<Agreed, Refusal> {
    let has = |name: &str, wanted: &str| {
        values(headers, name)
            .iter()
            .any(|value| value.eq_ignore_ascii_case(wanted))
    };
    if has("connection", "upgrade") && has("upgrade", "websocket") {
        return websocket(headers, forward);
    }
    if !has("connection", "upgrade") || !has("upgrade", "SPDY/3.1") {
        let reason = "an upgrade to SPDY/3.1 or websocket is needed";
        return Err((StatusCode::BAD_REQUEST, reason.to_owned()));
    }
    let offered = values(headers, STREAM_PROTOCOL);
    let known: &[&str] = match forward {
        true => &[FORWARD_PROTOCOL],
        false => remote::PROTOCOLS,
    };
    if offered.is_empty() {
        // Clients that name none are older than the names.
        return Ok(Agreed::Spdy(known[known.len() - 1]));
    }
    let chosen = offered
        .iter()
        .find_map(|offer| known.iter().find(|name| *name == offer));
    chosen.map(|name| Agreed::Spdy(name)).ok_or_else(|| {
        let reason = format!(
            "none of the stream protocols {} is known; known are {}",
            offered.join(", "),
            known.join(", ")
        );
        (StatusCode::FORBIDDEN, reason)
    })
}

fn websocket(headers: &HeaderMap, forward: bool) -> Result<Agreed, Refusal> {
    if headers
        .get("sec-websocket-version")
        .is_none_or(|v| v != "13")
        || !headers.contains_key("sec-websocket-key")
    {
        let reason = "a WebSocket key and version 13 are needed";
        return Err((StatusCode::BAD_REQUEST, reason.to_owned()));
    }
    let mut offered = values(headers, "sec-websocket-protocol");
    if offered.is_empty() {
        offered.push("");
    }
    for offer in &offered {
        if forward && ws::TUNNEL.contains(offer) {
            return Ok(Agreed::Tunnel((*offer).to_owned()));
        }
        let format = match forward {
            true => ws::forward_format(offer),
            false => ws::remote_format(offer),
        };
        if let Some(format) = format {
            return Ok(Agreed::Channels(format, (*offer).to_owned()));
        }
    }
    let reason = format!("none of the subprotocols {} is known", offered.join(", "));
    Err((StatusCode::FORBIDDEN, reason))
}

fn text(status: StatusCode, reason: String) -> Response<Body> {
    let mut response = Response::new(Body::from(format!("{reason}\n")));
    *response.status_mut() = status;
    response
}

fn switching(agreed: &Agreed, request: &HeaderMap) -> Response<Body> {
    let mut response = Response::new(Body::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    let upgrade = http::HeaderValue::from_static("Upgrade");
    headers.insert(CONNECTION, upgrade);
    match agreed {
        Agreed::Spdy(protocol) => {
            headers.insert(UPGRADE, http::HeaderValue::from_static("SPDY/3.1"));
            headers.insert(STREAM_PROTOCOL, http::HeaderValue::from_static(protocol));
        }
        Agreed::Channels(_, protocol) | Agreed::Tunnel(protocol) => {
            headers.insert(UPGRADE, http::HeaderValue::from_static("websocket"));
            let key = request.get("sec-websocket-key").map(|key| key.as_bytes());
            let accept = derive_accept_key(key.unwrap_or_default());
            // Base64, and a value that came in as a header's.
            if let Ok(accept) = http::HeaderValue::from_str(&accept) {
                headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
            }
            if let (Ok(value), false) = (protocol.parse(), protocol.is_empty()) {
                headers.insert(SEC_WEBSOCKET_PROTOCOL, value);
            }
        }
    }
    response
}

async fn run<B: Backend>(
    server: &Server<B>,
    upgrade: OnUpgrade,
    wanted: token::Request,
    agreed: Agreed,
) {
    // A client that is gone before the upgrade has asked for nothing.
    let Ok(upgraded) = upgrade.await else { return };
    let io = TokioIo::new(upgraded);
    match agreed {
        Agreed::Spdy(protocol) => match wanted {
            token::Request::PortForward(forward) => forward::over_spdy(server, &forward, io).await,
            other => remote::over_spdy(server, other, protocol, io).await,
        },
        Agreed::Channels(format, _) => {
            let config = Some(ws::config());
            let socket = WebSocketStream::from_raw_socket(io, Role::Server, config).await;
            match wanted {
                token::Request::PortForward(forward) => {
                    forward::over_channels(server, &forward, format, socket).await;
                }
                other => remote::over_channels(server, other, format, socket).await,
            }
        }
        Agreed::Tunnel(_) => {
            let config = Some(ws::config());
            let socket = WebSocketStream::from_raw_socket(io, Role::Server, config).await;
            if let token::Request::PortForward(forward) = wanted {
                forward::over_spdy(server, &forward, ws::tunnel::Tunnel::new(socket)).await;
            }
        }
    }
}
