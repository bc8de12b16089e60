//! What criu is asked for a restore, and what hull makes of its answers. The process that was
//! restored, as the one who plays says, is that of another container.

use serde_json::{Value, json};

use crate::common::{self, Bundle, finish};
use crate::played::{Criu, RESTORE, failed, notification, restored, version, word};

/// A bundle with an image that a dump may have left, not running.
fn saved(name: &str, streams: &Value, change: impl FnOnce(&mut Value)) -> Bundle {
    let c = Bundle::new(name, change);
    std::fs::create_dir(c.file("image")).unwrap();
    std::fs::write(c.file("image/descriptors.json"), streams.to_string()).unwrap();
    c
}

fn restore<'a>(c: &'a Bundle, image: &'a str, options: &[&'a str]) -> Vec<&'a str> {
    let words = ["restore", "-d", "--image-path", image, "-b", c.path()];
    [&words, options, &[c.id.as_str()]].concat()
}

/// Answers of a restore in which all goes well.
fn all_is_well(pid: i32) -> Vec<crate::played::Message> {
    vec![
        version(4, 2),
        notification("setup-namespaces", pid),
        notification("post-restore", pid),
        notification("pre-resume", pid),
        restored(pid),
    ]
}

pub fn nothing_is_left(c: &Bundle) {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&c.id), "a mount is left");
    assert!(!c.file("state").join(&c.id).exists(), "state is left");
    assert_eq!(common::cgroups(&c.id).len(), 0, "a cgroup is left");
}

/// Numbers of images/rpc.proto.
#[test]
fn a_container_is_what_criu_restored() {
    let twin = Bundle::running("cr-twin", |_| {});
    let streams = json!(["/dev/null", "pipe:[77]", "file[1a:2b]"]);
    let c = saved("cr-restored", &streams, |c| {
        let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", "cat > \"$OUT\""],
            "env": [format!("OUT={}", std::env::temp_dir().join(
                format!("hull-test-cr-hook-{}", std::process::id())).display())]});
        c["hooks"] = json!({"createRuntime": [hook]});
        let spaces = c["linux"]["namespaces"].as_array_mut().unwrap();
        for space in spaces {
            if let Some(name) = ["ipc", "uts"].into_iter().find(|n| space["type"] == **n) {
                space["path"] = json!(format!("/proc/{}/ns/{name}", std::process::id()));
            }
        }
    });
    let criu = Criu::plays(&c, &all_is_well(twin.pid()));
    let (image, pid_file) = (c.file("image"), c.file("pid"));
    let options = [
        "--pid-file",
        word(&pid_file),
        "--tcp-established",
        "--manage-cgroups-mode",
        "ignore",
        "--lsm-profile",
        "apparmor:there",
    ];
    criu.hull(&c, &restore(&c, word(&image), &options)).ok();
    assert_eq!(c.pid(), twin.pid());
    let written = std::fs::read_to_string(&pid_file).unwrap();
    assert_eq!(written, twin.pid().to_string());
    let state: Value = serde_json::from_str(&c.on(&["state"], &[]).ok()).unwrap();
    assert_eq!(state["status"], "running");

    assert_eq!(criu.asked(1).get(1), Some(RESTORE));
    let asked = criu.asked(1).messages(2).remove(0);
    for switch in [5, 6, 12, 24, 26, 50] {
        assert_eq!(asked.get(switch), Some(1), "{switch}");
    }
    assert_eq!((asked.get(34), asked.get(38)), (Some(0), Some(0x4000_0000)));
    assert_eq!(asked.texts(10), ["restore.log"]);
    assert_eq!(asked.texts(53), ["apparmor:there"]);
    assert!(asked.texts(13).remove(0).ends_with("/criu-root"));
    let streams = asked.messages(27);
    let key = |n: usize| (streams[n].texts(1).remove(0), streams[n].get(2));
    assert_eq!(key(0), ("pipe:[77]".to_owned(), Some(1)));
    assert_eq!(key(1), ("file[1a:2b]".to_owned(), Some(2)));
    let joined: Vec<String> = asked.pairs(39).into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(joined, ["ipc", "uts"]);
    let roots = asked.pairs(25);
    assert!(!roots.is_empty());
    assert!(
        roots.iter().all(|(_, path)| path.ends_with(&c.id)),
        "{roots:?}"
    );
    for n in 2..5 {
        assert_eq!(criu.asked(n).get(3), Some(1), "acknowledgement {n}");
    }
    let hook = std::env::temp_dir().join(format!("hull-test-cr-hook-{}", std::process::id()));
    let told: Value = serde_json::from_slice(&std::fs::read(&hook).unwrap()).unwrap();
    std::fs::remove_file(hook).unwrap();
    assert_eq!(
        (&told["status"], &told["pid"]),
        (&json!("creating"), &json!(twin.pid()))
    );
}

/// An image can come from anywhere: what it holds must not run with more than was configured.
#[test]
fn rights_that_nobody_gave_are_refused() {
    let change = |c: &mut Value| {
        for set in ["bounding", "effective", "permitted"] {
            c["process"]["capabilities"][set] = json!(["CAP_KILL", "CAP_SYS_PTRACE"]);
        }
    };
    let twin = Bundle::running("cr-strong", change);
    let c = saved("cr-weak", &json!(["", "", ""]), |_| {});
    let criu = Criu::plays(&c, &all_is_well(twin.pid()));
    let output = criu.hull(&c, &restore(&c, word(&c.file("image")), &[]));
    assert_eq!(output.code, Some(1));
    let text = "has CAP_SYS_PTRACE (CapBnd), which the configuration does not allow";
    assert!(output.stderr.contains(text), "{output:?}");
    // Killed before its tasks go on, since criu would let them.
    common::wait_until("the end of the process", || {
        let state = twin.on(&["state"], &[]).ok();
        state.contains("\"stopped\"").then_some(())
    });
    nothing_is_left(&c);
}

#[test]
fn a_failure_leaves_nothing() {
    let c = saved("cr-unrestored", &json!(["", "", ""]), |_| {});
    std::fs::write(
        c.file("image/restore.log"),
        "(00.1) Error (a.c:1): no core-1.img\n",
    )
    .unwrap();
    let answers = [version(4, 2), failed(RESTORE, "")];
    let criu = Criu::plays(&c, &answers);
    let output = criu.hull(&c, &restore(&c, word(&c.file("image")), &[]));
    assert_eq!(output.code, Some(1));
    let text = "criu 4.2 failed: no core-1.img (log file: ";
    assert!(output.stderr.contains(text), "{output:?}");
    assert_eq!(output.stderr.lines().count(), 1, "{output:?}");
    nothing_is_left(&c);
    let words = restore(&c, "/none", &[]);
    let mut none = c.command(&words);
    none.env("PATH", "/nowhere");
    let output = finish(none);
    assert!(output.stderr.contains("criu is not in PATH"), "{output:?}");
    nothing_is_left(&c);
}

#[test]
fn a_cgroup_namespace_cannot_be_joined() {
    let c = saved("cr-join", &json!(["", "", ""]), |c| {
        let path = format!("/proc/{}/ns/cgroup", std::process::id());
        let spaces = c["linux"]["namespaces"].as_array_mut().unwrap();
        spaces.retain(|space| space["type"] != "cgroup");
        spaces.push(json!({"type": "cgroup", "path": path}));
    });
    let criu = Criu::plays(&c, &[version(4, 2)]);
    let output = criu.hull(&c, &restore(&c, word(&c.file("image")), &[]));
    let text = "criu cannot restore into the cgroup namespace /proc/";
    assert!(output.stderr.contains(text), "{output:?}");
    assert_eq!(criu.count(), 1);
    nothing_is_left(&c);
}
