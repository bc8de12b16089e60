//! A real version 2 kernel with its controllers. The host of the first test ground has version
//! 1; the VM's suite runs this on version 2. A controller that is missing there is not tested.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test"
)]

mod common;

use cgroup::{ErrorKind, Mode, OomEvent};
use common::Fixture;
use spec::oci::Resources;

fn resources(json: &str) -> Resources {
    serde_json::from_str(json).unwrap()
}

/// The controllers, on a version 2 machine.
fn controllers() -> Option<Vec<String>> {
    let layout = cgroup::Layout::detect().unwrap();
    let tree = layout.unified.filter(|_| layout.mode == Mode::V2)?;
    let text = common::read(&tree.mountpoint.join("cgroup.controllers"));
    Some(text.split(' ').map(str::to_owned).collect())
}

/// Controller, resources, and what a file of the group says afterwards; in this order.
const LIMITS: &[(&str, &str, &str, &str)] = &[
    (
        "memory",
        r#"{"memory":{"limit":67108864,"swap":134217728}}"#,
        "memory.max",
        "67108864",
    ),
    (
        "memory",
        r#"{"memory":{"reservation":33554432}}"#,
        "memory.low",
        "33554432",
    ),
    ("memory", r#"{"memory":{"limit":-1}}"#, "memory.max", "max"),
    (
        "memory",
        r#"{"unified":{"memory.high":"62914560"}}"#,
        "memory.high",
        "62914560",
    ),
    ("cpu", r#"{"cpu":{"shares":512}}"#, "cpu.weight", "59"),
    (
        "cpu",
        r#"{"cpu":{"quota":50000,"period":200000}}"#,
        "cpu.max",
        "50000 200000",
    ),
    (
        "cpu",
        r#"{"cpu":{"period":100000}}"#,
        "cpu.max",
        "50000 100000",
    ),
    ("cpu", r#"{"cpu":{"quota":-1}}"#, "cpu.max", "max 100000"),
    ("cpu", r#"{"cpu":{"idle":1,"shares":512}}"#, "cpu.idle", "1"),
    (
        "cpu",
        r#"{"cpu":{"idle":0,"shares":1024}}"#,
        "cpu.weight",
        "100",
    ),
    (
        "cpu",
        r#"{"cpu":{"quota":40000,"burst":30000}}"#,
        "cpu.max.burst",
        "30000",
    ),
    (
        "cpu",
        r#"{"cpu":{"quota":20000,"burst":10000}}"#,
        "cpu.max.burst",
        "10000",
    ),
    ("pids", r#"{"pids":{"limit":0}}"#, "pids.max", "0"),
    ("pids", r#"{"pids":{"limit":-1}}"#, "pids.max", "max"),
    (
        "cpuset",
        r#"{"cpu":{"cpus":"0","mems":"0"}}"#,
        "cpuset.cpus",
        "0",
    ),
];

#[test]
fn limits_reach_the_files() {
    let Some(have) = controllers() else { return };
    let f = Fixture::new();
    for (controller, json, file, want) in LIMITS {
        if have.iter().any(|c| c == controller) {
            f.manager.apply(&resources(json)).unwrap();
            assert_eq!(&f.read("", file), want, "{json}");
        }
    }
}

#[test]
fn the_oom_killer_is_seen_and_counted() {
    let Some(have) = controllers() else { return };
    if !have.iter().any(|c| c == "memory") {
        return;
    }
    let f = Fixture::new();
    let limit = r#"{"memory":{"limit":8388608,"swap":8388608}}"#;
    f.manager.apply(&resources(limit)).unwrap();
    let mut watch = f.manager.watch_oom().unwrap();
    let procs = f.dir("").join("cgroup.procs");
    let hog = format!("echo $$ > {procs:?}; exec dd if=/dev/zero of=/dev/null bs=64M");
    let status = std::process::Command::new("sh").args(["-c", &hog]).status();
    assert!(!status.unwrap().success());
    assert_eq!(f.manager.oom_kills().unwrap(), Some(1));
    common::wait_readable(&watch);
    assert_eq!(watch.take().unwrap(), OomEvent::Oom);
    let stats = f.manager.stats().unwrap();
    assert!(stats.memory.usage.failcnt > 0);
    assert_eq!(stats.memory.usage.limit, 8 << 20);
}

#[test]
fn a_limit_below_the_usage_is_refused_when_asked() {
    let Some(have) = controllers() else { return };
    if !have.iter().any(|c| c == "memory") {
        return;
    }
    let f = Fixture::new();
    let _child = f.sleeper();
    // A child of ours has some memory of its own.
    let procs = f.dir("").join("cgroup.procs");
    let mut shell = std::process::Command::new("sh")
        .args(["-c", &format!("echo $$ > {procs:?}; echo ready; read x")])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut byte = [0];
    std::io::Read::read_exact(shell.stdout.as_mut().unwrap(), &mut byte).unwrap();
    let json = r#"{"memory":{"limit":4096,"checkBeforeUpdate":true}}"#;
    let e = f.manager.apply(&resources(json)).unwrap_err();
    assert!(e.to_string().contains("below the current usage"), "{e}");
    assert_eq!(f.read("", "memory.max"), "max");
    drop(shell.stdin.take());
    shell.wait().unwrap();
}

#[test]
fn statistics_are_read() {
    if controllers().is_none() {
        return;
    }
    let f = Fixture::new();
    let _child = f.sleeper();
    let stats = f.manager.stats().unwrap();
    assert_eq!(stats.pids.current, 1);
    assert!(stats.memory.raw.contains_key("anon"));
}

#[test]
fn a_threaded_place_is_refused() {
    if controllers().is_none() {
        return;
    }
    let parent = Fixture::new();
    let below = parent.dir("").join("threads");
    std::fs::create_dir(&below).unwrap();
    std::fs::write(below.join("cgroup.type"), "threaded").unwrap();
    let root = parent.dir("").parent().unwrap().to_owned();
    let mut inside = common::v2_manager(&root, &below.join("c1"));
    let e = inside.create().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Occupied);
    assert!(
        e.to_string().contains("a container needs a domain cgroup"),
        "{e}"
    );
    assert!(!below.join("c1").exists());
}

#[test]
fn a_parent_with_processes_cannot_hand_down() {
    let Some(have) = controllers() else { return };
    if !have.iter().any(|c| c == "memory") {
        return;
    }
    let parent = Fixture::new();
    let _child = parent.sleeper();
    let root = parent.dir("").parent().unwrap().to_owned();
    let mut inside = common::v2_manager(&root, &parent.dir("").join("c1"));
    inside.create().unwrap();
    inside.apply(&Resources::default()).unwrap();
    let e = inside
        .apply(&resources(r#"{"memory":{"limit":1048576}}"#))
        .unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Invalid);
    assert!(
        e.to_string()
            .contains("the cgroup has processes of its own"),
        "{e}"
    );
    inside.delete().unwrap();
}

#[test]
fn delegated_files_change_hands() {
    use std::os::unix::fs::MetadataExt;
    if controllers().is_none() {
        return;
    }
    let f = Fixture::new();
    f.manager.delegate(4242).unwrap();
    let uid = |file: &str| std::fs::metadata(f.dir("").join(file)).unwrap().uid();
    for file in [
        "",
        "cgroup.procs",
        "cgroup.subtree_control",
        "cgroup.threads",
    ] {
        assert_eq!(uid(file), 4242, "{file}");
    }
    assert_eq!(uid("cgroup.max.depth"), 0);
}
