//! dockerd, driven by docker, on the runtime under test.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::fs;
use std::process::Child;
use std::time::{Duration, Instant};

use client_suite::scripts::{HOG, PATIENT, SHOW_MEMORY_LIMIT, TWENTY_TASKS};
use client_suite::{Arena, Kind, Pty, Run, criu_refusal, docker_archive, eventually, not_run};

const SOCKET: &str = "unix:///run/docker-test.sock";

/// A dockerd of its own, with the runtime under test as its default.
struct Docker {
    arena: Arena,
    daemon: Child,
}

impl Docker {
    fn new(test: &str) -> Self {
        let arena = Arena::new(test);
        let root = arena.path("root");
        let parent = arena.cgroup_parent();
        let runtime = format!("tested={}", arena.runtime_path());
        let words = [
            "dockerd",
            "--data-root",
            &root,
            "--exec-root",
            "/run/docker-test",
            "--pidfile",
            "/run/docker-test.pid",
            "--host",
            SOCKET,
            // The arena has no firewall to manage and no network to bridge to.
            "--iptables=false",
            "--bridge=none",
            "--cgroup-parent",
            &parent,
            "--add-runtime",
            &runtime,
            "--default-runtime",
            "tested",
            "--storage-driver",
            "overlay2",
            "--experimental",
            // A machine without CAP_SYS_RESOURCE refuses to raise the engine's own.
            "--default-ulimit",
            "nofile=1000:1000",
        ];
        let daemon = arena.daemon("dockerd", &words);
        let docker = Self { arena, daemon };
        let up = || docker.run(&["version"]).status.success();
        assert!(
            eventually(Duration::from_secs(40), up),
            "dockerd did not come up"
        );
        let archive = docker_archive().display().to_string();
        docker.run(&["load", "--quiet", "--input", &archive]).ok();
        docker
    }

    fn words(args: &[&str]) -> Vec<String> {
        let words = ["/usr/bin/docker", "--host", SOCKET].into_iter();
        words
            .chain(args.iter().copied())
            .map(str::to_owned)
            .collect()
    }

    #[track_caller]
    fn run(&self, args: &[&str]) -> Run {
        self.arena.run(&Self::words(args))
    }

    /// `docker run OPTIONS localhost/base:1 sh -c SCRIPT`, without a network.
    #[track_caller]
    fn container(&self, options: &[&str], script: &str) -> Run {
        let mut args = vec!["run", "--network", "none"];
        args.extend(options);
        args.extend(["localhost/base:1", "sh", "-c", script]);
        self.run(&args)
    }

    fn inspect(&self, container: &str, template: &str) -> String {
        let run = self.run(&["inspect", "--format", template, container]);
        run.ok().trim().to_owned()
    }

    #[track_caller]
    fn finish(self) {
        let all = self.run(&["ps", "--all", "--quiet"]);
        for container in all.ok().lines() {
            self.run(&["rm", container]).ok();
        }
        // Removal after --rm goes on when the client has ended; a daemon that is stopped in the
        // middle of it leaves the rest to its next start.
        let shims = || self.arena.processes().into_iter();
        let idle = || !shims().any(|(_, command)| command.contains("containerd-shim"));
        assert!(
            eventually(Duration::from_secs(20), idle),
            "{:?}",
            self.arena.processes()
        );
        self.arena.stop_daemon(self.daemon, "dockerd");
        self.arena.finish(&["mount /run/docker/netns"]);
    }
}

#[test]
fn run_returns_output_and_status() {
    let d = Docker::new("run");
    assert_eq!(
        d.run(&["info", "--format", "{{.DefaultRuntime}}"]).ok(),
        "tested\n"
    );
    let run = d.container(
        &["--rm", "--hostname", "abc"],
        "hostname; echo problem >&2; exit 7",
    );
    assert_eq!(run.exits(7).out, "abc\n");
    assert_eq!(run.err, "problem\n");
    let user = ["--rm", "--user", "guest", "--workdir", "/var/tmp"];
    assert_eq!(d.container(&user, "id -u; pwd").ok(), "1000\n/var/tmp\n");
    // docker reads the runtime's words to tell these two apart.
    let run = |program: &str| {
        d.run(&[
            "run",
            "--rm",
            "--network",
            "none",
            "localhost/base:1",
            program,
        ])
    };
    if d.arena.runtime.kind == Kind::Crun {
        not_run(
            "docker's exit statuses 126 and 127",
            "crun words both in its own way",
        );
    } else {
        run("no-such-program").exits(127);
        run("/etc/passwd").exits(126);
    }
    d.finish();
}

#[test]
fn a_container_lives_through_all_its_states() {
    let d = Docker::new("life");
    d.container(&["--detach", "--name", "box"], PATIENT).ok();
    assert!(eventually(Duration::from_secs(20), || d
        .run(&["logs", "box"])
        .out
        == "started\n"));
    let top = d.run(&["top", "box"]);
    assert!(top.ok().contains("trap"), "{top:?}");
    assert_eq!(
        d.run(&["exec", "box", "sh", "-c", "echo hi; exit 9"])
            .exits(9)
            .out,
        "hi\n"
    );
    let run = d.run(&["exec", "box", "no-such-program"]);
    assert!(run.exits(126).out.contains("executable file"), "{run:?}");

    d.run(&["pause", "box"]).ok();
    assert_eq!(d.inspect("box", "{{.State.Status}}"), "paused");
    d.run(&["unpause", "box"]).ok();
    assert_eq!(d.inspect("box", "{{.State.Status}}"), "running");

    let first = d.inspect("box", "{{.State.Pid}}");
    d.run(&["restart", "box"]).ok();
    assert_ne!(d.inspect("box", "{{.State.Pid}}"), first);
    assert!(eventually(Duration::from_secs(20), || d
        .run(&["logs", "box"])
        .out
        == "started\nbye\nstarted\n"));

    let began = Instant::now();
    d.run(&["stop", "--time", "20", "box"]).ok();
    assert!(
        began.elapsed() < Duration::from_secs(15),
        "TERM must reach the process"
    );
    assert_eq!(
        d.inspect("box", "{{.State.Status}} {{.State.ExitCode}}"),
        "exited 0"
    );
    d.run(&["start", "box"]).ok();
    d.run(&["kill", "box"]).ok();
    assert!(eventually(Duration::from_secs(20), || d
        .inspect("box", "{{.State.Status}}")
        == "exited"));
    assert_eq!(d.inspect("box", "{{.State.ExitCode}}"), "137");
    d.finish();
}

#[test]
fn terminals_follow_the_window() {
    let d = Docker::new("tty");
    let args = [
        "run",
        "--rm",
        "--network",
        "none",
        "--interactive",
        "--tty",
        "--name",
        "box",
        "localhost/base:1",
        "sh",
    ];
    let mut terminal = Pty::spawn(&d.arena.command(&Docker::words(&args)), 30, 90);
    terminal.expect("# ");
    terminal.send("echo a$((20 + 3))b; tty\n");
    terminal.expect("a23b");
    terminal.expect("/dev/pts/0");
    terminal.expect_size(30, 90);
    terminal.resize(41, 133);
    terminal.expect_size(41, 133);

    let args = ["exec", "--interactive", "--tty", "box", "sh"];
    let mut second = Pty::spawn(&d.arena.command(&Docker::words(&args)), 25, 81);
    second.expect("# ");
    second.expect_size(25, 81);
    second.resize(50, 101);
    second.expect_size(50, 101);
    second.send("exit 3\n");
    assert_eq!(second.wait().code(), Some(3));

    terminal.expect_size(41, 133);
    terminal.send("exit 5\n");
    assert_eq!(terminal.wait().code(), Some(5));
    drop((terminal, second));
    d.finish();
}

#[test]
fn limits_are_seen_and_kept() {
    let d = Docker::new("limits");
    let limit = ["--memory", "64m", "--memory-swap", "64m"];
    d.container(
        &[&["--detach", "--name", "box"], &limit[..]].concat(),
        PATIENT,
    )
    .ok();
    assert_eq!(
        d.run(&["exec", "box", "sh", "-c", SHOW_MEMORY_LIMIT]).ok(),
        "67108864\n"
    );
    let stats = d.run(&[
        "stats",
        "--no-stream",
        "--format",
        "{{.MemUsage}} {{.PIDs}}",
        "box",
    ]);
    assert!(stats.ok().contains("/ 64MiB"), "{stats:?}");
    d.run(&[
        "update",
        "--memory",
        "128m",
        "--memory-swap",
        "256m",
        "--cpu-shares",
        "77",
        "--pids-limit",
        "44",
        "box",
    ])
    .ok();
    let show = format!(
        "{SHOW_MEMORY_LIMIT}; cat /sys/fs/cgroup/pids/pids.max 2>/dev/null || cat /sys/fs/cgroup/pids.max"
    );
    assert_eq!(
        d.run(&["exec", "box", "sh", "-c", &show]).ok(),
        "134217728\n44\n"
    );
    d.run(&["stop", "box"]).ok();

    d.container(
        &[&["--name", "hog"], &limit[..]].concat(),
        &format!("exec {HOG}"),
    )
    .exits(137);
    assert_eq!(d.inspect("hog", "{{.State.OOMKilled}}"), "true");

    let run = d.container(&["--rm", "--pids-limit", "10"], TWENTY_TASKS);
    assert!(!run.status.success() && run.err.contains("fork"), "{run:?}");
    d.container(&["--rm", "--pids-limit", "100"], TWENTY_TASKS)
        .ok();
    d.finish();
}

#[test]
fn security_options() {
    let d = Docker::new("security");
    let run = d.container(&["--rm", "--read-only"], "touch /x");
    assert!(
        run.exits(1).err.contains("Read-only file system"),
        "{run:?}"
    );
    let run = d.container(&["--rm", "--cap-drop", "chown"], "chown guest /tmp");
    assert!(
        run.exits(1).err.contains("Operation not permitted"),
        "{run:?}"
    );
    let status = "grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/self/status";
    let options = [
        "--rm",
        "--cap-drop",
        "all",
        "--cap-add",
        "chown",
        "--security-opt",
        "no-new-privileges",
    ];
    let run = d.container(&options, status);
    assert_eq!(
        run.ok(),
        "CapEff:\t0000000000000001\nNoNewPrivs:\t1\nSeccomp:\t2\n"
    );
    let script =
        "grep Seccomp: /proc/self/status; test -c /dev/kmsg; test -w /proc/sys/kernel/domainname";
    let run = d.container(&["--rm", "--privileged"], script);
    if d.arena.runtime.kind != Kind::Hull
        && run.err.to_lowercase().contains("operation not permitted")
    {
        // The specification wants a warning for a capability that cannot be granted.
        not_run(
            "docker run --privileged",
            "the runtime insists on capabilities that root lacks",
        );
    } else {
        assert_eq!(run.ok(), "Seccomp:\t0\n");
    }
    let shared = d.arena.path("shared");
    fs::create_dir(&shared).unwrap();
    let volume = format!("{shared}:/shared:ro");
    let run = d.container(
        &["--rm", "--volume", &volume, "--tmpfs", "/scratch"],
        "touch /scratch/x; touch /shared/x",
    );
    assert!(
        run.exits(1).err.contains("Read-only file system"),
        "{run:?}"
    );
    d.finish();
}

#[test]
fn health_check_runs_in_the_container() {
    let d = Docker::new("health");
    let check = [
        "--health-cmd",
        "test -e /tmp/well",
        "--health-interval",
        "300ms",
        "--health-retries",
        "2",
    ];
    d.container(
        &[&["--detach", "--init", "--name", "box"], &check[..]].concat(),
        PATIENT,
    )
    .ok();
    let health = |wanted: &str| {
        eventually(Duration::from_secs(20), || {
            d.inspect("box", "{{.State.Health.Status}}") == wanted
        })
    };
    assert!(health("unhealthy"));
    d.run(&["exec", "box", "touch", "/tmp/well"]).ok();
    assert!(health("healthy"));
    d.run(&["stop", "box"]).ok();
    assert!(
        d.run(&["logs", "box"]).ok().ends_with("bye\n"),
        "docker-init must pass TERM on"
    );
    d.finish();
}

#[test]
fn checkpoint_and_restore_where_criu_works() {
    let d = Docker::new("criu");
    d.container(&["--detach", "--name", "box"], PATIENT).ok();
    let checkpoint = d.run(&["checkpoint", "create", "box", "one"]);
    if let Some(reason) = criu_refusal() {
        not_run("docker checkpoint and start from it", &reason);
        assert!(!checkpoint.status.success(), "{checkpoint:?}");
        assert!(checkpoint.err.contains("criu"), "{checkpoint:?}");
        assert_eq!(d.inspect("box", "{{.State.Status}}"), "running");
    } else {
        checkpoint.ok();
        assert!(eventually(Duration::from_secs(20), || d
            .inspect("box", "{{.State.Status}}")
            == "exited"));
        let mut start = d.run(&["start", "--checkpoint", "one", "box"]);
        // docker gives the image to its containerd once more, which refuses for as long as it has
        // not thrown away the first.
        let in_the_way = |run: &Run| run.err.contains("failed to upload checkpoint");
        eventually(Duration::from_secs(20), || {
            if in_the_way(&start) {
                start = d.run(&["start", "--checkpoint", "one", "box"]);
            }
            !in_the_way(&start)
        });
        if in_the_way(&start) {
            not_run("docker start from a checkpoint", start.err.trim());
            start = d.run(&["start", "box"]);
        }
        start.ok();
        assert_eq!(d.inspect("box", "{{.State.Status}}"), "running");
    }
    d.run(&["stop", "box"]).ok();
    d.finish();
}
