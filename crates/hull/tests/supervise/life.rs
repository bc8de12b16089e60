//! Sandbox and containers from their making to their end.

use std::time::Duration;

use supervise::protocol::{Kind, Oom, Phase, What};

use crate::support::{Pod, is_alive, sandbox, wait_until};

#[test]
fn a_pod_lives_and_dies() {
    let mut pod = Pod::new("life");
    let create = sandbox(&pod);
    let (pid, parts) = pod.create(create);
    assert_eq!(parts.len(), 1, "a sandbox is its pidfd");
    let cmdline = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    assert_eq!(cmdline, "/pause\0");
    let exit = pod.run_to_end("c", "echo out; echo err >&2; exit 3");
    assert_eq!(exit.ended.code, Some(3));
    assert_eq!((exit.oom, exit.reason.as_str()), (Oom::None, "Error"));
    assert_eq!(pod.text("c", "stdout"), "out\n");
    assert_eq!(pod.text("c", "stderr"), "err\n");
    let status = pod.status("c");
    assert_eq!((status.phase, status.exit), (Phase::Exited, Some(exit)));
    pod.stop("sandbox", 9, Duration::ZERO);
    let exit = pod.exit("sandbox");
    assert_eq!(exit.ended.signal, Some(9));
    assert_eq!(exit.killed_by.as_deref(), Some("test: signal 9"));
    assert!(!is_alive(pid));
    let id = pod.id("sandbox");
    pod.client.delete(&id, false).unwrap();
    assert!(matches!(pod.event().what, What::Deleted));
    // Once more is no error; neither is one that never was.
    pod.client.delete(&id, false).unwrap();
}

#[test]
fn what_cannot_be_started_says_why() {
    let mut pod = Pod::new("start");
    let missing = pod.bundle("missing", |c| {
        c["process"]["args"] = serde_json::json!(["/no/such"]);
    });
    let e = pod.client.create(missing).unwrap_err();
    assert_eq!(e.kind(), Kind::Program);
    assert!(e.to_string().contains("no such file"), "{e}");
    let rootfs = pod.dir.join("rootfs/bin/script");
    std::fs::write(&rootfs, "#!/no/interpreter\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&rootfs, mode).unwrap();
    let script = pod.bundle("script", |c| {
        c["process"]["args"] = serde_json::json!(["/bin/script"]);
    });
    let id = script.id.clone();
    pod.create(script);
    let e = pod.client.start(&id).unwrap_err();
    assert_eq!(e.kind(), Kind::Program, "{e}");
    assert!(e.to_string().contains("/no/interpreter"), "{e}");
    let exit = pod.exit("script");
    assert_eq!(exit.reason, "StartError");
    assert!(exit.ended.note.unwrap().contains("/no/interpreter"));
}

#[test]
fn containers_hold_nothing_of_the_supervisors_or_of_each_other() {
    let mut pod = Pod::new("held");
    let first = pod.script("a", "sleep 1000");
    let first = supervise::protocol::Create {
        stdin: supervise::protocol::Stdin::Open,
        ..first
    };
    pod.run(first);
    let second = pod.script("b", "ls /proc/self/fd");
    let id = second.id.clone();
    let (pid, _) = pod.create(second);
    // One that waits to be started is still our program.
    let mut pipes = 0;
    let mut others = Vec::new();
    for fd in std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
        let target = std::fs::read_link(fd.unwrap().path()).unwrap();
        let target = target.to_string_lossy().into_owned();
        match target.split(':').next().unwrap() {
            "pipe" => pipes += 1,
            "/dev/null" | "socket" => {}
            _ => others.push(target),
        }
    }
    assert_eq!((pipes, others), (2, Vec::<String>::new()));
    pod.client.start(&id).unwrap();
    pod.exit("b");
    // The last one is of ls itself.
    assert_eq!(pod.text("b", "stdout"), "0\n1\n2\n3\n");
    let wish = supervise::protocol::ExecSync {
        id: pod.id("a"),
        args: ["ls", "/proc/self/fd"].map(str::to_owned).to_vec(),
        ..supervise::protocol::ExecSync::default()
    };
    let got = pod.client.exec_sync(wish).unwrap();
    assert_eq!(got.stdout, b"0\n1\n2\n3\n");
}

#[test]
fn a_supervisor_outlives_its_daemon() {
    let mut pod = Pod::new("orphan");
    let create = pod.script("c", "read x; echo late; exit 2");
    let create = supervise::protocol::Create {
        stdin: supervise::protocol::Stdin::Once,
        ..create
    };
    let id = create.id.clone();
    pod.run(create);
    let wish = supervise::protocol::Attach {
        id,
        stdin: true,
        stdout: false,
        stderr: false,
    };
    let parts = pod.client.attach(wish).unwrap();
    // The daemon dies: all its connections and descriptors go, the input's end among them.
    let dir = pod.pod_dir();
    drop(parts);
    pod.client = supervise::Client::connect(&dir).unwrap();
    pod.events = supervise::Client::connect(&dir).unwrap();
    wait_until("its end", || pod.status("c").exit);
    assert_eq!(pod.text("c", "stdout"), "late\n");
    // What happened meanwhile waits to be fetched.
    pod.events.subscribe(0).unwrap();
    assert_eq!(pod.exit("c").ended.code, Some(2));
}
