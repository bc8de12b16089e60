//! podman on the runtime under test.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::fs;
use std::time::{Duration, Instant};

use client_suite::scripts::{HOG, PATIENT, SHOW_MEMORY_LIMIT, TWENTY_TASKS};
use client_suite::{Arena, Kind, Pty, Run, criu_refusal, docker_archive, eventually, not_run};

/// podman with storage, locks, networks and configuration of its own.
struct Podman {
    arena: Arena,
    base: Vec<String>,
}

impl Podman {
    fn new(test: &str) -> Self {
        let arena = Arena::new(test);
        // Containers would otherwise get the engine's own limits raised, which a machine
        // without CAP_SYS_RESOURCE refuses.
        let limits = r#"default_ulimits = ["nofile=1000:1000", "nproc=1000:1000"]"#;
        let networks = arena.path("networks");
        let conf = format!(
            "[containers]\n{limits}\nlog_driver = \"k8s-file\"\n\
             [network]\nnetwork_backend = \"netavark\"\nnetwork_config_dir = \"{networks}\"\n\
             [engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n",
        );
        fs::write(arena.dir().join("containers.conf"), conf).unwrap();
        let base = [
            "podman",
            "--root",
            &arena.path("storage"),
            "--runroot",
            "/run/podman-storage",
            "--tmpdir",
            "/run/podman",
            "--storage-driver",
            "overlay",
            "--runtime",
            &arena.runtime_path(),
        ]
        .map(str::to_owned)
        .to_vec();
        let podman = Self { arena, base };
        let archive = docker_archive().display().to_string();
        podman.run(&["load", "--quiet", "--input", &archive]).ok();
        podman
    }

    fn words(&self, args: &[&str]) -> Vec<String> {
        let mut words = self.base.clone();
        words.extend(args.iter().map(|&a| a.to_owned()));
        words
    }

    #[track_caller]
    fn run(&self, args: &[&str]) -> Run {
        self.arena.run(&self.words(args))
    }

    /// `podman run OPTIONS localhost/base:1 sh -c SCRIPT`, without a network.
    #[track_caller]
    fn container(&self, options: &[&str], script: &str) -> Run {
        let parent = self.arena.cgroup_parent();
        let mut args = vec!["run", "--cgroup-parent", &parent, "--network", "none"];
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
        self.finish_but(&[]);
    }

    #[track_caller]
    fn finish_but(self, may_stay: &[&str]) {
        self.run(&["rm", "--all"]).ok();
        // The storage directory is a private mount of the engine's own; its network namespaces
        // are under /run/netns.
        let storage = self.arena.path("storage/overlay");
        // The monitors share a cgroup that no one removes.
        let own = [&storage, "mount /run/podman-storage/", "mount /run/netns"];
        self.arena
            .finish(&[&own[..], &["/conmon"], may_stay].concat());
    }
}

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
    assert!(eventually(Duration::from_secs(5), || p
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
    assert!(eventually(Duration::from_secs(5), || p
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
    assert!(eventually(Duration::from_secs(5), || p
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
fn memory_limit_is_seen_and_kept() {
    let p = Podman::new("memory");
    let limit = ["--memory", "64m", "--memory-swap", "64m"];
    p.container(
        &[&["--detach", "--name", "c"], &limit[..]].concat(),
        PATIENT,
    )
    .ok();
    assert_eq!(
        p.run(&["exec", "c", "sh", "-c", SHOW_MEMORY_LIMIT]).ok(),
        "67108864\n"
    );
    let stats = p.run(&[
        "stats",
        "--no-stream",
        "--format",
        "{{.MemUsage}} {{.PIDs}}",
        "c",
    ]);
    assert!(stats.ok().contains("/ 67.11MB"), "{}", stats.out);
    p.run(&["update", "--memory", "128m", "--memory-swap", "256m", "c"])
        .ok();
    assert_eq!(
        p.run(&["exec", "c", "sh", "-c", SHOW_MEMORY_LIMIT]).ok(),
        "134217728\n"
    );
    p.run(&["update", "--cpu-shares", "77", "c"]).ok();
    p.run(&["stop", "c"]).ok();

    // As PID 1 the hog's end is the container's; as a child it leaves someone to tell.
    let run = p.container(&[&["--rm"], &limit[..]].concat(), &format!("exec {HOG}"));
    run.exits(137);
    let files = "/sys/fs/cgroup/memory/memory.oom_control /sys/fs/cgroup/memory.events";
    let script = format!("{HOG}; echo $?; grep -h '^oom_kill ' {files} 2>/dev/null; exit 0");
    let run = p.container(&[&["--rm"], &limit[..]].concat(), &script);
    assert_eq!(run.ok(), "137\noom_kill 1\n");
    p.finish();
}

#[test]
fn pids_limit_is_kept() {
    let p = Podman::new("pids");
    let run = p.container(&["--rm", "--pids-limit", "10"], TWENTY_TASKS);
    assert!(!run.status.success() && run.err.contains("fork"), "{run:?}");
    let run = p.container(&["--rm", "--pids-limit", "100"], TWENTY_TASKS);
    assert_eq!(run.ok(), "all\n");
    p.finish();
}

#[test]
fn read_only_root() {
    let p = Podman::new("readonly");
    let script = "touch /x; echo $?; touch /tmp/x; echo $?; head -n 1 /proc/self/mountinfo | cut -d' ' -f6 | cut -d, -f1";
    let run = p.container(&["--rm", "--read-only"], script);
    assert_eq!(run.ok(), "1\n0\nro\n");
    assert!(run.err.contains("Read-only file system"), "{run:?}");
    p.finish();
}

#[test]
fn capabilities_can_be_dropped_and_added() {
    let p = Podman::new("caps");
    let effective =
        "grep CapEff /proc/self/status | cut -f2; grep CapBnd /proc/self/status | cut -f2";
    let none = "0000000000000000";
    let run = p.container(&["--rm", "--cap-drop", "all"], effective);
    assert_eq!(run.ok(), format!("{none}\n{none}\n"));
    let run = p.container(
        &["--rm", "--cap-drop", "all", "--cap-add", "chown"],
        effective,
    );
    assert_eq!(run.ok(), "0000000000000001\n0000000000000001\n");
    let run = p.container(&["--rm", "--cap-drop", "chown"], "chown guest /tmp");
    assert!(
        run.exits(1).err.contains("Operation not permitted"),
        "{run:?}"
    );
    let run = p.container(
        &["--rm", "--security-opt", "no-new-privileges"],
        "grep NoNewPrivs /proc/self/status",
    );
    assert_eq!(run.ok(), "NoNewPrivs:\t1\n");
    p.finish();
}

#[test]
fn seccomp_profile_is_applied() {
    let p = Podman::new("seccomp");
    let mode = "grep Seccomp: /proc/self/status";
    assert_eq!(p.container(&["--rm"], mode).ok(), "Seccomp:\t2\n");
    let off = ["--rm", "--security-opt", "seccomp=unconfined"];
    assert_eq!(p.container(&off, mode).ok(), "Seccomp:\t0\n");
    let profile = p.arena.path("profile.json");
    let text = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":95}]}"#;
    fs::write(&profile, text).unwrap();
    let option = format!("seccomp={profile}");
    let run = p.container(&["--rm", "--security-opt", &option], "mkdir /tmp/x");
    assert!(
        run.exits(1).err.contains("Operation not supported"),
        "{run:?}"
    );
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
fn bridge_network_and_shared_namespaces() {
    let p = Podman::new("bridge");
    let parent = p.arena.cgroup_parent();
    let serve = "echo page > /tmp/index.html; exec httpd -f -p 80 -h /tmp";
    let bridged = [
        "run",
        "--detach",
        "--name",
        "c",
        "--cgroup-parent",
        &parent,
        "localhost/base:1",
        "sh",
        "-c",
        serve,
    ];
    p.run(&bridged).ok();
    let address = p.inspect("c", "{{.NetworkSettings.IPAddress}}");
    let fetch = |url: &str| {
        format!("for i in 1 2 3 4 5 6 7 8 9; do wget -qO- {url} && exit; sleep 0.2; done; exit 1")
    };
    // From the host side of the bridge (the arena), and from a container in the same namespace.
    let url = format!("http://{address}/index.html");
    assert_eq!(
        p.arena.run(&["busybox", "sh", "-c", &fetch(&url)]).ok(),
        "page\n"
    );
    let local = fetch("http://127.0.0.1/index.html");
    let joined = [
        "run",
        "--rm",
        "--cgroup-parent",
        &parent,
        "--network",
        "container:c",
        "--pid",
        "container:c",
        "localhost/base:1",
        "sh",
        "-c",
        &local,
    ];
    assert_eq!(p.run(&joined).ok(), "page\n");
    p.run(&["stop", "--time", "1", "c"]).ok();
    p.finish();
}

#[test]
fn volumes_devices_and_the_environment() {
    let p = Podman::new("volumes");
    let shared = p.arena.path("shared");
    fs::create_dir(&shared).unwrap();
    let (rw, ro) = (format!("{shared}:/rw"), format!("{shared}:/ro:ro"));
    let options = [
        "--rm",
        "-v",
        &rw,
        "-v",
        &ro,
        "--tmpfs",
        "/scratch:size=1m",
        "--device",
        "/dev/kmsg:/dev/mylog:r",
        "-e",
        "COLOUR=blue",
        "--sysctl",
        "net.ipv4.ip_unprivileged_port_start=77",
    ];
    let script = "echo hello > /rw/f; cat /ro/f; echo x > /ro/f; grep -c ' /scratch tmpfs rw' /proc/mounts; test -c /dev/mylog && echo device; echo $COLOUR; cat /proc/sys/net/ipv4/ip_unprivileged_port_start";
    let run = p.container(&options, script);
    assert_eq!(run.ok(), "hello\n1\ndevice\nblue\n77\n");
    assert!(run.err.contains("Read-only file system"), "{run:?}");
    p.finish();
}

#[test]
fn user_namespace() {
    let p = Podman::new("userns");
    let maps = [
        "--rm",
        "--uidmap",
        "0:100000:5000",
        "--gidmap",
        "0:100000:5000",
    ];
    let run = p.container(
        &maps,
        "id -u; cat /proc/self/uid_map; stat -c %u /etc/passwd; touch /tmp/x && echo writes",
    );
    let lines: Vec<Vec<&str>> = run
        .ok()
        .lines()
        .map(|l| l.split_whitespace().collect())
        .collect();
    assert_eq!(
        lines,
        [
            vec!["0"],
            vec!["0", "100000", "5000"],
            vec!["0"],
            vec!["writes"]
        ]
    );
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
    assert!(eventually(Duration::from_secs(5), || p
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

#[test]
fn checkpoint_and_restore_where_criu_works() {
    let p = Podman::new("criu");
    let count = "i=0; while :; do i=$((i + 1)); echo $i > /tmp/count; sleep 0.1; done";
    p.container(&["--detach", "--name", "c"], count).ok();
    let checkpoint = p.run(&["container", "checkpoint", "c"]);
    if let Some(reason) = criu_refusal() {
        // Even without a container criu cannot work here: then the runtime must pass that on
        // and leave the container running.
        not_run("podman checkpoint and restore", &reason);
        assert!(!checkpoint.status.success(), "{checkpoint:?}");
        // A crun that finds no libcriu says so to podman, which then does not ask it.
        let asked = p.arena.runtime.kind != Kind::Crun;
        assert!(checkpoint.err.contains("criu") || !asked, "{checkpoint:?}");
        assert_eq!(p.inspect("c", "{{.State.Status}}"), "running");
    } else {
        checkpoint.ok();
        assert_eq!(p.inspect("c", "{{.State.Status}}"), "exited");
        p.run(&["container", "restore", "c"]).ok();
        let counted = p.run(&["exec", "c", "cat", "/tmp/count"]);
        assert!(counted.ok().trim().parse::<u32>().unwrap() > 0);
    }
    p.run(&["rm", "--force", "--time", "0", "c"]).ok();
    p.finish();
}
