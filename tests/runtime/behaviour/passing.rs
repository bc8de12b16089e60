//! What is passed in and out: `--preserve-fds`, LISTEN_FDS, NOTIFY_SOCKET, `--pidfd-socket`.

use std::os::unix::net::UnixDatagram;
use std::sync::{Arc, Mutex};

use runtime_suite::prelude::*;

#[test]
fn preserved_descriptors_stay_open() {
    case(|t| {
        let files = ["one", "two", "three"].map(|n| t.new_file(n, n));
        t.write(|c| script(c, "cat <&3; cat <&4; ls /proc/self/fd | wc -l"));
        let fds: [(u32, &Path); 3] = [(3, &files[0]), (4, &files[1]), (5, &files[2])];
        let out = t
            .with_bundle("run", &["--preserve-fds", "2"])
            .with_fds(&fds)
            .run();
        // The listing's own is the sixth.
        assert_eq!(out.ok().text(), "onetwo6");
    });
}

#[test]
fn preserved_descriptors_of_an_exec() {
    case(|t| {
        t.up(|_| {});
        let file = t.new_file("one", "one");
        let out = t
            .exec_cmd(&["--preserve-fds", "1"], &["/bin/sh", "-c", "cat <&3"])
            .with_fds(&[(3, &file)])
            .run();
        assert_eq!(out.ok().text(), "one");
    });
}

#[test]
fn preserved_descriptors_that_are_closed_are_an_error() {
    case(|t| {
        t.write(|_| {});
        let _ = t
            .with_bundle("run", &["--preserve-fds", "7"])
            .run()
            .refused();
    });
}

/// Sets LISTEN_PID to the pid of what it executes, as sd_listen_fds(3) demands.
fn listen_pid() -> std::process::Command {
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "LISTEN_PID=$$ exec \"$0\" \"$@\""]);
    shell
}

#[test]
fn listen_fds_are_passed_on() {
    case(|t| {
        let files = ["one", "two"].map(|n| t.new_file(n, n));
        t.write(|c| args(c, &["/bin/probe", "listen-fds"]));
        let out = t
            .with_bundle("run", &[])
            .env("LISTEN_FDS", "2")
            .with_fds(&[(3, &files[0]), (4, &files[1])])
            .under(&listen_pid())
            .run();
        assert_eq!(out.ok().text(), "2 1\none\ntwo");
    });
}

#[test]
fn listen_fds_come_before_preserved_ones() {
    case(|t| {
        let files = ["one", "two", "three"].map(|n| t.new_file(n, n));
        t.write(|c| script(c, "echo $LISTEN_FDS; cat <&3; cat <&4; cat <&5"));
        let fds: [(u32, &Path); 3] = [(3, &files[0]), (4, &files[1]), (5, &files[2])];
        let out = t
            .with_bundle("run", &["--preserve-fds", "2"])
            .env("LISTEN_FDS", "1")
            .with_fds(&fds)
            .under(&listen_pid())
            .run();
        assert_eq!(out.ok().text(), "1\nonetwothree");
    });
}

#[test]
fn without_them_there_are_no_variables() {
    case(|t| {
        let out = t.sh("env | grep -c -e LISTEN -e NOTIFY; true", |_| {});
        assert_eq!(out, "0");
    });
}

/// What the service manager has received, and its socket.
struct Manager {
    socket: PathBuf,
    text: Arc<Mutex<String>>,
}

/// A socket that stands for the service manager. It reads all there is: a sender may wait until
/// its descriptor was received and closed (sd_notify_barrier(3)).
fn manager(t: &Case) -> Manager {
    let path = t.dir().join("notify");
    let socket = UnixDatagram::bind(&path).expect("bind");
    let text = Arc::new(Mutex::new(String::new()));
    let writer = Arc::clone(&text);
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(n) = socket.recv(&mut buffer) {
            let message = String::from_utf8_lossy(&buffer[..n]).into_owned();
            let end = message == "end of the test";
            *writer.lock().expect("lock") += &(message + "\n");
            if end {
                break;
            }
        }
    });
    let end = path.clone();
    t.at_end(move || {
        let sender = UnixDatagram::unbound().expect("socket");
        sender.send_to(b"end of the test", end).expect("send");
    });
    Manager { socket: path, text }
}

impl Manager {
    /// Waits for a line.
    fn wait_for(&self, line: &str) {
        wait_until(&format!("{line} comes"), || {
            self.text.lock().expect("lock").lines().any(|l| l == line)
        });
    }
}

#[test]
fn readiness_is_passed_on() {
    case(|t| {
        let manager = manager(t);
        t.write(|c| script(c, "probe notify READY=1; sleep 1000"));
        let run = t
            .with_bundle("run", &[])
            .env("NOTIFY_SOCKET", &manager.socket)
            .spawn();
        manager.wait_for("READY=1");
        let _ = t.kill("KILL").ok();
        let _ = run.wait().exits(137);
    });
}

#[test]
fn a_detached_run_waits_for_readiness() {
    case(|t| {
        let manager = manager(t);
        t.write(|c| script(c, "sleep 0.3; probe notify READY=1; sleep 1000"));
        let run = t
            .with_bundle("run", &["--detach"])
            .env("NOTIFY_SOCKET", &manager.socket)
            .spawn();
        manager.wait_for("READY=1");
        let _ = run.wait().ok();
        // The runtime adds the pid of the service, in the same message or another.
        manager.wait_for(&format!("MAINPID={}", t.pid()));
    });
}

#[test]
fn create_and_start_take_a_notify_socket() {
    case(|t| {
        let manager = manager(t);
        t.write(|c| script(c, "probe notify READY=1; sleep 1000"));
        let _ = t
            .with_bundle("create", &[])
            .env("NOTIFY_SOCKET", &manager.socket)
            .run()
            .ok();
        let start = t
            .runtime(&["start", t.id()])
            .env("NOTIFY_SOCKET", &manager.socket)
            .spawn();
        manager.wait_for("READY=1");
        let _ = start.wait().ok();
    });
}

#[test]
fn a_pidfd_of_the_first_process() {
    case(|t| {
        let listener = socket::listen(&t.dir().join("pidfd"));
        t.write(|c| args(c, &["/bin/sleep", "1000"]));
        let flags = ["--pidfd-socket", listener.arg()];
        let _ = t.with_bundle("create", &flags).run().ok();
        let fd = listener.descriptor();
        assert!(
            socket::target(&fd).contains("pidfd"),
            "{}",
            socket::target(&fd)
        );
        let info = socket::info(&fd);
        let pid = info
            .lines()
            .find_map(|l| l.strip_prefix("Pid:"))
            .unwrap_or("");
        assert_eq!(pid.trim(), t.pid().to_string());
        assert!(!socket::readable(&fd, Duration::ZERO));
        t.stop();
        assert!(
            socket::readable(&fd, Duration::from_secs(5)),
            "it tells of the end"
        );
    });
}

#[test]
fn a_pidfd_of_an_exec() {
    case(|t| {
        t.up(|_| {});
        let listener = socket::listen(&t.dir().join("pidfd"));
        let pid_file = t.dir().join("pid");
        let flags = [
            "--detach",
            "--pidfd-socket",
            listener.arg(),
            "--pid-file",
            pid_file.to_str().expect("UTF-8"),
        ];
        let _ = t.exec(&flags, &["/bin/sleep", "1000"]).ok();
        let fd = listener.descriptor();
        let info = socket::info(&fd);
        let pid = info
            .lines()
            .find_map(|l| l.strip_prefix("Pid:"))
            .unwrap_or("");
        assert_eq!(
            pid.trim(),
            std::fs::read_to_string(&pid_file).expect("read")
        );
    });
}
