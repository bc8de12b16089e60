//! Limits, isolation and everything else that is asked for with options of `podman run`.

use std::fs;

use client_suite::scripts::{HOG, PATIENT, SHOW_MEMORY_LIMIT, TWENTY_TASKS};

use client_suite::Kind;

use crate::Podman;

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
fn privileged_and_host_namespaces() {
    let p = Podman::new("privileged");
    // What the machine's root lacks cannot be granted; the rest is.
    let script =
        "test -c /dev/kmsg && mount -t tmpfs tmpfs /tmp && grep Seccomp: /proc/self/status";
    assert_eq!(
        p.container(&["--rm", "--privileged"], script).ok(),
        "Seccomp:\t0\n"
    );
    let spaces = [
        "--rm",
        "--pid",
        "host",
        "--ipc",
        "host",
        "--uts",
        "host",
        "--cgroupns",
        "host",
    ];
    let links = "for n in pid ipc uts cgroup; do readlink /proc/self/ns/$n; done";
    let outside = p.arena.run(&["sh", "-c", links]);
    assert_eq!(p.container(&spaces, links).ok(), outside.ok());
    let own = [
        "--rm",
        "--pid",
        "private",
        "--ipc",
        "private",
        "--cgroupns",
        "private",
    ];
    let inside = p.container(&own, &format!("{links}; cat /proc/self/cgroup"));
    for (inside, outside) in inside.ok().lines().zip(outside.out.lines()) {
        assert_ne!(inside, outside);
    }
    // In a cgroup namespace of its own the container is at the root of every hierarchy.
    let cgroups = inside.out.lines().skip(4);
    assert!(
        cgroups.clone().count() > 0 && cgroups.clone().all(|l| l.ends_with(":/")),
        "{inside:?}"
    );
    p.finish();
}

#[test]
fn processor_limits_reach_the_kernel() {
    let p = Podman::new("cpu");
    let options = [
        "--rm",
        "--cpus",
        "0.5",
        "--cpu-shares",
        "512",
        "--cpuset-cpus",
        "0",
    ];
    let v1 = "cd /sys/fs/cgroup; cat cpu/cpu.cfs_quota_us cpu/cpu.shares cpuset/cpuset.cpus";
    let v2 = "cd /sys/fs/cgroup; cut -d' ' -f1 cpu.max; echo 512; cat cpuset.cpus";
    let script = format!("if test -e /sys/fs/cgroup/cpu.max; then {v2}; else {v1}; fi");
    assert_eq!(p.container(&options, &script).ok(), "50000\n512\n0\n");
    p.finish();
}

#[test]
fn hooks_from_a_directory_run_with_the_state() {
    let p = Podman::new("hooks");
    let dir = p.arena.dir().join("hooks.d");
    fs::create_dir(&dir).unwrap();
    for stage in ["createRuntime", "createContainer", "poststart", "poststop"] {
        let out = p.arena.path(&format!("{stage}.json"));
        let hook = format!(
            r#"{{"version":"1.0.0","hook":{{"path":"/bin/sh","args":["sh","-c","cat > {out}"]}},
                "when":{{"always":true}},"stages":["{stage}"]}}"#
        );
        fs::write(dir.join(format!("{stage}.hook.json")), hook).unwrap();
    }
    let dir = dir.display().to_string();
    let parent = p.arena.cgroup_parent();
    let args = [
        "--hooks-dir",
        &dir,
        "run",
        "--rm",
        "--network",
        "none",
        "--cgroup-parent",
        &parent,
    ];
    let args = [&args[..], &["localhost/base:1", "echo", "ran"]].concat();
    assert_eq!(p.run(&args).ok(), "ran\n");
    for (stage, status) in [
        ("createRuntime", "creat"),
        ("createContainer", "creat"),
        // The program runs by then; runc 1.1 and crun call the hooks early.
        (
            "poststart",
            if p.arena.runtime.kind == Kind::Hull {
                "running"
            } else {
                ""
            },
        ),
        ("poststop", "stopped"),
    ] {
        let state = fs::read_to_string(p.arena.path(&format!("{stage}.json"))).unwrap();
        let state: serde_json::Value = serde_json::from_str(&state).unwrap();
        let said = state["status"].as_str().unwrap();
        assert!(said.starts_with(status), "{stage}: {state}");
        assert!(
            state["bundle"].as_str().unwrap().starts_with('/'),
            "{stage}: {state}"
        );
    }
    p.finish();
}

#[test]
fn limits_of_the_process_and_its_files() {
    let p = Podman::new("ulimit");
    let options = [
        "--rm",
        "--ulimit",
        "nofile=77:99",
        "--ulimit",
        "nproc=500:500",
        "--ulimit",
        "core=0:0",
        "--umask",
        "0027",
        "--oom-score-adj",
        "321",
    ];
    let script = "ulimit -n; ulimit -Hn; ulimit -c; umask; cat /proc/self/oom_score_adj; ls /proc/self/fd | wc -l";
    // ls has the directory open beside the three standard streams.
    assert_eq!(
        p.container(&options, script).ok(),
        "77\n99\n0\n0027\n321\n4\n"
    );
    p.finish();
}
