//! Sandbox and containers from their making to their end.

use std::time::Duration;

use supervise::protocol::{Kind, Oom, Phase, What};

use crate::support::{Pod, is_alive, sandbox};

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
