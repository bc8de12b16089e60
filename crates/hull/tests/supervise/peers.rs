//! Peers of the socket that mean no good.

use std::os::fd::{AsFd as _, OwnedFd};

use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, send, socket_with,
};
use supervise::protocol::Request;

use crate::execs::descriptors;
use crate::support::{Pod, wait_until};

fn raw(pod: &Pod) -> OwnedFd {
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    let address = SocketAddrUnix::new(pod.pod_dir().join("socket")).unwrap();
    connect(&socket, &address).unwrap();
    socket
}

#[test]
fn nonsense_ends_a_connection_and_nothing_else() {
    let mut pod = Pod::new("noise");
    let before = descriptors(&mut pod);
    let deep = "[".repeat(15_000);
    let noise: [&[u8]; 7] = [
        b"{",
        b"\xff\xfe",
        b"@",
        b"null",
        b"{\"number\":1,\"request\":{\"Nonsense\":1}}",
        b"{\"number\":-1,\"request\":\"List\"}",
        deep.as_bytes(),
    ];
    for packet in noise {
        let socket = raw(&pod);
        send(&socket, packet, SendFlags::NOSIGNAL).unwrap();
        let mut byte = [0; 1];
        let got = rustix::io::read(&socket, &mut byte);
        assert!(matches!(got, Ok(0) | Err(_)), "{packet:?}");
    }
    wait_until("they are gone", || {
        (descriptors(&mut pod) == before).then_some(())
    });
    assert!(pod.client.list().unwrap().is_empty());
}

#[test]
fn bad_requests_are_refused() {
    let mut pod = Pod::new("bad");
    for id in ["", "..", "a/b", "../x"] {
        let create = supervise::protocol::Create {
            id: id.to_owned(),
            ..pod.script("c", "true")
        };
        let e = pod.client.create(create).unwrap_err();
        assert!(e.to_string().contains("invalid container ID"), "{e}");
        assert!(pod.client.delete(id, true).is_err());
        assert!(pod.client.adopt(id, &Vec::new()).is_err());
    }
    let create = pod.script("c", "sleep 1000");
    pod.run(create.clone());
    let e = pod.client.create(create).unwrap_err();
    assert_eq!(e.kind(), supervise::protocol::Kind::Exists);
    let id = pod.id("c");
    // Asked again, as by a daemon whose first supervisor was killed meanwhile.
    pod.client.start(&id).unwrap();
    assert!(pod.client.start("none").is_err(), "there is no such one");
    assert!(pod.client.quit().is_err(), "it has a container");
}

#[test]
fn who_does_not_read_is_cut_off() {
    let mut pod = Pod::new("deaf");
    let mut deaf = pod.connect();
    let mut sent = 0;
    // Each answer stays in the socket until it is full.
    while sent < 100_000 && deaf.send(Request::List, &[]).is_ok() {
        sent += 1;
    }
    assert!(sent < 100_000, "it is never cut off");
    assert!(pod.client.list().unwrap().is_empty());
}

#[test]
fn descriptors_that_nobody_asked_for_are_closed() {
    let mut pod = Pod::new("fds");
    let before = descriptors(&mut pod);
    let null = std::fs::File::open("/dev/null").unwrap();
    for _ in 0..50 {
        let fds = [null.as_fd(); 4];
        let number = pod.client.send(Request::List, &fds).unwrap();
        pod.client.reply(number).unwrap();
    }
    assert_eq!(descriptors(&mut pod), before);
}

#[test]
fn a_long_request_arrives() {
    let mut pod = Pod::new("long");
    let create = pod.script("c", "sleep 1000");
    pod.run(create);
    let word = "x".repeat(100_000);
    let wish = supervise::protocol::ExecSync {
        id: pod.id("c"),
        args: vec!["echo".to_owned(), word.clone()],
        ..supervise::protocol::ExecSync::default()
    };
    let got = pod.client.exec_sync(wish).unwrap();
    assert_eq!(got.stdout.len(), word.len() + 1);
}

#[test]
fn it_is_not_for_people() {
    let mut command = std::process::Command::new(crate::support::HULL);
    command
        .args(["supervise", "/none"])
        .stdin(std::process::Stdio::null());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("hulld starts this command"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
}
