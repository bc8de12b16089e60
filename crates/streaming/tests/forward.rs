//! Port-forward, our client against our server over real sockets, both transports.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod common;

use std::net::SocketAddr;

use common::{BOTH, start};
use futures_util::{SinkExt, StreamExt};
use streaming::client::{Forwarder, TlsOptions, Transport};
use streaming::server::Config;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

/// A port that gives back what it is sent and then says goodbye; a message of `reset` breaks the
/// connection instead.
async fn echo_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                while let Ok(n @ 1..) = socket.read(&mut buffer).await {
                    if &buffer[..n] == b"reset" {
                        // Unread input or not: the peer sees a reset, not an end.
                        let linger = rustix::net::sockopt::set_socket_linger(
                            &socket,
                            Some(std::time::Duration::ZERO),
                        );
                        return linger.expect("linger");
                    }
                    if socket.write_all(&buffer[..n]).await.is_err() {
                        return;
                    }
                }
                let _ = socket.write_all(b"bye").await;
            });
        }
    });
    port
}

async fn forwarder(url: &str, transport: Transport) -> Forwarder {
    Forwarder::connect(url, transport, &TlsOptions::default())
        .await
        .expect("a connection")
}

/// Ends of files one by one: the pod answers after the client has finished.
#[tokio::test]
async fn half_closes() {
    let running = start(Config::default()).await;
    let port = echo_port().await;
    for transport in BOTH {
        let forwarder = forwarder(&running.forward_url(&[]), transport).await;
        let (mut read, mut write, failure) = forwarder.open(port).expect("a stream").split();
        let input = vec![7; 1_000_000];
        let sending = async {
            write.write_all(&input).await.expect("written");
            write.shutdown().await.expect("ended");
        };
        let mut back = Vec::new();
        let receiving = async { read.read_to_end(&mut back).await.expect("read") };
        tokio::join!(sending, receiving);
        assert_eq!(back.len(), input.len() + 3, "{transport:?}");
        assert!(back.ends_with(b"bye"));
        drop((read, write));
        assert_eq!(failure.reason().await, None);
        forwarder.close().await;
    }
}

/// What goes wrong on one connection stays there.
#[tokio::test]
async fn failures_stay_alone() {
    let running = start(Config::default()).await;
    let port = echo_port().await;
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        listener.local_addr().expect("an address").port()
    };
    for transport in BOTH {
        let forwarder = forwarder(&running.forward_url(&[]), transport).await;
        let (mut read, mut write, _failure) = forwarder.open(port).expect("a stream").split();
        write.write_all(b"one").await.expect("written");
        read.read_exact(&mut [0; 3]).await.expect("echo");

        let (_r, _w, failure) = forwarder.open(closed).expect("a stream").split();
        let reason = failure.reason().await.expect("a reason");
        let expected = format!("error forwarding port {closed} to pod p: connect to port {closed}");
        assert!(reason.starts_with(&expected), "{reason}");

        let (mut broken, mut breaking, failure) = forwarder.open(port).expect("a stream").split();
        breaking.write_all(b"reset").await.expect("written");
        assert_eq!(broken.read(&mut [0; 8]).await.expect("an end"), 0);
        drop((broken, breaking));
        assert_eq!(failure.reason().await, None);

        write.write_all(b"two").await.expect("written");
        read.read_exact(&mut [0; 3])
            .await
            .expect("the first one lives");
        forwarder.close().await;
    }
}

/// Thousands of connections over one, many at a time, and none remains.
#[tokio::test]
async fn thousands_of_connections_leave_nothing() {
    let running = start(Config::default()).await;
    let port = echo_port().await;
    let descriptors = || std::fs::read_dir("/proc/self/fd").expect("fds").count();
    for transport in BOTH {
        let forwarder = forwarder(&running.forward_url(&[]), transport).await;
        let before = descriptors();
        for _ in 0..40 {
            let batch = (0..50_u32).map(|i| {
                let (mut read, mut write, _failure) =
                    forwarder.open(port).expect("a stream").split();
                async move {
                    let text = i.to_le_bytes();
                    write.write_all(&text).await.expect("written");
                    if i % 5 == 0 {
                        return;
                    }
                    write.shutdown().await.expect("ended");
                    let mut back = Vec::new();
                    read.read_to_end(&mut back).await.expect("read");
                    assert_eq!(back, [&text[..], b"bye"].concat());
                }
            });
            let mut batch: tokio::task::JoinSet<()> = batch.collect();
            while let Some(done) = batch.join_next().await {
                done.expect("no panic");
            }
        }
        let mut looks = 0;
        while descriptors() > before && looks < 1000 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            looks += 1;
        }
        assert!(descriptors() <= before, "{} were {before}", descriptors());
        forwarder.close().await;
    }
}

/// The channel form of WebSocket: two channels for each port, in bytes and in base64.
#[tokio::test]
async fn channels_of_ports() {
    let running = start(Config::default()).await;
    let port = echo_port().await;
    for protocol in ["v4.channel.k8s.io", "v4.base64.channel.k8s.io"] {
        let base64 = protocol.contains("base64");
        let mut socket =
            channel_socket(running.address, &running.forward_url(&[port]), protocol).await;
        let [low, high] = port.to_le_bytes();
        for channel in [0, 1] {
            let (number, bytes) = receive(&mut socket, base64).await;
            assert_eq!((number, bytes), (channel, vec![low, high]), "{protocol}");
        }
        let hello = match base64 {
            false => Message::binary(&b"\0hello"[..]),
            true => Message::text("0aGVsbG8="),
        };
        socket.send(hello).await.expect("sent");
        let (number, bytes) = receive(&mut socket, base64).await;
        assert_eq!((number, bytes.as_slice()), (0, &b"hello"[..]), "{protocol}");
    }
}

type Socket = tokio_tungstenite::WebSocketStream<TcpStream>;

async fn channel_socket(address: SocketAddr, url: &str, protocol: &str) -> Socket {
    let mut request = url
        .replace("http://", "ws://")
        .into_client_request()
        .expect("a request");
    let value = protocol.parse().expect("a header");
    request
        .headers_mut()
        .insert("sec-websocket-protocol", value);
    let tcp = TcpStream::connect(address).await.expect("a connection");
    let shaken = tokio_tungstenite::client_async(request, tcp).await;
    shaken.expect("an upgrade").0
}

async fn receive(socket: &mut Socket, base64: bool) -> (u8, Vec<u8>) {
    use base64::Engine;
    let message = socket.next().await.expect("a message").expect("a message");
    let data = message.into_data();
    let (number, bytes) = data.split_first().expect("a channel");
    match base64 {
        false => (*number, bytes.to_vec()),
        true => {
            let bytes = base64::engine::general_purpose::STANDARD.decode(bytes);
            (number - b'0', bytes.expect("base64"))
        }
    }
}
