//! `run`, in the foreground and detached.

use runtime_suite::prelude::*;
use rustix::process::Signal;

#[test]
fn the_exit_code_is_the_containers() {
    case(|t| {
        for code in [0, 1, 7, 126, 127, 255] {
            let out = t.run(|c| script(c, &format!("exit {code}")));
            assert_eq!(out.code(), code, "{out}");
            assert!(!t.exists(), "it is deleted");
        }
    });
}

#[test]
fn a_signal_is_128_more() {
    case(|t| {
        for (name, number) in [("KILL", 9), ("TERM", 15), ("SEGV", 11)] {
            // Without a pid namespace of its own, a process is no init that ignores signals.
            let out = t.run(|c| {
                no_ns(c, "pid");
                script(c, &format!("kill -{name} $$"));
            });
            assert_eq!(out.code(), 128 + number, "{name}: {out}");
        }
    });
}

#[test]
fn output_and_errors_are_apart() {
    case(|t| {
        let out = t.run(|c| script(c, "echo out; echo err >&2"));
        assert_eq!(
            (out.stdout.as_str(), out.stderr.as_str()),
            ("out\n", "err\n")
        );
    });
}

#[test]
fn much_output_comes_whole() {
    case(|t| {
        let out = t.run(|c| script(c, "seq 1 100000; echo last")).ok();
        assert_eq!(out.stdout.lines().count(), 100_001);
        assert!(out.stdout.ends_with("100000\nlast\n"));
    });
}

#[test]
fn input_goes_in() {
    case(|t| {
        t.write(|c| args(c, &["/bin/cat"]));
        let text = "line\n".repeat(20_000);
        let out = t.with_bundle("run", &[]).run_with_input(&text).ok();
        assert_eq!(out.stdout, text);
    });
}

#[test]
fn signals_are_passed_on() {
    case(|t| {
        for (signal, name) in [
            (Signal::TERM, "TERM"),
            (Signal::HUP, "HUP"),
            (Signal::USR1, "USR1"),
        ] {
            let run = t.run_aside(|c| {
                script(
                    c,
                    &format!(
                        "trap 'echo got; exit 3' {name}; echo ready; while :; do usleep 20000; done"
                    ),
                );
            });
            wait_until("it is ready", || run.stdout().contains("ready"));
            // The program of the suite's wrapper and the runtime are one process.
            run.signal(signal);
            let out = run.wait();
            assert_eq!((out.code(), out.text()), (3, "ready\ngot"), "{name}: {out}");
        }
    });
}

#[test]
fn detached_it_returns_at_once() {
    case(|t| {
        t.write(|c| script(c, "echo begun; sleep 1000"));
        let begin = Instant::now();
        let run = t.with_bundle("run", &["--detach"]).run().ok();
        assert!(begin.elapsed() < Duration::from_secs(10));
        println!("{run}");
        assert_eq!(t.status(), "running");
    });
}

#[test]
fn the_pid_file_is_written() {
    case(|t| {
        t.write(|c| args(c, &["/bin/sleep", "1000"]));
        let file = t.dir().join("pid");
        let flags = ["--detach", "--pid-file", file.to_str().expect("UTF-8")];
        let _ = t.with_bundle("run", &flags).run().ok();
        assert_eq!(
            std::fs::read_to_string(&file).expect("read"),
            t.pid().to_string()
        );
    });
}

#[test]
fn a_short_flag_is_a_long_one() {
    case(|t| {
        t.write(|c| args(c, &["/bin/sleep", "1000"]));
        let bundle = t.bundle().to_str().expect("UTF-8");
        let _ = t.runtime(&["run", "-d", "-b", bundle, t.id()]).run().ok();
        assert_eq!(t.status(), "running");
        let _ = t.runtime(&["delete", "-f", t.id()]).run().ok();
    });
}

#[test]
fn it_can_be_kept() {
    case(|t| {
        t.write(|c| script(c, "exit 5"));
        let _ = t.with_bundle("run", &["--keep"]).run().exits(5);
        assert_eq!(t.status(), "stopped");
        let _ = t.delete().ok();
    });
}

#[test]
fn without_being_a_subreaper() {
    case(|t| {
        t.write(|c| script(c, "exit 5"));
        let _ = t.with_bundle("run", &["--no-subreaper"]).run().exits(5);
    });
}

#[test]
fn without_pivot_root() {
    case(|t| {
        t.write(|c| args(c, &["/bin/probe", "report"]));
        let out = t.with_bundle("run", &["--no-pivot"]).run().ok();
        let r = Report::new(&out.stdout);
        // The host's mounts are out of reach: nothing lies outside of the new root.
        let dir = t.dir().to_str().expect("UTF-8");
        assert!(
            r.mounts().iter().all(|m| !m.point.starts_with(dir)),
            "{:#?}",
            r.mounts()
        );
        assert_eq!(r.mount("/proc").kind, "proc");
    });
}

#[test]
fn without_a_new_keyring() {
    case(|t| {
        t.write(|c| script(c, "true"));
        let _ = t.with_bundle("run", &["--no-new-keyring"]).run().ok();
    });
}

#[test]
fn a_program_that_cannot_run_leaves_nothing() {
    case(|t| {
        t.write(|c| args(c, &["/bin/missing"]));
        let _ = t.with_bundle("run", &[]).run().refused();
        assert!(!t.exists());
        let _ = t.with_bundle("run", &["--detach"]).run().refused();
        assert!(!t.exists());
        assert!(runtime_suite::leaks::find(t.token(), t.dir()).is_empty());
    });
}

#[test]
fn orphans_are_reaped() {
    case(|t| {
        // The shell in the middle ends first; its child becomes one of the first process's.
        let out = t.run(|c| {
            no_ns(c, "pid");
            script(c, "sh -c 'sleep 0.2 & exit 0'; exit 9");
        });
        assert_eq!(out.code(), 9, "{out}");
    });
}

#[test]
fn killed_it_takes_the_container_along_or_leaves_it_whole() {
    case(|t| {
        let run = t.run_aside(|c| script(c, "echo ready; sleep 1000"));
        wait_until("it is ready", || run.stdout().contains("ready"));
        run.signal(Signal::KILL);
        assert_eq!(run.wait().code(), 137);
        // Either is right; what matters is that it can be found and deleted.
        let status = t.status();
        assert!(status == "running" || status == "stopped", "{status}");
        let _ = t.delete_force().ok();
    });
}
