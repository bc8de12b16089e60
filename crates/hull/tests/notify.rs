//! NOTIFY_SOCKET: a container under a service manager.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod common;

use std::os::unix::net::UnixDatagram;
use std::process::Child;
use std::time::Duration;

use common::{Bundle, end_of, finish};
use serde_json::json;

/// A container whose program runs on. Its shell cannot send datagrams; the tests do that for it.
fn bundle(name: &str) -> Bundle {
    Bundle::new(name, |c| {
        let script = "echo $NOTIFY_SOCKET; ls -l /run/notify/notify.sock; sleep 1000";
        c["process"]["args"] = json!(["sh", "-c", script]);
    })
}

struct Manager {
    socket: UnixDatagram,
    path: String,
}

impl Manager {
    fn new(c: &Bundle) -> Self {
        let path = c.file("manager").to_str().unwrap().to_owned();
        let socket = UnixDatagram::bind(&path).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        Self { socket, path }
    }

    /// The next message; a barrier is answered.
    fn next(&self) -> String {
        let (text, _fd) = match runtime::console::receive_fd(&self.socket) {
            Ok(Some((text, fd))) => (text, Some(fd)),
            Err(runtime::Error::Invalid(text)) => (text, None),
            other => panic!("{other:?}"),
        };
        text
    }
}

/// Says from outside what the program would say inside: through its own root.
fn say(pid: i32, words: &str) {
    let socket = UnixDatagram::unbound().unwrap();
    let path = format!("/proc/{pid}/root/run/notify/notify.sock");
    socket.send_to(words.as_bytes(), path).unwrap();
}

fn expect_readiness(manager: &Manager, main_pid: i32) {
    assert!(manager.next().contains("READY=1\\n"), "readiness");
    let main = manager.next();
    assert!(main.contains(&format!("MAINPID={main_pid}\\n")), "{main}");
    assert_eq!(manager.next(), "BARRIER=1");
}

fn still_runs(child: &mut Child) {
    std::thread::sleep(Duration::from_millis(150));
    assert!(child.try_wait().unwrap().is_none());
}

#[test]
fn start_waits_until_the_program_is_ready() {
    let c = bundle("notify-start");
    let manager = Manager::new(&c);
    let mut create = c.command(&["create", "-b", c.path(), &c.id]);
    create.env("NOTIFY_SOCKET", &manager.path);
    finish(create).ok();
    let mut start = c.command(&["start", &c.id]);
    let mut child = start.env("NOTIFY_SOCKET", &manager.path).spawn().unwrap();
    still_runs(&mut child);
    // Others need not wait.
    assert!(c.on(&["state"], &[]).ok().contains("running"));
    c.on(&["pause"], &[]).ok();
    c.on(&["resume"], &[]).ok();
    say(c.pid(), "STATUS=soon");
    still_runs(&mut child);
    say(c.pid(), "STATUS=now\nREADY=1");
    expect_readiness(&manager, c.pid());
    assert_eq!(end_of(&mut child), Some(0));
}

#[test]
fn run_in_the_foreground_is_the_main_process_itself() {
    let c = bundle("notify-run");
    let manager = Manager::new(&c);
    let mut run = c.command(&["run", "-b", c.path(), &c.id]);
    let mut child = run.env("NOTIFY_SOCKET", &manager.path).spawn().unwrap();
    common::wait_until("the start", || {
        let state = c.on(&["state"], &[]);
        state.stdout.contains("running").then_some(())
    });
    say(c.pid(), "READY=1");
    expect_readiness(&manager, i32::try_from(child.id()).unwrap());
    still_runs(&mut child);
    c.on(&["kill"], &["KILL"]).ok();
    assert_eq!(end_of(&mut child), Some(128 + 9));
}

#[test]
fn a_program_that_ends_unready_ends_the_wait() {
    let c = Bundle::new("notify-end", |c| {
        c["process"]["args"] = json!(["sleep", "0.2"])
    });
    let manager = Manager::new(&c);
    let mut run = c.command(&["run", "-d", "-b", c.path(), &c.id]);
    run.env("NOTIFY_SOCKET", &manager.path);
    finish(run).ok();
}
