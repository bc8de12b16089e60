//! `hull exec` and `hull run` with a terminal.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod common;

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::process::{Child, Command};

use common::{Bundle, HULL, end_of, wait_until};
use runtime::console::{Console, receive_fd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{LocalModes, tcgetattr};
use serde_json::json;
use spec::oci::ConsoleSize;

/// Reads from a terminal until `end` has come.
fn read_until(terminal: impl AsFd, end: &str) -> String {
    const LIMIT: Timespec = Timespec {
        tv_sec: 20,
        tv_nsec: 0,
    };
    let mut seen = String::new();
    while !seen.contains(end) {
        let mut fds = [PollFd::new(&terminal, PollFlags::IN)];
        let n = poll(&mut fds, Some(&LIMIT)).unwrap();
        assert_ne!(n, 0, "{end:?} did not come, but {seen:?}");
        let mut buffer = [0; 1024];
        match rustix::io::read(&terminal, &mut buffer) {
            Ok(n) if n > 0 => seen.push_str(&String::from_utf8_lossy(&buffer[..n])),
            other => panic!("{other:?} after {seen:?}"),
        }
    }
    seen
}

/// A terminal for the test to sit at, with `hull` in its foreground, started as a script's background
/// job is: SIGINT and SIGQUIT ignored. The container's programs must not be told so.
fn at_terminal(c: &Bundle, here: &Console, args: &[&str]) -> Child {
    let end = || here.slave.try_clone().unwrap();
    Command::new("sh")
        .args([
            "-c",
            "trap '' INT QUIT; exec setsid --ctty \"$0\" \"$@\"",
            HULL,
            "--root",
        ])
        .arg(c.file("state"))
        .args(args)
        .stdin(end())
        .stdout(end())
        .stderr(end())
        .spawn()
        .unwrap()
}

fn size(height: u64, width: u64) -> ConsoleSize {
    ConsoleSize { height, width }
}

#[test]
fn exec_in_the_foreground_relays_keys_output_and_size() {
    let c = Bundle::running("tty", |_| {});
    let here = Console::open().unwrap();
    here.set_size(size(24, 81)).unwrap();
    let script = "stty size; tty; trap 'stty size; exit 3' WINCH; read a; echo got $a; while :; do sleep 0.05; done";
    let mut child = at_terminal(&c, &here, &["exec", "-t", &c.id, "sh", "-c", script]);
    let seen = read_until(&here.master, "/dev/pts/");
    // The size is there before the program looks.
    assert!(seen.starts_with("24 81\r\n"), "{seen:?}");
    assert!(
        !tcgetattr(&here.slave)
            .unwrap()
            .local_modes
            .contains(LocalModes::ICANON)
    );
    rustix::io::write(&here.master, b"word\r").unwrap();
    read_until(&here.master, "got word");
    here.set_size(size(30, 90)).unwrap();
    read_until(&here.master, "30 90");
    assert_eq!(end_of(&mut child), Some(3));
    assert!(
        tcgetattr(&here.slave)
            .unwrap()
            .local_modes
            .contains(LocalModes::ICANON)
    );
}

#[test]
fn run_in_the_foreground_does_too_and_cleans_up() {
    let c = Bundle::new("run-tty", |c| {
        c["process"]["terminal"] = json!(true);
        c["process"]["args"] = json!(["sh", "-c", "tty; ls -l /dev/console; read a; exit 5"]);
    });
    let here = Console::open().unwrap();
    let mut child = at_terminal(&c, &here, &["run", "-b", c.path(), &c.id]);
    let seen = read_until(&here.master, "/dev/console");
    assert!(seen.contains("/dev/pts/0"), "{seen:?}");
    rustix::io::write(&here.master, b"\r").unwrap();
    assert_eq!(end_of(&mut child), Some(5));
    let state = c.on(&["state"], &[]);
    assert!(state.stderr.contains("does not exist"), "{state:?}");
}

#[test]
fn all_output_before_the_end_arrives() {
    let c = Bundle::running("output", |_| {});
    let here = Console::open().unwrap();
    let script = "i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done";
    let mut child = at_terminal(&c, &here, &["exec", "-t", &c.id, "sh", "-c", script]);
    let seen = read_until(&here.master, "line 1999\r\n");
    assert_eq!(seen.lines().count(), 2000);
    assert_eq!(end_of(&mut child), Some(0));
}

fn exec_with_socket(c: &Bundle, script: &str) -> OwnedFd {
    let path = c.file("console");
    let listener = UnixListener::bind(&path).unwrap();
    let options = [
        "exec",
        "-d",
        "-t",
        "--console-socket",
        path.to_str().unwrap(),
    ];
    c.on(&options, &["sh", "-c", script]).ok();
    let (stream, _) = listener.accept().unwrap();
    let (name, master) = receive_fd(&stream).unwrap().unwrap();
    assert_eq!(name, "/dev/ptmx");
    master
}

#[test]
fn a_console_socket_gets_the_master() {
    let c = Bundle::running("socket", |_| {});
    let master = exec_with_socket(&c, "[ -t 0 ] && tty; read a; echo $a");
    read_until(&master, "/dev/pts/0");
    rustix::io::write(&master, b"typed\r").unwrap();
    read_until(&master, "typed\r\ntyped\r\n");
}

#[test]
fn a_container_without_a_devpts_is_told() {
    let c = Bundle::running("nopts", |c| {
        let mounts = c["mounts"].as_array_mut().unwrap();
        mounts.retain(|m| m["destination"] != "/dev/pts");
    });
    let output = c.sh(&["-t"], "true");
    assert_eq!(output.code, Some(255));
    assert!(
        output.stderr.contains("devpts") || output.stderr.contains("/dev/pts"),
        "{output:?}"
    );
}

#[test]
fn ctrl_c_interrupts_the_command_not_hull() {
    let c = Bundle::running("ctrlc", |_| {});
    let here = Console::open().unwrap();
    let script = "trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 0.05; done";
    let mut child = at_terminal(&c, &here, &["exec", "-t", &c.id, "sh", "-c", script]);
    read_until(&here.master, "ready");
    rustix::io::write(&here.master, b"\x03").unwrap();
    read_until(&here.master, "caught");
    assert_eq!(end_of(&mut child), Some(9));
    wait_until("the end of the command", || {
        let pids: Vec<i32> = serde_json::from_str(&c.on(&["ps", "-f", "json"], &[]).ok()).unwrap();
        (pids.len() == 1).then_some(())
    });
}
