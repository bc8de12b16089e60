//! `kill`.

use runtime_suite::prelude::*;

fn trapping(c: &mut Value, signal: &str) {
    script(
        c,
        &format!("trap 'exit 42' {signal}; echo >/data/ready; while :; do usleep 10000; done"),
    );
}

fn up_trapping(t: &Case, signal: &str) {
    t.up(|c| trapping(c, signal));
    wait_until("the trap is set", || t.rootfs().join("data/ready").exists());
    std::fs::remove_file(t.rootfs().join("data/ready")).expect("remove");
}

#[test]
fn signals_by_name_and_number() {
    case(|t| {
        for (given, trapped) in [
            ("TERM", "TERM"),
            ("SIGTERM", "TERM"),
            ("15", "TERM"),
            ("SIGHUP", "HUP"),
            ("USR1", "USR1"),
            ("12", "USR2"),
        ] {
            up_trapping(t, trapped);
            let _ = t.kill(given).ok();
            t.wait_for("stopped");
            let _ = t.delete().ok();
        }
    });
}

#[test]
fn the_default_is_sigterm() {
    case(|t| {
        up_trapping(t, "TERM");
        let _ = t.runtime(&["kill", t.id()]).run().ok();
        t.wait_for("stopped");
    });
}

#[test]
fn real_time_signals() {
    case(|t| {
        up_trapping(t, "35");
        let _ = t.kill("35").ok();
        t.wait_for("stopped");
    });
}

#[test]
fn an_unknown_signal_is_refused() {
    case(|t| {
        t.up(|_| {});
        for signal in ["NOSUCH", "SIG", "999", "-1", "1x"] {
            let _ = t.kill(signal).refused();
        }
        assert_eq!(t.status(), "running");
    });
}

#[test]
fn a_created_container_is_killed() {
    case(|t| {
        let _ = t.create(|_| {}).ok();
        let _ = t.kill("KILL").ok();
        t.wait_for("stopped");
        let _ = t.delete().ok();
    });
}

#[test]
fn a_stopped_container_is_not() {
    case(|t| {
        t.up(|c| args(c, &["/bin/true"]));
        t.wait_for("stopped");
        let message = t.kill("TERM").refused().to_lowercase();
        // What containerd and CRI-O match.
        let known = ["container not running", "process already finished"];
        assert!(known.iter().any(|k| message.contains(k)), "{message}");
    });
}

#[test]
fn with_all_a_stopped_container_is_no_error() {
    case(|t| {
        t.up(|_| {});
        t.stop();
        let _ = t.runtime(&["kill", "--all", t.id(), "KILL"]).run().ok();
    });
}

#[test]
fn with_all_every_process_gets_it() {
    case(|t| {
        t.up(|c| {
            no_ns(c, "pid");
            script(c, "sleep 1000 & sleep 1001 & wait");
        });
        wait_until("three processes", || {
            runtime_suite::leaks::processes(t.token()).len() == 3
        });
        let _ = t.runtime(&["kill", "--all", t.id(), "KILL"]).run().ok();
        wait_until("all are gone", || {
            runtime_suite::leaks::processes(t.token()).is_empty()
        });
    });
}

#[test]
fn without_a_pid_namespace_sigkill_takes_all() {
    case(|t| {
        t.up(|c| {
            no_ns(c, "pid");
            script(c, "sleep 1000 & sleep 1001 & wait");
        });
        wait_until("three processes", || {
            runtime_suite::leaks::processes(t.token()).len() == 3
        });
        let _ = t.kill("KILL").ok();
        wait_until("all are gone", || {
            runtime_suite::leaks::processes(t.token()).is_empty()
        });
    });
}

#[test]
fn a_paused_container_dies_of_sigkill() {
    case(|t| {
        t.up(|_| {});
        let _ = t.runtime(&["pause", t.id()]).run().ok();
        let _ = t.kill("KILL").ok();
        t.wait_for("stopped");
        let _ = t.delete().ok();
    });
}

#[test]
fn another_process_with_the_same_pid_is_left_alone() {
    case(|t| {
        // The record names a process by its start time too: a stale pid must not be signalled.
        t.up(|c| args(c, &["/bin/true"]));
        t.wait_for("stopped");
        let _ = t.kill("KILL").refused();
    });
}
