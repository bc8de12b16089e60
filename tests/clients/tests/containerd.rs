//! containerd, driven by ctr, on the runtime under test.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Child;
use std::time::Duration;

use client_suite::scripts::{HOG, PATIENT, SHOW_MEMORY_LIMIT};
use client_suite::{Arena, Pty, Run, criu_refusal, docker_archive, eventually, not_run};

const SOCKET: &str = "/run/containerd-test/containerd.sock";

/// A containerd of its own.
struct Containerd {
    arena: Arena,
    daemon: Child,
}

impl Containerd {
    fn new(test: &str) -> Self {
        let arena = Arena::new(test);
        let root = arena.path("root");
        let config = format!(
            "version = 2\nroot = \"{root}\"\nstate = \"/run/containerd-test\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\n  address = \"{SOCKET}\"\n\
             [ttrpc]\n  address = \"{SOCKET}.ttrpc\"\n",
        );
        let file = arena.path("containerd.toml");
        fs::write(&file, config).unwrap();
        // `ctr container create` cannot name the runtime's program: it is `runc` in the daemon's
        // path.
        fs::create_dir(arena.dir().join("bin")).unwrap();
        symlink(&arena.runtime.path, arena.dir().join("bin/runc")).unwrap();
        let path = std::env::var("PATH").unwrap_or_default();
        let path = format!("PATH={}:{path}", arena.path("bin"));
        let words = ["env", &path, "containerd", "--config", &file];
        let daemon = arena.daemon("containerd", &words);
        let containerd = Self { arena, daemon };
        let up = || containerd.ctr(&["version"]).status.success();
        assert!(
            eventually(Duration::from_secs(20), up),
            "containerd did not come up"
        );
        let archive = docker_archive().display().to_string();
        containerd.ctr(&["images", "import", &archive]).ok();
        containerd
    }

    fn words(&self, args: &[&str]) -> Vec<String> {
        // containerd puts the containers of a namespace into a cgroup of that name.
        let parent = self.arena.cgroup_parent();
        let namespace = parent.trim_start_matches('/');
        let words = ["ctr", "--address", SOCKET, "--namespace", namespace].into_iter();
        words
            .chain(args.iter().copied())
            .map(str::to_owned)
            .collect()
    }

    #[track_caller]
    fn ctr(&self, args: &[&str]) -> Run {
        self.arena.run(&self.words(args))
    }

    /// The words of `ctr run OPTIONS localhost/base:1 ID sh -c SCRIPT`.
    fn run_words(&self, id: &str, options: &[&str], command: &[&str]) -> Vec<String> {
        let runtime = self.arena.runtime_path();
        let mut args = vec!["run", "--runc-binary", &runtime];
        args.extend(options);
        args.extend(["localhost/base:1", id]);
        args.extend(command);
        self.words(&args)
    }

    #[track_caller]
    fn container(&self, id: &str, options: &[&str], script: &str) -> Run {
        self.arena
            .run(&self.run_words(id, options, &["sh", "-c", script]))
    }

    fn status(&self, id: &str) -> String {
        let list = self.ctr(&["task", "ls"]);
        let line = list
            .ok()
            .lines()
            .find(|l| l.split_whitespace().next() == Some(id));
        let status = line.and_then(|l| l.split_whitespace().nth(2));
        status.unwrap_or("none").to_owned()
    }

    /// Ends a container that runs in the background and removes it.
    #[track_caller]
    fn end(&self, id: &str) {
        self.ctr(&["task", "kill", "--signal", "SIGKILL", "--all", id])
            .ok();
        assert!(eventually(Duration::from_secs(20), || self.status(id) == "STOPPED"));
        self.ctr(&["task", "delete", id]).ok();
        self.ctr(&["container", "delete", id]).ok();
    }

    #[track_caller]
    fn finish(self) {
        assert_eq!(self.ctr(&["task", "ls", "--quiet"]).ok(), "");
        self.arena.stop_daemon(self.daemon, "containerd");
        self.arena.finish(&[]);
    }
}

#[test]
fn run_returns_output_and_status() {
    let c = Containerd::new("run");
    let run = c.container(
        "a",
        &["--rm", "--env", "COLOUR=blue"],
        "echo $COLOUR; echo problem >&2; exit 7",
    );
    assert_eq!(run.exits(7).out, "blue\n");
    assert_eq!(run.err, "problem\n");
    let run = c
        .arena
        .run(&c.run_words("b", &["--rm"], &["no-such-program"]));
    assert!(
        !run.status.success() && run.err.contains("executable file"),
        "{run:?}"
    );
    let _ = c.ctr(&["container", "delete", "b"]);
    c.finish();
}

#[test]
fn a_task_lives_through_all_its_states() {
    let c = Containerd::new("life");
    let log = format!("file://{}", c.arena.path("task.txt"));
    c.container("a", &["--detach", "--log-uri", &log], PATIENT)
        .ok();
    let logged = |text: &str| {
        eventually(Duration::from_secs(20), || {
            fs::read_to_string(c.arena.path("task.txt")).is_ok_and(|t| t == text)
        })
    };
    assert!(logged("started\n"));
    assert_eq!(c.status("a"), "RUNNING");
    // Besides the header, the shell and its sleep.
    assert!(c.ctr(&["task", "ps", "a"]).ok().lines().count() >= 2);
    assert_eq!(
        c.ctr(&[
            "task",
            "exec",
            "--exec-id",
            "e",
            "a",
            "sh",
            "-c",
            "echo hi; exit 9"
        ])
        .exits(9)
        .out,
        "hi\n"
    );
    let run = c.ctr(&["task", "exec", "--exec-id", "f", "a", "no-such-program"]);
    assert!(
        !run.status.success() && run.err.contains("executable file"),
        "{run:?}"
    );

    c.ctr(&["task", "pause", "a"]).ok();
    assert_eq!(c.status("a"), "PAUSED");
    c.ctr(&["task", "resume", "a"]).ok();
    assert_eq!(c.status("a"), "RUNNING");

    c.ctr(&["task", "kill", "--signal", "SIGTERM", "a"]).ok();
    assert!(eventually(Duration::from_secs(20), || c.status("a") == "STOPPED"));
    assert!(logged("started\nbye\n"));
    // Killing what has ended is the phrase that containerd looks for in the runtime's error.
    let again = c.ctr(&["task", "kill", "--signal", "SIGTERM", "a"]);
    assert!(again.err.contains("process already finished"), "{again:?}");
    c.ctr(&["task", "delete", "a"]).ok();
    c.ctr(&["container", "delete", "a"]).ok();
    c.finish();
}

#[test]
fn create_and_start_are_two_steps() {
    let c = Containerd::new("twosteps");
    let image = "localhost/base:1";
    let create = ["container", "create", image, "a", "expr", "40", "+", "2"];
    c.ctr(&create).ok();
    let run = c.ctr(&["task", "start", "a"]);
    assert_eq!(run.ok(), "42\n");
    c.ctr(&["container", "delete", "a"]).ok();
    c.finish();
}

#[test]
fn an_interactive_terminal_follows_the_window() {
    let c = Containerd::new("tty");
    let words = c.run_words("a", &["--rm", "--tty"], &["sh"]);
    let mut terminal = Pty::spawn(&c.arena.command(&words), 30, 90);
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
    c.finish();
}

#[test]
fn exec_has_a_terminal_of_its_own_that_follows_the_window() {
    let c = Containerd::new("exectty");
    c.container("a", &["--detach"], PATIENT).ok();
    let words = c.words(&["task", "exec", "--tty", "--exec-id", "e", "a", "sh"]);
    let mut terminal = Pty::spawn(&c.arena.command(&words), 25, 81);
    terminal.expect("# ");
    terminal.send("test -t 0 && echo it-is-a-$(echo terminal)\n");
    terminal.expect("it-is-a-terminal");
    terminal.expect_size(25, 81);
    terminal.resize(50, 101);
    terminal.expect_size(50, 101);
    terminal.send("exit 3\n");
    assert_eq!(terminal.wait().code(), Some(3));
    drop(terminal);
    c.end("a");
    c.finish();
}

#[test]
fn memory_limit_is_measured_and_kept() {
    let c = Containerd::new("memory");
    let limit = ["--memory-limit", "67108864"];
    // The container's own view of its cgroup, which containerd does not mount by itself.
    let view = "type=cgroup,src=cgroup,dst=/sys/fs/cgroup,options=ro:nosuid:noexec:nodev";
    let options = [&["--detach", "--mount", view], &limit[..]].concat();
    c.container("a", &options, PATIENT).ok();
    let seen = c.ctr(&[
        "task",
        "exec",
        "--exec-id",
        "e",
        "a",
        "sh",
        "-c",
        SHOW_MEMORY_LIMIT,
    ]);
    assert_eq!(seen.ok(), "67108864\n");
    let metrics = c.ctr(&["task", "metrics", "--format", "json", "a"]);
    assert!(metrics.ok().contains("67108864"), "{}", metrics.out);
    c.end("a");
    let options = [&["--rm"], &limit[..]].concat();
    c.container("hog", &options, &format!("exec {HOG}"))
        .exits(137);
    c.finish();
}

#[test]
fn security_options() {
    let c = Containerd::new("security");
    let run = c.container("a", &["--rm", "--read-only"], "touch /x");
    assert!(
        run.exits(1).err.contains("Read-only file system"),
        "{run:?}"
    );
    let run = c.container(
        "b",
        &["--rm", "--cap-drop", "CAP_CHOWN"],
        "chown guest /tmp",
    );
    assert!(
        run.exits(1).err.contains("Operation not permitted"),
        "{run:?}"
    );
    let run = c.container(
        "c",
        &["--rm", "--seccomp"],
        "grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status",
    );
    assert_eq!(run.ok(), "NoNewPrivs:\t1\nSeccomp:\t2\n");
    let maps = [
        "--rm",
        "--uidmap",
        "0:100000:5000",
        "--gidmap",
        "0:100000:5000",
        "--remap-labels",
    ];
    let run = c.container("d", &maps, "cat /proc/self/uid_map");
    let words: Vec<&str> = run.out.split_whitespace().collect();
    if run.status.success() {
        assert_eq!(words, ["0", "100000", "5000"]);
    } else {
        // The snapshotter cannot always remap; that is decided before the runtime is called.
        assert!(run.err.contains("snapshot"), "{run:?}");
        not_run("ctr run --uidmap", run.err.trim());
    }
    c.finish();
}

#[test]
fn checkpoint_and_restore_where_criu_works() {
    let c = Containerd::new("criu");
    c.container("a", &["--detach"], PATIENT).ok();
    let checkpoint = c.ctr(&[
        "container",
        "checkpoint",
        "--task",
        "a",
        "localhost/checkpoint:1",
    ]);
    if let Some(reason) = criu_refusal() {
        not_run("ctr checkpoint and restore", &reason);
        assert!(!checkpoint.status.success(), "{checkpoint:?}");
        assert!(checkpoint.err.contains("criu"), "{checkpoint:?}");
        assert_eq!(c.status("a"), "RUNNING");
        c.end("a");
    } else {
        checkpoint.ok();
        c.end("a");
        c.ctr(&[
            "container",
            "restore",
            "--live",
            "a",
            "localhost/checkpoint:1",
        ])
        .ok();
        assert_eq!(c.status("a"), "RUNNING");
        c.end("a");
    }
    c.finish();
}
