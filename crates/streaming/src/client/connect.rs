//! From a URL to an upgraded connection.

use std::sync::Arc;

use http::header::{CONNECTION, HOST, UPGRADE};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::TlsOptions;
use crate::error::Error;
use crate::ws;

/// The name of the header with which SPDY's stream protocol is chosen.
const STREAM_PROTOCOL: &str = "x-stream-protocol-version";

/// An upgraded connection.
pub type Io = TokioIo<Upgraded>;

/// Upgrades to SPDY; also the stream protocol that the server chose.
pub async fn spdy(url: &str, tls: &TlsOptions, offers: &[&str]) -> Result<(Io, String), Error> {
    let mut headers = HeaderMap::new();
    headers.insert(UPGRADE, http::HeaderValue::from_static("SPDY/3.1"));
    for offer in offers {
        headers.append(STREAM_PROTOCOL, value(url, offer)?);
    }
    let response = request(url, tls, Method::POST, headers).await?;
    let chosen = header(&response, STREAM_PROTOCOL);
    // Servers that choose none speak the oldest.
    let chosen = chosen.unwrap_or_else(|| offers.last().copied().unwrap_or_default().to_owned());
    Ok((upgraded(url, response).await?, chosen))
}

/// Upgrades to WebSocket; also the subprotocol that the server chose.
pub async fn websocket(
    url: &str,
    tls: &TlsOptions,
    offers: &[&str],
) -> Result<(WebSocketStream<Io>, String), Error> {
    let key = generate_key();
    let mut headers = HeaderMap::new();
    headers.insert(UPGRADE, http::HeaderValue::from_static("websocket"));
    headers.insert(
        "sec-websocket-version",
        http::HeaderValue::from_static("13"),
    );
    headers.insert("sec-websocket-key", value(url, &key)?);
    headers.insert("sec-websocket-protocol", value(url, &offers.join(", "))?);
    let response = request(url, tls, Method::GET, headers).await?;
    let accept = header(&response, "sec-websocket-accept").unwrap_or_default();
    if accept != derive_accept_key(key.as_bytes()) {
        return Err(Error::WebSocket(format!(
            "{url}: the server did not accept our key"
        )));
    }
    let chosen = header(&response, "sec-websocket-protocol").unwrap_or_default();
    let io = upgraded(url, response).await?;
    let socket = WebSocketStream::from_raw_socket(io, Role::Client, Some(ws::config())).await;
    Ok((socket, chosen))
}

fn value(url: &str, text: &str) -> Result<http::HeaderValue, Error> {
    http::HeaderValue::from_str(text).map_err(|e| Error::Url {
        url: url.to_owned(),
        reason: format!("header {text:?}: {e}"),
    })
}

fn header(response: &Response<Incoming>, name: &str) -> Option<String> {
    let value = response.headers().get(name)?;
    value.to_str().ok().map(str::to_owned)
}

async fn upgraded(url: &str, response: Response<Incoming>) -> Result<Io, Error> {
    let upgraded = hyper::upgrade::on(response).await;
    upgraded.map(TokioIo::new).map_err(|e| failed(url, &e))
}

fn failed(url: &str, e: &dyn std::fmt::Display) -> Error {
    Error::Http {
        what: format!("upgrade {url}"),
        reason: e.to_string(),
    }
}

async fn request(
    url: &str,
    tls: &TlsOptions,
    method: Method,
    mut headers: HeaderMap,
) -> Result<Response<Incoming>, Error> {
    let wrong = |reason: &str| Error::Url {
        url: url.to_owned(),
        reason: reason.to_owned(),
    };
    let uri: Uri = url.parse().map_err(|_| wrong("it cannot be read"))?;
    let host = uri.host().ok_or_else(|| wrong("no host"))?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let secure = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => return Err(wrong("it is neither http nor https")),
    };
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let socket = TcpStream::connect((host, port)).await;
    let socket = socket.map_err(Error::io(format!("connect to {host} port {port}")))?;
    // A keystroke is a packet. Where that cannot be set it is slow.
    let _ = socket.set_nodelay(true);
    let authority = uri.authority().map_or("", |a| a.as_str());
    headers.insert(HOST, value(url, authority)?);
    headers.insert(CONNECTION, http::HeaderValue::from_static("Upgrade"));
    let target = uri.path_and_query().map_or("/", |p| p.as_str());
    let request = Request::builder().method(method).uri(target);
    let mut request = request
        .body(Empty::<bytes::Bytes>::new())
        .map_err(|e| failed(url, &e))?;
    *request.headers_mut() = headers;
    let response = match secure {
        false => send(url, socket, request).await?,
        true => {
            let name = tls.server_name.clone().unwrap_or_else(|| host.to_owned());
            let name = ServerName::try_from(name).map_err(|e| Error::Tls(e.to_string()))?;
            let connector = TlsConnector::from(Arc::new(config(tls)?));
            let socket = connector.connect(name, socket).await;
            let socket = socket.map_err(Error::io(format!("tls with {host} port {port}")))?;
            send(url, socket, request).await?
        }
    };
    match response.status() {
        StatusCode::SWITCHING_PROTOCOLS => Ok(response),
        _ => Err(refused(url, response).await),
    }
}

async fn send<T>(
    url: &str,
    socket: T,
    request: Request<Empty<bytes::Bytes>>,
) -> Result<Response<Incoming>, Error>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let shaken = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await;
    let (mut sender, connection) = shaken.map_err(|e| failed(url, &e))?;
    // What goes wrong in there shows in the answer.
    tokio::spawn(connection.with_upgrades());
    sender
        .send_request(request)
        .await
        .map_err(|e| failed(url, &e))
}

/// The first line of what the server says instead.
async fn refused(url: &str, response: Response<Incoming>) -> Error {
    let status = response.status().to_string();
    let body = Limited::new(response.into_body(), 4096).collect().await;
    let bytes = body
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    Error::Refused {
        url: url.to_owned(),
        status,
        body: text.lines().next().unwrap_or_default().to_owned(),
    }
}

fn config(options: &TlsOptions) -> Result<ClientConfig, Error> {
    let wrong = |e: TlsError| Error::Tls(e.to_string());
    let builder = ClientConfig::builder_with_provider(crate::tls::provider())
        .with_safe_default_protocol_versions()
        .map_err(wrong)?;
    let builder = match &options.ca {
        Some(path) => builder.with_root_certificates(crate::tls::roots(path)?),
        None => builder.with_root_certificates(RootCertStore::empty()),
    };
    let mut config = match &options.identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let (chain, key) = crate::tls::identity(certificate, key)?;
            builder.with_client_auth_cert(chain, key).map_err(wrong)?
        }
    };
    if options.ca.is_none() {
        config
            .dangerous()
            .set_certificate_verifier(Arc::new(Unchecked));
    }
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Takes any certificate; see [`TlsOptions::ca`].
#[derive(Debug)]
struct Unchecked;

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        crate::tls::provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
