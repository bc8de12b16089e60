//! `hull recvtty` between two real pseudo-terminals: one it sits on, one it is sent.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use runtime::console::{Console, MASTER_NAME, connect_to, send_fd};
use rustix::termios::{LocalModes, tcgetattr, tcgetwinsize};
use spec::oci::ConsoleSize;

const HULL: &str = env!("CARGO_BIN_EXE_hull");

fn pair() -> Console {
    Console::open().unwrap()
}

fn size(height: u64, width: u64) -> ConsoleSize {
    ConsoleSize { height, width }
}

/// Polls until `f` gives something, for ten seconds.
fn wait_until<T>(what: &str, mut f: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(10);
    while Instant::now() < end {
        if let Some(value) = f() {
            return value;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{what} did not happen");
}

struct Receiver {
    child: Child,
    socket: PathBuf,
    dir: PathBuf,
}

impl Receiver {
    /// `hull recvtty` as the foreground of its own session on `terminal`.
    fn start(name: &str, terminal: &Console, args: &[&str]) -> Self {
        let dir = std::env::temp_dir().join(format!("hull-recvtty-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let socket = dir.join("s");
        let end = || terminal.slave.try_clone().unwrap();
        let child = Command::new("setsid")
            .args(["--ctty", HULL, "recvtty"])
            .args(args)
            .arg(&socket)
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        let this = Self { child, socket, dir };
        wait_until("the socket", || this.socket.exists().then_some(()));
        this
    }

    fn send(&self, master: &OwnedFd) {
        let socket = connect_to(&self.socket).unwrap();
        send_fd(&socket, MASTER_NAME, master).unwrap();
    }

    fn end(&mut self) -> i32 {
        let status = wait_until("the end of recvtty", || self.child.try_wait().unwrap());
        status.code().unwrap()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn read(terminal: impl AsFd) -> String {
    let mut buffer = [0; 256];
    let n = rustix::io::read(terminal.as_fd(), &mut buffer).unwrap();
    String::from_utf8_lossy(&buffer[..n]).into_owned()
}

#[test]
fn keys_go_in_output_comes_out_and_the_size_follows() {
    let here = pair();
    here.set_size(size(20, 70)).unwrap();
    let mut receiver = Receiver::start("single", &here, &[]);
    let there = pair();
    receiver.send(&there.master);
    wait_until("the size", || {
        let now = tcgetwinsize(&there.slave).unwrap();
        ((now.ws_row, now.ws_col) == (20, 70)).then_some(())
    });
    assert!(
        !tcgetattr(&here.slave)
            .unwrap()
            .local_modes
            .contains(LocalModes::ICANON)
    );
    assert!(
        !receiver.socket.exists(),
        "the path is free for the next one"
    );
    rustix::io::write(&here.master, b"typed\n").unwrap();
    assert_eq!(read(&there.slave), "typed\n");
    rustix::io::write(&there.slave, b"shown").unwrap();
    let mut seen = String::new();
    while !seen.ends_with("shown") {
        seen.push_str(&read(&here.master));
    }
    here.set_size(size(31, 99)).unwrap();
    wait_until("the new size", || {
        let now = tcgetwinsize(&there.slave).unwrap();
        ((now.ws_row, now.ws_col) == (31, 99)).then_some(())
    });
    drop(there);
    assert_eq!(receiver.end(), 0);
    assert!(
        tcgetattr(&here.slave)
            .unwrap()
            .local_modes
            .contains(LocalModes::ICANON)
    );
}

#[test]
fn a_signal_restores_the_terminal_and_removes_the_socket() {
    let here = pair();
    let mut receiver = Receiver::start("signal", &here, &["--no-stdin"]);
    let pid = i32::try_from(receiver.child.id()).unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(receiver.end(), 0);
    assert!(!receiver.socket.exists());
}

#[test]
fn null_mode_drains_every_terminal() {
    let here = pair();
    let mut receiver = Receiver::start("null", &here, &["-m", "null"]);
    let terminals = [pair(), pair()];
    for terminal in &terminals {
        receiver.send(&terminal.master);
    }
    // More than a terminal buffers: only a reader on the other side lets it through.
    for terminal in terminals {
        let Console { master, slave } = terminal;
        drop(master);
        for _ in 0..50 {
            rustix::io::write(&slave, &[b'x'; 1000]).unwrap();
        }
    }
    let pid = i32::try_from(receiver.child.id()).unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(receiver.end(), 0);
}

#[test]
fn a_path_that_is_taken_is_refused() {
    let file = std::env::temp_dir().join(format!("hull-recvtty-taken-{}", std::process::id()));
    std::fs::write(&file, "").unwrap();
    let output = Command::new(HULL)
        .arg("recvtty")
        .arg(&file)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("address already in use"), "{text}");
    assert!(file.exists());
    std::fs::remove_file(&file).unwrap();
}
