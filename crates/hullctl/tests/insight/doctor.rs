//! What is missing is said; what dead containers left is found and removed.

use std::fs;
use std::process::Stdio;

use serde_json::json;

use crate::support::{Killed, Place, eventually, hullctl};

#[test]
fn a_healthy_machine() {
    let place = Place::new("healthy");
    let report = place.json("doctor", &[]);
    let machine = report["machine"].as_array().unwrap();
    for what in [
        "mount namespace",
        "openat2",
        "seccomp filters",
        "controller memory",
    ] {
        let probe = machine.iter().find(|p| p["what"] == what).unwrap();
        assert_eq!(probe["works"], json!(true), "{probe}");
    }
    let text = String::from_utf8(place.ask("doctor", &[]).stdout).unwrap();
    assert!(text.contains("WHAT HULL DOES"), "{text}");
}

#[test]
fn an_older_kernel() {
    let mut command = hullctl();
    command.env(
        "HULL_FAKE_ENOSYS",
        "fsopen,openat2,clone3,mount_setattr,pidfd_open",
    );
    let out = command
        .args(["doctor", "--format", "json"])
        .output()
        .unwrap();
    let report: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    for what in [
        "fsopen, fsmount",
        "openat2",
        "clone3",
        "mount_setattr",
        "pidfd_open",
    ] {
        let probes = report["machine"].as_array().unwrap();
        let probe = probes.iter().find(|p| p["what"] == what).unwrap();
        assert_eq!(probe["works"], json!(false), "{probe}");
        assert!(!probe["consequence"].as_str().unwrap().is_empty());
    }
}

#[test]
fn a_group_that_was_left() {
    let place = Place::new("left");
    let id = place.id("gone");
    let group = format!("/{}", place.token);
    let bundle = place.bundle("gone", "exit 0", |spec| {
        spec["linux"]["cgroupsPath"] = json!(group);
    });
    assert!(place.run(&id, &bundle).status.success());
    assert_eq!(place.ask("doctor", &[]).status.code(), Some(0));
    // As if a delete had been killed between the groups and the record, the other way round.
    let top = ["/sys/fs/cgroup/memory", "/sys/fs/cgroup"].map(std::path::Path::new);
    let top = top
        .into_iter()
        .find(|t| t.join("cgroup.procs").exists())
        .unwrap();
    let left = top.join(group.trim_start_matches('/'));
    fs::create_dir_all(&left).unwrap();
    let mut child = Killed(
        std::process::Command::new("sleep")
            .arg("1000")
            .stdin(Stdio::null())
            .spawn()
            .unwrap(),
    );
    fs::write(left.join("cgroup.procs"), child.0.id().to_string()).unwrap();
    let found = place.ask("doctor", &[]);
    let refused = place.ask("doctor", &["--fix"]);
    child.0.kill().unwrap();
    child.0.wait().unwrap();
    let fixed = eventually("an empty group", || {
        let out = place.ask("doctor", &["--fix"]);
        out.status.success().then_some(out)
    });
    let gone = !left.exists();
    let _ = fs::remove_dir(&left);
    let text = |o: &std::process::Output| String::from_utf8_lossy(&o.stdout).into_owned();
    assert_eq!(found.status.code(), Some(1), "{}", text(&found));
    assert!(
        text(&found).contains(&format!("of {id}: the container was deleted")),
        "{}",
        text(&found)
    );
    assert!(
        text(&refused).contains("is still in it; end it first"),
        "{}",
        text(&refused)
    );
    assert!(
        gone && text(&fixed).contains("removed: "),
        "{}",
        text(&fixed)
    );
}

#[test]
fn a_create_that_was_killed() {
    let place = Place::new("abandoned");
    let id = place.id("half");
    let bundle = place.bundle("half", "exit 0", |_| {});
    assert!(place.run(&id, &bundle).status.success());
    // The remembered record, put back as that of a creator that has died.
    let ended = fs::read_dir(place.root().join("@ended"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    let path = ended.path().join("state.json");
    let mut record: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    record["creator"] = json!({ "pid": 1, "startTime": 0 });
    fs::write(&path, record.to_string()).unwrap();
    fs::rename(ended.path(), place.root().join(&id)).unwrap();
    let found = place.ask("doctor", &[]);
    assert_eq!(found.status.code(), Some(1), "{found:?}");
    assert!(
        String::from_utf8_lossy(&found.stdout).contains("killed half-way"),
        "{found:?}"
    );
    let fixed = place.ask("doctor", &["--fix"]);
    assert_eq!(fixed.status.code(), Some(0), "{fixed:?}");
    assert!(!place.root().join(&id).exists());
}
