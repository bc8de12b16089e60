//! The life of containers and of what runs in them.

use std::time::{Duration, Instant};

use client_suite::scripts::PATIENT;
use client_suite::{Pty, eventually, not_run};

use crate::Podman;

#[test]
fn run_returns_output_and_status() {
    let p = Podman::new("run");
    let run = p.container(
        &["--rm", "--hostname", "abc"],
        "hostname; echo problem >&2; exit 7",
    );
    assert_eq!(run.exits(7).out, "abc\n");
    assert_eq!(run.err, "problem\n");
    assert_eq!(
        p.container(
            &["--rm", "--user", "guest", "--workdir", "/var/tmp"],
            "id -u; pwd"
        )
        .ok(),
        "1000\n/var/tmp\n"
    );
    p.finish();
}

#[test]
fn errors_have_the_exit_codes_that_podman_knows() {
    let p = Podman::new("errors");
    let parent = p.arena.cgroup_parent();
    let run = |program: &str| {
        let args = [
            "run",
            "--rm",
            "--network",
            "none",
            "--cgroup-parent",
            &parent,
        ];
        let args: Vec<&str> = args
            .into_iter()
            .chain(["localhost/base:1", program])
            .collect();
        p.run(&args)
    };
    // podman reads the runtime's words to tell these two apart.
    run("no-such-program").exits(127);
    run("/etc/passwd").exits(126);
    p.finish();
}

#[test]
fn a_container_lives_through_all_its_states() {
    let p = Podman::new("life");
    p.container(&["--detach", "--name", "c"], PATIENT).ok();
    assert!(eventually(Duration::from_secs(20), || p
        .run(&["logs", "c"])
        .out
        == "started\n"));
    assert_eq!(p.inspect("c", "{{.State.Status}}"), "running");
    let top = p.run(&["top", "c", "pid", "args"]);
    assert!(
        top.ok()
            .lines()
            .any(|l| l.starts_with("1 ") && l.contains("trap")),
        "{}",
        top.out
    );
    assert_eq!(
        p.run(&["exec", "c", "sh", "-c", "echo $$ > /tmp/pid; echo done"])
            .ok(),
        "done\n"
    );
    p.run(&["exec", "c", "sh", "-c", "exit 9"]).exits(9);
    p.run(&["exec", "c", "no-such-program"]).exits(127);

    p.run(&["pause", "c"]).ok();
    assert_eq!(p.inspect("c", "{{.State.Status}}"), "paused");
    p.run(&["exec", "c", "true"]).exits(255);
    p.run(&["unpause", "c"]).ok();
    assert_eq!(p.inspect("c", "{{.State.Status}}"), "running");

    let first = p.inspect("c", "{{.State.Pid}}");
    p.run(&["restart", "c"]).ok();
    assert_ne!(p.inspect("c", "{{.State.Pid}}"), first);
    assert!(eventually(Duration::from_secs(20), || p
        .run(&["logs", "c"])
        .out
        == "started\nbye\nstarted\n"));

    let began = Instant::now();
    p.run(&["stop", "--time", "20", "c"]).ok();
    assert!(
        began.elapsed() < Duration::from_secs(15),
        "TERM must reach the process"
    );
    assert_eq!(
        p.inspect("c", "{{.State.Status}} {{.State.ExitCode}}"),
        "exited 0"
    );
    p.run(&["start", "c"]).ok();
    p.run(&["kill", "--signal", "KILL", "c"]).ok();
    assert!(eventually(Duration::from_secs(20), || p
        .inspect("c", "{{.State.Status}}")
        == "exited"));
    assert_eq!(p.inspect("c", "{{.State.ExitCode}}"), "137");
    p.run(&["rm", "c"]).ok();
    p.finish();
}

#[test]
fn an_interactive_terminal_follows_the_window() {
    let p = Podman::new("tty");
    let parent = p.arena.cgroup_parent();
    let args = [
        "run",
        "--rm",
        "--network",
        "none",
        "--cgroup-parent",
        &parent,
        "-it",
        "localhost/base:1",
        "sh",
    ];
    let mut terminal = Pty::spawn(&p.arena.command(&p.words(&args)), 30, 90);
    terminal.expect("# ");
    terminal.send("echo a$((20 + 3))b; tty\n");
    terminal.expect("a23b");
    terminal.expect("/dev/pts/0");
    terminal.expect_size(30, 90);
    terminal.resize(41, 133);
    terminal.expect_size(41, 133);
    terminal.send("exit 5\n");
    assert_eq!(terminal.wait().code(), Some(5));
    drop(terminal);
    p.finish();
}

#[test]
fn exec_has_a_terminal_of_its_own_that_follows_the_window() {
    let p = Podman::new("exectty");
    p.container(&["--detach", "--name", "c"], PATIENT).ok();
    let mut terminal = Pty::spawn(
        &p.arena.command(&p.words(&["exec", "-it", "c", "sh"])),
        25,
        81,
    );
    terminal.expect("# ");
    terminal.send("test -t 0 && echo it-is-a-$(echo terminal)\n");
    terminal.expect("it-is-a-terminal");
    terminal.expect_size(25, 81);
    terminal.resize(50, 101);
    terminal.expect_size(50, 101);
    terminal.send("exit 3\n");
    assert_eq!(terminal.wait().code(), Some(3));
    drop(terminal);
    p.run(&["stop", "c"]).ok();
    p.finish();
}

#[test]
fn health_check_runs_in_the_container() {
    let p = Podman::new("health");
    let check = [
        "--health-cmd",
        "test -e /tmp/well",
        "--health-interval",
        "disable",
        "--health-retries",
        "1",
    ];
    p.container(
        &[&["--detach", "--name", "c"], &check[..]].concat(),
        PATIENT,
    )
    .ok();
    p.run(&["healthcheck", "run", "c"]).exits(1);
    p.run(&["exec", "c", "touch", "/tmp/well"]).ok();
    p.run(&["healthcheck", "run", "c"]).ok();
    assert_eq!(p.inspect("c", "{{.State.Healthcheck.Status}}"), "healthy");
    p.run(&["stop", "c"]).ok();
    p.finish();
}

#[test]
fn init_reaps_and_forwards_signals() {
    let p = Podman::new("init");
    if client_suite::program("catatonit").is_none() {
        not_run("podman run --init", "catatonit is not installed");
        return;
    }
    p.container(&["--detach", "--init", "--name", "c"], PATIENT)
        .ok();
    assert!(eventually(Duration::from_secs(20), || p
        .run(&["logs", "c"])
        .out
        == "started\n"));
    p.run(&["stop", "--time", "20", "c"]).ok();
    assert_eq!(p.run(&["logs", "c"]).ok(), "started\nbye\n");
    p.finish();
}

#[test]
fn pod_shares_its_infra_container() {
    let p = Podman::new("pod");
    let parent = p.arena.cgroup_parent();
    let create = [
        "pod",
        "create",
        "--name",
        "pod",
        "--cgroup-parent",
        &parent,
        "--network",
        "none",
        "--infra-image",
        "localhost/base:1",
        "--infra-command",
        "sleep 1000",
    ];
    let pod = p.run(&create).ok().trim().to_owned();
    let first = [
        "run",
        "--detach",
        "--pod",
        "pod",
        "--name",
        "a",
        "localhost/base:1",
        "sh",
        "-c",
        "nc -ll -p 8000 -e echo hi",
    ];
    p.run(&first).ok();
    let second =
        "for i in 1 2 3 4 5 6 7 8 9; do nc 127.0.0.1 8000 && exit; sleep 0.2; done; exit 1";
    assert_eq!(
        p.run(&[
            "run",
            "--rm",
            "--pod",
            "pod",
            "localhost/base:1",
            "sh",
            "-c",
            second
        ])
        .ok(),
        "hi\n"
    );
    p.run(&["pod", "stop", "--time", "1", "pod"]).ok();
    p.run(&["pod", "rm", "pod"]).ok();
    // The pod's own cgroup is podman's to remove, and it forgets the hierarchies without
    // controllers.
    p.finish_but(&[&pod]);
}
