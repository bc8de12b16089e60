//! `hull exec` in a running container.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod common;

use std::process::Stdio;

use common::{Bundle, end_of, finish, wait_until};
use serde_json::{Value, json};

#[test]
fn the_exit_code_is_the_commands_and_ours_is_255() {
    let c = Bundle::running("codes", |_| {});
    assert_eq!(c.sh(&[], "exit 7").code, Some(7));
    assert_eq!(c.sh(&[], "kill -9 $$").code, Some(128 + 9));
    assert_eq!(c.sh(&[], "true").code, Some(0));
    let table = [
        (
            &["nosuch"][..],
            &[][..],
            "exec: \"nosuch\": executable file not found in $PATH",
        ),
        (
            &["/no/such"],
            &[],
            "exec: \"/no/such\": stat /no/such: no such file or directory",
        ),
        (&["/etc"], &[], "exec: \"/etc\": permission denied"),
        (&[], &[], "process args cannot be empty"),
        (
            &["true"],
            &["--cwd", "/none"],
            "chdir to cwd (\"/none\") set in config.json failed: no such file or directory",
        ),
        (&["true"], &["--cwd", "rel"], "must be an absolute path"),
        (&["true"], &["-e", "X"], "is not NAME=value"),
        (&["true"], &["-u", "root"], "bad uid: \"root\""),
        (
            &["true"],
            &["-u", "0:4294967295"],
            "bad gid: \"4294967295\"",
        ),
        (
            &["true"],
            &["-t", "-d"],
            "cannot allocate tty if hull will detach without setting console socket",
        ),
        (
            &["true"],
            &["--console-socket", "/x"],
            "cannot use console socket if hull will not detach or allocate tty",
        ),
        (&["true"], &["--apparmor", "p"], "apparmor is not enabled"),
        (&["true"], &["--cgroup", "../x"], "\"..\" is not allowed"),
        (
            &["true"],
            &["--process", "/none"],
            "no such file or directory",
        ),
    ];
    for (args, options, text) in table {
        let output = c.on(&[&["exec"], options].concat(), args);
        assert_eq!(output.code, Some(255), "{args:?} {options:?}");
        assert!(output.stderr.contains("exec failed: "), "{}", output.stderr);
        assert!(output.stderr.contains(text), "{}: {text}", output.stderr);
        assert_eq!(output.stderr.lines().count(), 1, "{}", output.stderr);
    }
}

#[test]
fn every_namespace_and_group_is_the_containers() {
    let c = Bundle::running("namespaces", |c| {
        let kinds = ["pid", "network", "ipc", "uts", "mount", "cgroup", "time"];
        c["linux"]["namespaces"] = kinds.map(|k| json!({"type": k})).into();
    });
    let init = c.pid();
    let seen = c
        .sh(
            &[],
            "for n in /proc/self/ns/*; do readlink $n; done; cat /proc/self/cgroup",
        )
        .ok();
    for kind in ["pid", "net", "ipc", "uts", "mnt", "cgroup", "time", "user"] {
        let link = std::fs::read_link(format!("/proc/{init}/ns/{kind}")).unwrap();
        assert!(seen.contains(link.to_str().unwrap()), "{kind}: {seen}");
    }
    // With a cgroup namespace of its own, every group is the root of what is seen.
    let groups = seen.lines().filter(|l| l.contains(":/"));
    assert!(
        groups.clone().count() > 0 && groups.clone().all(|l| l.ends_with(":/")),
        "{seen}"
    );
    let own = c
        .sh(
            &[],
            "cat /proc/self/oom_score_adj; grep -c . /proc/self/mounts",
        )
        .ok();
    assert!(own.starts_with("0\n"), "{own}");
}

#[test]
fn the_same_on_a_kernel_without_the_newer_calls() {
    let c = Bundle::running("old", |c| {
        let kinds = ["pid", "network", "ipc", "uts", "mount", "user"];
        c["linux"]["namespaces"] = kinds.map(|k| json!({"type": k})).into();
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
        c["linux"]["uidMappings"] = map.clone();
        c["linux"]["gidMappings"] = map;
    });
    let script =
        "readlink /proc/self/ns/user; id -u; cat /proc/self/uid_map; readlink /proc/self/ns/mnt";
    let new = c.sh(&[], script).ok();
    assert!(new.contains("100000"), "{new}");
    for faked in [
        "setns_pidfd",
        "pidfd_open,setns_pidfd",
        "clone_into_cgroup",
        "close_range",
        "tiocgptpeer",
    ] {
        let mut command = c.command(&["exec", &c.id, "sh", "-c", script]);
        command.env(sys::knob::FAKE_ENOSYS, faked);
        assert_eq!(finish(command).ok(), new, "without {faked}");
    }
}

#[test]
fn options_make_the_process() {
    let c = Bundle::running("options", |_| {});
    let options = [
        "-u", "12:13", "-g", "7", "-g", "8", "-e", "X=a=b", "--cwd", "/tmp",
    ];
    let seen = c
        .sh(
            &options,
            "id; echo $X; pwd; cat /proc/self/loginuid >/dev/null; grep ^Cap /proc/self/status",
        )
        .ok();
    assert!(
        seen.starts_with("uid=12 gid=13 groups=7,8\na=b\n/tmp\n"),
        "{seen}"
    );
    assert!(seen.contains("CapEff:\t0000000000000000"), "{seen}");
    let status = |options: &[&str]| c.sh(options, "cat /proc/self/status").ok();
    let field = |text: &str, name: &str| {
        let line = text
            .lines()
            .find(|l| l.starts_with(name))
            .unwrap()
            .to_owned();
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    // Bit 0 is CAP_CHOWN, which the default configuration does not give.
    let with = status(&["--cap", "CAP_CHOWN"]);
    assert_eq!(field(&with, "CapEff:"), "0000000020000421");
    assert_eq!(field(&with, "CapInh:"), "0000000000000000");
    assert_eq!(field(&with, "CapAmb:"), "0000000000000000");
    assert_eq!(field(&status(&[]), "CapBnd:"), "0000000020000420");
    // The user of this test has no such directory, but root puts the command there.
    let private = c.file("rootfs/private");
    std::fs::create_dir(&private).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(&private, mode).unwrap();
    assert_eq!(
        c.sh(&["-u", "12", "--cwd", "/private"], "pwd").ok(),
        "/private\n"
    );
}

#[test]
fn a_document_makes_the_process_and_inherits_what_guards() {
    let c = Bundle::running("document", |_| {});
    let path = c.file("process.json");
    let document = json!({"args": ["sh", "-c", "echo $A; id -u; grep CapEff /proc/self/status"],
        "cwd": "/", "user": {"uid": 0, "gid": 0}, "env": ["A=b", "PATH=/bin"]});
    std::fs::write(&path, document.to_string()).unwrap();
    let seen = c
        .on(&["exec", "--process", path.to_str().unwrap()], &[])
        .ok();
    assert_eq!(seen, "b\n0\nCapEff:\t0000000020000420\n");
    std::fs::write(&path, "{").unwrap();
    assert_eq!(
        c.on(&["exec", "-p", path.to_str().unwrap()], &[]).code,
        Some(255)
    );
}

#[test]
fn seccomp_limits_and_scheduling_hold_for_exec_too() {
    let c = Bundle::running("limits", |c| {
        c["process"]["rlimits"] = json!([{"type": "RLIMIT_CORE", "soft": 1, "hard": 2}]);
        c["process"]["execCPUAffinity"] = json!({"initial": "0-1", "final": "1"});
        c["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["getcwd"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5}]});
        c["process"]["noNewPrivileges"] = json!(false);
    });
    let seen = c.sh(&[], "grep core /proc/self/limits; grep -E '^(Cpus_allowed_list|Seccomp|NoNew)' /proc/self/status; pwd -P; true").ok();
    let words: Vec<&str> = seen.split_whitespace().collect();
    assert!(seen.contains("Seccomp:\t2"), "{seen}");
    assert!(seen.contains("NoNewPrivs:\t0"), "{seen}");
    assert!(seen.contains("Cpus_allowed_list:\t1\n"), "{seen}");
    assert_eq!(words[4..6], ["1", "2"]);
}

#[test]
fn a_working_directory_outside_is_refused() {
    let c = Bundle::running("cwd", |_| {});
    for fd in 0..12 {
        let output = c.sh(&["--cwd", &format!("/proc/self/fd/{fd}")], "pwd; ls");
        assert_eq!(output.code, Some(255), "{fd}: {output:?}");
    }
    let mut command = c.command(&[
        "exec",
        "--preserve-fds",
        "1",
        "--cwd",
        "/proc/self/fd/3",
        &c.id,
        "pwd",
    ]);
    // The shell passes a directory of the host as descriptor 3.
    let words: Vec<String> = command
        .get_args()
        .map(|a| format!("'{}'", a.to_str().unwrap()))
        .collect();
    command = std::process::Command::new("sh");
    command
        .arg("-c")
        .arg(format!("exec {} {} 3</", common::HULL, words.join(" ")));
    let output = finish(command);
    assert!(
        output
            .stderr
            .contains("outside of container mount namespace root"),
        "{output:?}"
    );
}

#[test]
fn only_the_descriptors_asked_for_are_passed_on() {
    let c = Bundle::running("fds", |_| {});
    let run = |options: &str, redirections: &str| {
        let mut command = std::process::Command::new("sh");
        let state = c.file("state");
        let script = format!(
            "exec {} --root {} exec {options} {} sh -c 'cd /proc/self/fd; echo *' {redirections}",
            common::HULL,
            state.display(),
            c.id
        );
        command.arg("-c").arg(script).stdin(Stdio::null());
        finish(command)
    };
    // The shell itself has the directory open while it expands the star.
    let list = |text: String| {
        text.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        list(run("", "3</dev/null 4</dev/null 9</dev/null").ok()),
        ["0", "1", "2", "3"]
    );
    let passed = run("--preserve-fds 2", "3</dev/null 4</dev/null 9</dev/null").ok();
    assert_eq!(list(passed), ["0", "1", "2", "3", "4", "5"]);
    let missing = run("--preserve-fds 2", "3</dev/null");
    assert_eq!(missing.code, Some(255), "{missing:?}");
}

#[test]
fn detached_with_a_pid_file() {
    let c = Bundle::running("detached", |_| {});
    let file = c.file("pid");
    c.on(
        &["exec", "-d", "--pid-file", file.to_str().unwrap()],
        &["sleep", "1000"],
    )
    .ok();
    let pid: i32 = std::fs::read_to_string(&file).unwrap().parse().unwrap();
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
    assert_eq!(name, "sleep\n");
    let pids: Vec<i32> = serde_json::from_str(&c.on(&["ps", "-f", "json"], &[]).ok()).unwrap();
    let mut both = vec![c.pid(), pid];
    both.sort_unstable();
    assert_eq!(pids, both);
}

#[test]
fn a_pidfd_is_sent() {
    let c = Bundle::running("pidfd", |_| {});
    let path = c.file("socket");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    c.on(
        &["exec", "-d", "--pidfd-socket", path.to_str().unwrap()],
        &["sleep", "1000"],
    )
    .ok();
    let (stream, _) = listener.accept().unwrap();
    let (_, pidfd) = runtime::console::receive_fd(&stream).unwrap().unwrap();
    sys::pidfd::send_signal(&pidfd, 9).unwrap();
    wait_until("the end of the process", || {
        let pids: Vec<i32> = serde_json::from_str(&c.on(&["ps", "-f", "json"], &[]).ok()).unwrap();
        (pids == [c.pid()]).then_some(())
    });
}

#[test]
fn signals_reach_the_command() {
    let c = Bundle::running("signals", |_| {});
    let script = "trap 'exit 42' TERM; echo ready; while :; do sleep 0.05; done";
    let mut command = c.command(&["exec", &c.id, "sh", "-c", script]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 6];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut first).unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(end_of(&mut child), Some(42));
}

#[test]
fn a_paused_or_stopped_container_is_refused() {
    let c = Bundle::running("states", |_| {});
    c.on(&["pause"], &[]).ok();
    let output = c.sh(&[], "true");
    assert!(
        output.stderr.contains("cannot exec in a paused container"),
        "{output:?}"
    );
    // What is started nonetheless goes on with the rest.
    let mut waiting = c
        .command(&["exec", "--ignore-paused", &c.id, "true"])
        .spawn()
        .unwrap();
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert!(waiting.try_wait().unwrap().is_none());
    c.on(&["resume"], &[]).ok();
    assert_eq!(end_of(&mut waiting), Some(0));
    c.on(&["kill"], &["KILL"]).ok();
    wait_until("the end of the container", || {
        let state: Value = serde_json::from_str(&c.on(&["state"], &[]).ok()).unwrap();
        (state["status"] == "stopped").then_some(())
    });
    let output = c.sh(&[], "true");
    assert!(
        output.stderr.contains("cannot exec in a stopped container"),
        "{output:?}"
    );
    let output = c.hull(&["exec", "hull-test-none", "true"]);
    assert!(output.stderr.contains("does not exist"), "{output:?}");
    assert_eq!(output.code, Some(255));
}

#[test]
fn below_the_containers_own_group() {
    let c = Bundle::running("subgroup", |_| {});
    let pids = common::cgroups(&c.id);
    for dir in &pids {
        std::fs::create_dir(dir.join("sub")).unwrap();
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if let Ok(value) = std::fs::read(dir.join(file)) {
                std::fs::write(dir.join("sub").join(file), value).unwrap();
            }
        }
    }
    let seen = c
        .on(&["exec", "--cgroup", "sub"], &["cat", "/proc/self/cgroup"])
        .ok();
    assert!(seen.lines().all(|l| l.ends_with("/sub")), "{seen}");
    let seen = c
        .on(
            &["exec", "--cgroup", "pids:sub"],
            &["cat", "/proc/self/cgroup"],
        )
        .ok();
    let below = seen.lines().filter(|l| l.ends_with("/sub")).count();
    assert_eq!(below, 1, "{seen}");
    let output = c.on(&["exec", "--cgroup", "none"], &["true"]);
    assert!(
        output.stderr.contains("no such file or directory"),
        "{output:?}"
    );
}

#[test]
fn a_user_without_rights_execs_in_a_container_of_its_own() {
    let dir = std::env::temp_dir().join(format!("hull-test-rootless-{}", std::process::id()));
    let c = Bundle::new("rootless", |_| {});
    std::fs::create_dir_all(dir.join("run")).unwrap();
    std::fs::copy(common::HULL, dir.join("hull")).unwrap();
    std::fs::rename(c.file("rootfs"), dir.join("rootfs")).unwrap();
    let mut config = serde_json::to_value(spec::default_spec(true)).unwrap();
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["sleep", "1000"]);
    config["process"]["rlimits"] = json!([]);
    for map in ["uidMappings", "gidMappings"] {
        config["linux"][map][0]["hostID"] = json!(4321);
    }
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
    let script = format!(
        "cd {} && export XDG_RUNTIME_DIR=$PWD/run && id={} && ./hull run -d $id </dev/null >/dev/null &&
         ./hull exec $id sh -c 'id -u; cat /proc/self/uid_map; ps; exit 6'; echo code $?
         ./hull exec -t $id tty </dev/null; ./hull delete -f $id; ./hull list -q",
        dir.display(),
        c.id
    );
    let mut command = std::process::Command::new("sh");
    command.arg("-c").arg(format!(
        "chown -R 4321:4321 {} && exec setpriv --reuid 4321 --regid 4321 --clear-groups sh -c \"$0\"",
        dir.display()
    ));
    command.arg(script).stdin(Stdio::null());
    let output = finish(command);
    std::fs::remove_dir_all(&dir).unwrap();
    let seen = output.stdout;
    assert!(
        seen.starts_with("0\n         0       4321          1\n"),
        "{seen} {}",
        output.stderr
    );
    assert!(seen.contains("sleep 1000\n"), "{seen}");
    assert!(
        seen.ends_with("code 6\n/dev/pts/0\r\n"),
        "{seen:?} {}",
        output.stderr
    );
}
