//! Terminals: `process.terminal`, `--console-socket`, `exec --tty`.

use std::fs::File;
use std::io::{Read as _, Write as _};

use runtime_suite::prelude::*;
use runtime_suite::socket::Listener;

fn console(t: &Case) -> Listener {
    socket::listen(&t.dir().join("console"))
}

/// Creates a container with a terminal; returns the master.
fn create(t: &Case, listener: &Listener, change: impl FnOnce(&mut Value)) -> File {
    t.write(|c| {
        c["process"]["terminal"] = json!(true);
        change(c);
    });
    let flags = ["--console-socket", listener.arg()];
    let create = t.with_bundle("create", &flags).spawn();
    let message = listener.message();
    let _ = create.wait().ok();
    assert!(
        !message.data.is_empty(),
        "the name of the terminal is sent too"
    );
    let [fd] = <[std::os::fd::OwnedFd; 1]>::try_from(message.fds).expect("one descriptor");
    File::from(fd)
}

/// Reads from a master until the text is there, or the other side has closed.
fn read_until(master: &mut File, text: &str) -> String {
    let mut all = String::new();
    let end = Instant::now() + Duration::from_secs(10);
    while !all.contains(text) && Instant::now() < end {
        if socket::readable(&*master, Duration::from_millis(200)) {
            let mut buffer = [0; 4096];
            match master.read(&mut buffer) {
                Ok(n) if n > 0 => all.push_str(&String::from_utf8_lossy(&buffer[..n])),
                // EIO: no slave is open any more.
                _ => break,
            }
        }
    }
    assert!(all.contains(text), "{text:?} did not come: {all:?}");
    all
}

#[test]
fn the_master_comes_over_the_socket() {
    case(|t| {
        let mut master = create(t, &console(t), |c| {
            script(c, "tty; read line; echo \"got $line\"");
        });
        let _ = t.start().ok();
        let text = read_until(&mut master, "/dev/pts/0");
        assert!(!text.contains("not a tty"));
        master.write_all(b"hello\n").expect("type");
        // Echoed by the terminal, then answered; lines end with CR LF.
        let text = read_until(&mut master, "got hello\r\n");
        assert!(text.contains("hello\r\n"), "{text:?}");
        t.wait_for("stopped");
    });
}

#[test]
fn all_three_streams_are_the_terminal() {
    case(|t| {
        let mut master = create(t, &console(t), |c| {
            script(
                c,
                "for f in 0 1 2; do readlink /proc/self/fd/$f; done; echo end",
            );
        });
        let _ = t.start().ok();
        let text = read_until(&mut master, "end\r\n");
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        // A redirected shell builtin shows the same file for all but what it redirects.
        assert_eq!(
            lines.iter().filter(|l| **l == "/dev/pts/0").count(),
            3,
            "{text:?}"
        );
    });
}

#[test]
fn it_is_the_controlling_terminal() {
    case(|t| {
        let mut master = create(t, &console(t), |c| {
            script(
                c,
                "echo to-tty >/dev/tty; trap 'echo interrupted; exit' INT; echo ready; while :; do usleep 10000; done",
            );
        });
        let _ = t.start().ok();
        let text = read_until(&mut master, "ready");
        assert!(text.contains("to-tty"), "{text:?}");
        master.write_all(b"\x03").expect("type ^C");
        let _ = read_until(&mut master, "interrupted");
    });
}

#[test]
fn dev_console_is_the_terminal() {
    case(|t| {
        let mut master = create(t, &console(t), |c| {
            script(
                c,
                "echo on-console >/dev/console; stat -c '%t:%T' /dev/console /dev/pts/0; echo end",
            );
        });
        let _ = t.start().ok();
        let text = read_until(&mut master, "end\r\n");
        assert!(text.contains("on-console"), "{text:?}");
        assert_eq!(text.matches("88:0").count(), 2, "{text:?}");
    });
}

#[test]
fn the_console_size_is_set() {
    case(|t| {
        let mut master = create(t, &console(t), |c| {
            c["process"]["consoleSize"] = json!({"height": 33, "width": 111});
            args(c, &["/bin/probe", "winsize"]);
        });
        let _ = t.start().ok();
        let _ = read_until(&mut master, "33 111");
    });
}

#[test]
fn a_size_that_is_set_outside_arrives() {
    case(|t| {
        let mut master = create(t, &console(t), |c| {
            script(
                c,
                "trap 'probe winsize; exit' WINCH; echo ready; while :; do usleep 10000; done",
            );
        });
        let _ = t.start().ok();
        let _ = read_until(&mut master, "ready");
        let size = rustix::termios::Winsize {
            ws_row: 20,
            ws_col: 50,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(&master, size).expect("set the size");
        let _ = read_until(&mut master, "20 50");
    });
}

#[test]
fn the_terminal_belongs_to_the_user() {
    case(|t| {
        let mut master = create(t, &console(t), |c| {
            c["process"]["user"] = json!({"uid": 1000, "gid": 1000});
            script(
                c,
                "stat -c '%u %a' /dev/pts/0; echo x >/dev/tty && echo end",
            );
        });
        let _ = t.start().ok();
        let text = read_until(&mut master, "end\r\n");
        assert!(text.contains("1000 620"), "{text:?}");
    });
}

#[test]
fn a_terminal_in_a_user_namespace() {
    case(|t| {
        let mut master = create(t, &console(t), |c| {
            user_ns(c, 200_000, 65536);
            c["process"]["user"] = json!({"uid": 1000, "gid": 1000});
            script(
                c,
                "tty; stat -c '%u' /dev/pts/0; echo x >/dev/tty && echo end",
            );
        });
        let _ = t.start().ok();
        let text = read_until(&mut master, "end\r\n");
        assert!(
            text.contains("/dev/pts/0") && text.contains("1000"),
            "{text:?}"
        );
    });
}

#[test]
fn line_ends_are_left_to_the_terminal() {
    case(|t| {
        let mut master = create(t, &console(t), |c| script(c, "stty -a; echo end"));
        let _ = t.start().ok();
        let text = read_until(&mut master, "end");
        assert!(
            text.contains(" echo") && text.contains("icanon"),
            "{text:?}"
        );
    });
}

#[test]
fn an_exec_has_a_terminal_of_its_own() {
    case(|t| {
        t.up(|_| {});
        let listener = console(t);
        let flags = ["--tty", "--console-socket", listener.arg(), "--detach"];
        let exec = t
            .exec_cmd(&flags, &["/bin/sh", "-c", "tty; read l; echo got $l"])
            .spawn();
        let mut master = File::from(listener.descriptor());
        let _ = exec.wait().ok();
        let _ = read_until(&mut master, "/dev/pts/0");
        master.write_all(b"words\n").expect("type");
        let _ = read_until(&mut master, "got words");
    });
}

#[test]
fn a_terminal_of_a_process_document() {
    case(|t| {
        t.up(|_| {});
        let listener = console(t);
        let mut process = t.config(|_| {})["process"].clone();
        process["terminal"] = json!(true);
        process["consoleSize"] = json!({"height": 12, "width": 34});
        process["args"] = json!(["/bin/probe", "winsize"]);
        let file = t.new_file("process.json", &process.to_string());
        let file = file.to_str().expect("UTF-8");
        let exec = t
            .runtime(&[
                "exec",
                "--process",
                file,
                "--console-socket",
                listener.arg(),
                "-d",
                t.id(),
            ])
            .spawn();
        let mut master = File::from(listener.descriptor());
        let _ = exec.wait().ok();
        let _ = read_until(&mut master, "12 34");
    });
}

#[test]
fn in_the_foreground_the_callers_terminal_is_used() {
    case(|t| {
        // script(1) gives the runtime a terminal.
        t.write(|c| {
            c["process"]["terminal"] = json!(true);
            script(c, "tty; stty size");
        });
        let bundle = t.bundle().to_str().expect("UTF-8");
        let state = t.dir().join("state");
        let state = state.to_str().expect("UTF-8");
        let program = t.program().command();
        let quote = |w: &std::ffi::OsStr| format!("'{}'", w.to_string_lossy());
        let mut line = quote(program.get_program());
        for word in program.get_args() {
            line += &format!(" {}", quote(word));
        }
        let line = format!(
            "stty rows 21 cols 43; {line} --root {state} run --bundle {bundle} {}",
            t.id()
        );
        let mut script = std::process::Command::new("script");
        script.args(["-qec", &line, "/dev/null"]);
        let cmd = runtime_suite::process::Cmd::new(script, &t.dir().join("io"));
        let out = cmd.run_with_input("").ok();
        assert!(out.stdout.contains("/dev/pts/0"), "{out}");
        assert!(out.stdout.contains("21 43"), "{out}");
    });
}

#[test]
fn a_terminal_needs_a_socket_when_detached() {
    case(|t| {
        t.write(|c| c["process"]["terminal"] = json!(true));
        let _ = t.with_bundle("create", &[]).run().refused();
        let _ = t.with_bundle("run", &["--detach"]).run().refused();
    });
}

#[test]
fn a_socket_without_a_terminal_is_refused() {
    case(|t| {
        t.write(|_| {});
        let listener = console(t);
        let flags = ["--console-socket", listener.arg()];
        let _ = t.with_bundle("create", &flags).run().refused();
    });
}

#[test]
fn a_socket_that_is_not_there_is_an_error() {
    case(|t| {
        t.write(|c| c["process"]["terminal"] = json!(true));
        let flags = ["--console-socket", "/nonexistent/socket"];
        let _ = t.with_bundle("create", &flags).run().refused();
        assert!(!t.exists());
    });
}

#[test]
fn a_console_size_without_a_terminal_is_ignored() {
    case(|t| {
        let size = json!({"height": 10, "width": 20});
        let _ = t.run(|c| c["process"]["consoleSize"] = size).ok();
    });
}
