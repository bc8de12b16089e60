//! Old protocols, wrong requests and TLS: what our own client would not do.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod common;

use std::path::Path;

use common::{BOTH, all, exec, start};
use futures_util::{SinkExt, StreamExt};
use streaming::client::TlsOptions;
use streaming::server::{Config, Tls, TlsFiles};
use streaming::spdy::{Limits, Role, Session};
use streaming::status::Outcome;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

/// Sends a request's head and reads the answer's.
async fn raw(url: &str, method: &str, headers: &str) -> (TcpStream, String) {
    let rest = url.strip_prefix("http://").expect("http");
    let (authority, path) = rest.split_once('/').expect("a path");
    let mut socket = TcpStream::connect(authority).await.expect("a connection");
    let request = format!("{method} /{path} HTTP/1.1\r\nHost: {authority}\r\n{headers}\r\n");
    socket.write_all(request.as_bytes()).await.expect("sent");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.expect("an answer"));
    }
    (socket, String::from_utf8_lossy(&head).to_lowercase())
}

const SPDY: &str = "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n";

#[tokio::test]
async fn refusals() {
    let running = start(Config::default()).await;
    let websocket = "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n";
    let key = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
    let table = [
        ("GET", String::new(), "400 bad request"),
        (
            "POST",
            "Connection: Upgrade\r\nUpgrade: h2c\r\n".to_owned(),
            "400 bad request",
        ),
        ("DELETE", SPDY.to_owned(), "405 method not allowed"),
        (
            "POST",
            format!("{SPDY}X-Stream-Protocol-Version: v9.channel.k8s.io\r\n"),
            "403 forbidden",
        ),
        ("GET", format!("{websocket}{key}"), "400 bad request"),
        (
            "GET",
            format!("{websocket}{key}Sec-WebSocket-Version: 8\r\n"),
            "400 bad request",
        ),
        (
            "GET",
            format!("{websocket}{key}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: v9\r\n"),
            "403 forbidden",
        ),
    ];
    for (method, headers, status) in table {
        let url = running.exec_url(&["true"], all());
        let (_, head) = raw(&url, method, &headers).await;
        assert!(
            head.starts_with(&format!("http/1.1 {status}")),
            "{headers:?}: {head}"
        );
    }
}

/// Before version 4 the error stream is text; before version 3 there are no sizes; the oldest
/// clients name no version at all.
#[tokio::test]
async fn old_spdy() {
    let running = start(Config::default()).await;
    for version in [
        "",
        "channel.k8s.io",
        "v2.channel.k8s.io",
        "v3.channel.k8s.io",
    ] {
        let url = running.exec_url(&["sh", "-c", "echo out; exit 5"], all());
        let header = match version {
            "" => String::new(),
            version => format!("X-Stream-Protocol-Version: {version}\r\n"),
        };
        let (socket, head) = raw(&url, "POST", &format!("{SPDY}{header}")).await;
        assert!(
            head.starts_with("http/1.1 101") && head.contains("upgrade: spdy/3.1"),
            "{head}"
        );
        let (session, _) = Session::start(socket, Role::Client, Limits::default()).expect("spdy");
        let open = |name: &str| {
            session
                .open(&[("streamtype", name)])
                .expect("a stream")
                .split()
        };
        let (mut error, _stdin) = (open("error").0, open("stdin"));
        let (mut out, _stderr) = (open("stdout").0, open("stderr"));
        let (mut text, mut output) = (String::new(), String::new());
        error.read_to_string(&mut text).await.expect("an outcome");
        out.read_to_string(&mut output).await.expect("output");
        assert_eq!(
            (text.as_str(), output.as_str()),
            ("command terminated with exit code 5", "out\n"),
            "{version}"
        );
    }
}

/// What is said in each form of WebSocket, as clients written in Go expect it.
#[tokio::test]
async fn messages_of_websocket() {
    let running = start(Config::default()).await;
    let success = r#"{"metadata":{},"status":"Success"}"#;
    let table = [
        ("", false, ""),
        ("channel.k8s.io", false, ""),
        ("v4.channel.k8s.io", false, success),
        ("base64.channel.k8s.io", true, ""),
        ("v4.base64.channel.k8s.io", true, success),
        ("v5.channel.k8s.io", false, success),
    ];
    for (protocol, base64, outcome) in table {
        let url = running.exec_url(&["head", "-c", "5"], all());
        let mut request = url
            .replace("http", "ws")
            .into_client_request()
            .expect("a request");
        if !protocol.is_empty() {
            let value = protocol.parse().expect("a header");
            request
                .headers_mut()
                .insert("sec-websocket-protocol", value);
        }
        let tcp = TcpStream::connect(running.address)
            .await
            .expect("a connection");
        let (mut socket, _) = tokio_tungstenite::client_async(request, tcp)
            .await
            .expect("upgraded");
        let input = match base64 {
            false => Message::binary(&b"\0hello"[..]),
            true => Message::text("0aGVsbG8="),
        };
        socket.send(input).await.expect("sent");
        let (mut out, mut error) = (Vec::new(), Vec::new());
        while let Some(Ok(message)) = socket.next().await {
            let (channel, bytes) = match message {
                Message::Binary(bytes) if !base64 => (bytes[0], bytes[1..].to_vec()),
                Message::Text(text) if base64 => {
                    use base64::Engine;
                    let engine = base64::engine::general_purpose::STANDARD;
                    (
                        text.as_bytes()[0] - b'0',
                        engine.decode(&text[1..]).expect("base64"),
                    )
                }
                Message::Close(frame) => {
                    let code = frame.map(|frame| u16::from(frame.code));
                    assert_eq!(code, Some(1000), "{protocol}");
                    break;
                }
                other => panic!("{protocol}: {other:?}"),
            };
            match channel {
                1 => out.extend(bytes),
                3 => error.extend(bytes),
                other => panic!("{protocol}: channel {other}"),
            }
        }
        assert_eq!(String::from_utf8_lossy(&out), "hello", "{protocol}");
        assert_eq!(String::from_utf8_lossy(&error), outcome, "{protocol}");
    }
}

/// A certificate's files: itself and its key, signed by `ca` or by itself.
fn certificate(dir: &Path, name: &str, ca: Option<&rcgen::CertifiedIssuer<'_, rcgen::KeyPair>>) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("names");
    let signed = match ca {
        Some(ca) => params.signed_by(&key, ca),
        None => params.self_signed(&key),
    };
    let pem = signed.expect("a certificate").pem();
    std::fs::write(dir.join(format!("{name}.pem")), pem).expect("written");
    std::fs::write(dir.join(format!("{name}.key")), key.serialize_pem()).expect("written");
}

/// An authority, and a server and a client that it has signed.
fn authority(dir: &Path) {
    let mut params = rcgen::CertificateParams::new(Vec::new()).expect("names");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().expect("a key");
    let ca = rcgen::CertifiedIssuer::self_signed(params, key).expect("an issuer");
    std::fs::write(dir.join("ca.pem"), ca.pem()).expect("written");
    certificate(dir, "server", Some(&ca));
    certificate(dir, "client", Some(&ca));
}

#[tokio::test]
async fn tls() {
    let dir = tempfile::tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name);
    authority(dir.path());
    let tls = Tls::load(TlsFiles {
        certificate: at("server.pem"),
        key: at("server.key"),
        client_ca: Some(at("ca.pem")),
        only_1_3: false,
    })
    .expect("certificates");
    let config = Config {
        tls: Some(tls.clone()),
        ..Config::default()
    };
    let running = start(config).await;
    let options = TlsOptions {
        server_name: Some("localhost".to_owned()),
        ca: Some(at("ca.pem")),
        identity: Some((at("client.pem"), at("client.key"))),
    };
    let attempt = |options: TlsOptions| {
        let url = running.exec_url(&["echo", "safe"], all());
        assert!(url.starts_with("https://"), "{url}");
        async move { exec(&url, BOTH[0], all(), &options, b"").await }
    };
    for transport in BOTH {
        let url = running.exec_url(&["echo", "safe"], all());
        let result = exec(&url, transport, all(), &options, b"")
            .await
            .expect("a connection");
        assert_eq!(
            (result.0, &result.1[..]),
            (Outcome::Exit(0), &b"safe\n"[..])
        );
    }
    let unchecked = TlsOptions {
        ca: None,
        ..options.clone()
    };
    attempt(unchecked).await.expect("any certificate will do");
    let nobody = TlsOptions {
        identity: None,
        ..options.clone()
    };
    attempt(nobody)
        .await
        .expect_err("a client without certificate");
    let wrong = TlsOptions {
        server_name: Some("other".to_owned()),
        ..options.clone()
    };
    attempt(wrong).await.expect_err("a server of another name");

    certificate(dir.path(), "server", None);
    attempt(options.clone())
        .await
        .expect("files are read when asked");
    tls.reload().expect("read again");
    attempt(options.clone())
        .await
        .expect_err("the new certificate is its own");
    std::fs::write(at("server.pem"), "rubbish").expect("written");
    tls.reload().expect_err("no certificate");
}
