use bytes::BytesMut;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::frame::{self, Control, FIN, HEAD, Head, status};
use super::headers::{Deflater, Inflater, LONGEST};
use super::{Incoming, Limits, Role, Session, Stream};

fn decode(bytes: &[u8]) -> Result<Control<'_>, String> {
    let head = bytes[..HEAD].try_into().expect("eight bytes");
    match frame::head(head)? {
        Head::Control {
            kind,
            flags,
            length,
        } => {
            assert_eq!(bytes.len() - HEAD, usize::try_from(length).expect("small"));
            frame::control(kind, flags, &bytes[HEAD..])
        }
        Head::Data { .. } => Err("data".to_owned()),
    }
}

/// Frames as the protocol's text draws them.
#[test]
fn bytes_of_frames() {
    let table: [(&[u8], Control<'_>); 8] = [
        (
            &[
                0x80, 3, 0, 1, 1, 0, 0, 12, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 7, 8,
            ],
            Control::SynStream {
                id: 5,
                flags: FIN,
                block: &[7, 8],
            },
        ),
        (
            &[0x80, 3, 0, 2, 0, 0, 0, 5, 0, 0, 0, 5, 9],
            Control::SynReply {
                id: 5,
                flags: 0,
                block: &[9],
            },
        ),
        (
            &[0x80, 3, 0, 3, 0, 0, 0, 8, 0, 0, 0, 5, 0, 0, 0, 5],
            Control::RstStream {
                id: 5,
                status: status::CANCEL,
            },
        ),
        (
            &[
                0x80, 3, 0, 4, 0, 0, 0, 12, 0, 0, 0, 1, 0, 0, 0, 7, 0, 1, 0, 0,
            ],
            Control::Settings(vec![(frame::SETTING_INITIAL_WINDOW, 65536)]),
        ),
        (&[0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 2], Control::Ping(2)),
        (
            &[0x80, 3, 0, 7, 0, 0, 0, 8, 0, 0, 0, 9, 0, 0, 0, 1],
            Control::GoAway { last: 9, status: 1 },
        ),
        (
            &[0x80, 3, 0, 8, 1, 0, 0, 4, 0, 0, 0, 5],
            Control::Headers {
                id: 5,
                flags: FIN,
                block: &[],
            },
        ),
        (
            &[0x80, 3, 0, 9, 0, 0, 0, 8, 0, 0, 0, 0, 0, 1, 0, 0],
            Control::WindowUpdate {
                id: 0,
                delta: 65536,
            },
        ),
    ];
    for (bytes, frame) in table {
        assert_eq!(decode(bytes).as_ref(), Ok(&frame));
        let mut out = BytesMut::new();
        frame::put(&mut out, &frame);
        assert_eq!(&out[..], bytes);
    }
}

/// What is refused, and how that reads.
#[test]
fn wrong_frames() {
    let table: [(&[u8], &str); 6] = [
        (
            &[0x80, 2, 0, 1, 0, 0, 0, 0],
            "version 2 of the protocol, 3 is needed",
        ),
        (
            &[0x80, 3, 0, 1, 0, 1, 0, 1],
            "a control frame of 65537 bytes, 65536 are allowed",
        ),
        (
            &[0x80, 3, 0, 1, 0, 0, 0, 1, 0],
            "a control frame of type 1 with 1 bytes",
        ),
        (
            &[0x80, 3, 0, 6, 0, 0, 0, 5, 0, 0, 0, 1, 0],
            "a control frame of type 6 with 5 bytes",
        ),
        (
            &[0x80, 3, 0, 2, 0, 0, 0, 4, 0x80, 0, 0, 0],
            "a control frame of type 2 for stream 0",
        ),
        (
            &[0x80, 3, 0, 4, 0, 0, 0, 4, 0xff, 0xff, 0xff, 0xff],
            "a control frame of type 4 with 4 bytes",
        ),
    ];
    for (bytes, message) in table {
        assert_eq!(decode(bytes), Err(message.to_owned()));
    }
}

proptest! {
    /// Any payload of any type is a frame or one line; what is a frame is written as it was read.
    #[test]
    fn frames_survive(kind in 0_u16..12, flags in 0_u8..4, payload in prop::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(control) = frame::control(kind, flags, &payload) {
            let mut out = BytesMut::new();
            frame::put(&mut out, &control);
            prop_assert_eq!(decode(&out), Ok(control));
        }
    }

    /// Blocks of one connection come out as they went in, in order.
    #[test]
    fn header_blocks_survive(lists in prop::collection::vec(
        prop::collection::vec(("[a-z:-]{1,12}", "[ -~é]{0,40}"), 0..6), 1..5))
    {
        let mut deflater = Deflater::new().expect("zlib");
        let mut inflater = Inflater::default();
        for list in lists {
            let list: Vec<(&str, &str)> = list.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            let block = deflater.block(&list).expect("short");
            let back = inflater.headers(&block).expect("a block");
            let back: Vec<(&str, &str)> = back.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            prop_assert_eq!(back, list);
        }
    }

    /// Any bytes are headers or one line.
    #[test]
    fn any_block_ends(block in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Err(e) = Inflater::default().headers(&block) {
            prop_assert!(e.starts_with("headers") && !e.contains('\n'));
        }
    }
}

/// A few hundred bytes that would be 16 MB.
#[test]
fn a_block_that_explodes_is_refused() {
    let mut zlib = flate2::Compress::new(flate2::Compression::best(), true);
    zlib.set_dictionary(super::dictionary::bytes())
        .expect("a dictionary");
    let mut bomb = Vec::with_capacity(1 << 20);
    zlib.compress_vec(&vec![0; 16 << 20], &mut bomb, flate2::FlushCompress::Sync)
        .expect("zlib");
    assert!(bomb.len() < 32 << 10, "{}", bomb.len());
    let refusal = Inflater::default().headers(&bomb);
    assert_eq!(refusal, Err(format!("headers longer than {LONGEST} bytes")));
}

fn pair(limits: Limits) -> (Session, Session, Incoming) {
    let (a, b) = tokio::io::duplex(4096);
    let (client, _) = Session::start(a, Role::Client, limits).expect("a client");
    let (server, incoming) = Session::start(b, Role::Server, limits).expect("a server");
    (client, server, incoming)
}

async fn echo(stream: Stream) {
    let (mut read, mut write) = stream.split();
    crate::pump::copy(&mut read, &mut write).await;
}

/// More than all windows through one stream and back, then the half-close.
#[tokio::test]
async fn echo_beyond_the_windows() {
    let limits = Limits {
        stream_window: 8 << 10,
        connection_window: 96 << 10,
        ..Limits::default()
    };
    let (client, server, mut incoming) = pair(limits);
    let stream = client.open(&[("streamtype", "stdin")]).expect("a stream");
    let (mut read, mut write) = stream.split();
    let other = incoming.next().await.expect("a stream");
    assert_eq!(other.header("streamtype"), Some("stdin"));
    tokio::spawn(echo(other));
    let sent: Vec<u8> = (0..2_000_000_u32).map(|i| i.to_le_bytes()[1]).collect();
    let expected = sent.clone();
    tokio::spawn(async move {
        write.write_all(&sent).await.expect("written");
        write.shutdown().await.expect("ended");
        write
    });
    let mut back = Vec::new();
    read.read_to_end(&mut back).await.expect("read");
    assert!(
        back == expected,
        "{} of {} bytes",
        back.len(),
        expected.len()
    );
    drop(read);
    client.close();
    client.ended().await;
    server.ended().await;
    assert_eq!((client.open_streams(), server.open_streams()), (0, 0));
}

/// A stream that nobody reads holds its own writer and nobody else's.
#[tokio::test]
async fn a_stalled_stream_stalls_alone() {
    let (client, _server, mut incoming) = pair(Limits {
        stream_window: 64 << 10,
        ..Limits::default()
    });
    let (_r1, mut stalled) = client.open(&[]).expect("a stream").split();
    let _unread = incoming.next().await.expect("a stream");
    let stuck = tokio::spawn(async move { stalled.write_all(&[1; 300 << 10]).await });
    let (mut read, mut write) = client.open(&[]).expect("a stream").split();
    tokio::spawn(echo(incoming.next().await.expect("a stream")));
    for _ in 0..100 {
        write.write_all(&[2; 4096]).await.expect("written");
        read.read_exact(&mut [0; 4096]).await.expect("read");
    }
    assert!(!stuck.is_finished());
    client.close();
    client.ended().await;
    assert!(stuck.await.expect("no panic").is_err());
}

/// Streams by the thousands, ended in every way, leave nothing on either side.
#[tokio::test]
async fn thousands_of_streams_leave_nothing() {
    let (client, server, mut incoming) = pair(Limits::default());
    let serving = tokio::spawn(async move {
        let mut n = 0;
        while let Some(stream) = incoming.next().await {
            n += 1;
            match n % 4 {
                0 => drop(stream),
                1 => stream.split().1.cancel(),
                _ => drop(tokio::spawn(echo(stream))),
            }
        }
        n
    });
    for round in 0..50 {
        let streams: Vec<Stream> = (0..100)
            .map(|_| client.open(&[("port", "80")]).expect("a stream"))
            .collect();
        for (i, stream) in streams.into_iter().enumerate() {
            let (mut read, mut write) = stream.split();
            // Refused, cancelled or taken: all of them may be.
            let _ = write.write_all(b"hello").await;
            if i % 3 == 0 {
                drop(write);
                let mut back = Vec::new();
                let _ = read.read_to_end(&mut back).await;
                assert!(back.is_empty() || back == b"hello", "round {round}");
            }
        }
    }
    client.close();
    client.ended().await;
    server.ended().await;
    assert_eq!(serving.await.expect("no panic"), 5000);
    assert_eq!((client.open_streams(), server.open_streams()), (0, 0));
}

/// Writes raw frames at a server and gives back what it answers until the connection ends.
async fn provoke(frames: &[u8], limits: Limits) -> Vec<u8> {
    let (mut raw, io) = tokio::io::duplex(1 << 20);
    let (session, incoming) = Session::start(io, Role::Server, limits).expect("a server");
    raw.write_all(frames).await.expect("written");
    raw.shutdown().await.expect("ended");
    let mut answer = Vec::new();
    raw.read_to_end(&mut answer).await.expect("read");
    session.ended().await;
    drop(incoming);
    assert_eq!(session.open_streams(), 0);
    answer
}

fn contains(answer: &[u8], frame: &Control<'_>) -> bool {
    let mut wanted = BytesMut::new();
    frame::put(&mut wanted, frame);
    answer.windows(wanted.len()).any(|w| w == &wanted[..])
}

fn opening(ids: &[u32]) -> BytesMut {
    let mut deflater = Deflater::new().expect("zlib");
    let mut out = BytesMut::new();
    for id in ids {
        let block = deflater.block(&[("a", "b")]).expect("short");
        frame::put(
            &mut out,
            &Control::SynStream {
                id: *id,
                flags: 0,
                block: &block,
            },
        );
    }
    out
}

/// A peer that knows of windows and oversteps one loses the stream, or the connection.
#[tokio::test]
async fn overstepped_windows() {
    let limits = Limits {
        stream_window: 64 << 10,
        connection_window: 96 << 10,
        ..Limits::default()
    };
    let mut frames = BytesMut::new();
    frame::put(
        &mut frames,
        &Control::Settings(vec![(frame::SETTING_INITIAL_WINDOW, 1)]),
    );
    frames.extend_from_slice(&opening(&[1]));
    frame::put_data(&mut frames, 1, 0, &[0; (64 << 10) + 1]);
    let lost = Control::RstStream {
        id: 1,
        status: status::FLOW_CONTROL_ERROR,
    };
    let answer = provoke(&frames, limits).await;
    assert!(contains(&answer, &lost));

    let mut frames = BytesMut::new();
    frame::put(
        &mut frames,
        &Control::Settings(vec![(frame::SETTING_INITIAL_WINDOW, 1)]),
    );
    frames.extend_from_slice(&opening(&[1, 3]));
    for id in [1, 3] {
        frame::put_data(&mut frames, id, 0, &[0; 64 << 10]);
    }
    let answer = provoke(&frames, limits).await;
    assert!(contains(&answer, &Control::GoAway { last: 3, status: 1 }));
}

/// Broken rules and odd frames, and what the server says to them.
#[tokio::test]
async fn broken_rules() {
    let goodbye = |last| Control::GoAway { last, status: 1 };
    let refused = Control::RstStream {
        id: 3,
        status: status::REFUSED_STREAM,
    };
    let invalid = Control::RstStream {
        id: 9,
        status: status::INVALID_STREAM,
    };
    let limits = Limits {
        streams: 1,
        ..Limits::default()
    };
    let mut ping = BytesMut::new();
    frame::put(&mut ping, &Control::Ping(7));
    frame::put(&mut ping, &Control::Unknown(5));
    let mut stray = BytesMut::new();
    frame::put_data(&mut stray, 9, 0, b"x");
    let table: [(BytesMut, &Control<'_>); 6] = [
        (opening(&[1, 3]), &refused),
        (opening(&[3, 1]), &goodbye(3)),
        (opening(&[2]), &goodbye(0)),
        (
            BytesMut::from(&b"\x80\x02\x00\x01\0\0\0\0"[..]),
            &goodbye(0),
        ),
        (ping, &Control::Ping(7)),
        (stray, &invalid),
    ];
    for (frames, answer) in table {
        let all = provoke(&frames, limits).await;
        assert!(contains(&all, answer), "{answer:?} is not in {all:02x?}");
    }
}

/// A peer that asks for answers and never reads them does not fill the memory.
#[tokio::test]
async fn a_flood_of_pings_ends() {
    let (mut raw, io) = tokio::io::duplex(4096);
    let (session, _incoming) =
        Session::start(io, Role::Server, Limits::default()).expect("a server");
    let mut ping = BytesMut::new();
    for _ in 0..1000 {
        frame::put(&mut ping, &Control::Ping(1));
    }
    while raw.write_all(&ping).await.is_ok() {}
    session.ended().await;
}

/// Go's peers never grant windows: what they are sent must not wait for one.
#[tokio::test]
async fn a_peer_without_windows() {
    let (mut raw, io) = tokio::io::duplex(4096);
    let (session, mut incoming) =
        Session::start(io, Role::Server, Limits::default()).expect("a server");
    raw.write_all(&opening(&[1])).await.expect("written");
    let (_read, mut write) = incoming.next().await.expect("a stream").split();
    let sending = tokio::spawn(async move {
        write.write_all(&[7; 1 << 20]).await.expect("written");
    });
    let mut sevens = 0;
    let mut buffer = [0; 4096];
    while sevens < 1 << 20 {
        let n = raw.read(&mut buffer).await.expect("read");
        assert!(n > 0, "after {sevens} bytes");
        sevens += buffer[..n].iter().filter(|b| **b == 7).count();
    }
    sending.await.expect("no panic");
    drop(raw);
    session.ended().await;
}

/// Reads until a ping comes back.
async fn until_pong(raw: &mut DuplexStream, id: u32) -> Vec<u8> {
    let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
    while !contains(&answer, &Control::Ping(id)) {
        let n = raw.read(&mut buffer).await.expect("read");
        assert!(n > 0, "no pong");
        answer.extend_from_slice(&buffer[..n]);
    }
    answer
}

/// Such a peer is granted none, either: it may have closed the connection by then, and its kernel
/// would answer with a reset. Who speaks of windows late is granted what was read before.
#[tokio::test]
async fn windows_are_for_who_knows_them() {
    let (mut raw, io) = tokio::io::duplex(1 << 20);
    let (_session, mut incoming) =
        Session::start(io, Role::Server, Limits::default()).expect("a server");
    raw.write_all(&opening(&[1])).await.expect("written");
    let (mut read, _write) = incoming.next().await.expect("a stream").split();
    let mut frames = BytesMut::new();
    for _ in 0..64 {
        frame::put_data(&mut frames, 1, 0, &[7; 16 << 10]);
    }
    frame::put(&mut frames, &Control::Ping(7));
    let mut sevens = vec![0; 1 << 20];
    let sent = raw.write_all(&frames);
    let (sent, got) = tokio::join!(sent, read.read_exact(&mut sevens));
    sent.expect("written");
    got.expect("read");
    let silent = until_pong(&mut raw, 7).await;
    let grant = [0x80, 3, 0, 9, 0, 0, 0, 8, 0, 0, 0, 1];
    assert!(!silent.windows(grant.len()).any(|w| w == grant));
    let mut frames = BytesMut::new();
    let window = (frame::SETTING_INITIAL_WINDOW, 1 << 20);
    frame::put(&mut frames, &Control::Settings(vec![window]));
    frame::put(&mut frames, &Control::Ping(9));
    raw.write_all(&frames).await.expect("written");
    let granted = until_pong(&mut raw, 9).await;
    let all = Control::WindowUpdate {
        id: 1,
        delta: 1 << 20,
    };
    assert!(contains(&granted, &all));
}

/// Idle connections end, and say so to their streams.
#[tokio::test]
async fn idleness_ends_it() {
    let (client, server, mut incoming) = pair(Limits {
        idle: Some(std::time::Duration::from_millis(20)),
        ..Limits::default()
    });
    let (mut read, _write) = client.open(&[]).expect("a stream").split();
    let _theirs = incoming.next().await;
    assert!(read.read(&mut [0]).await.is_err());
    client.ended().await;
    server.ended().await;
}
