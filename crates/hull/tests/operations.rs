//! `hull pause`, `resume`, `ps`, `update` and `events` on a running container.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod common;

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::Stdio;

use common::{Bundle, cgroups, end_of, finish, wait_until};
use serde_json::{Value, json};

fn status(c: &Bundle) -> String {
    let state: Value = serde_json::from_str(&c.on(&["state"], &[]).ok()).unwrap();
    state["status"].as_str().unwrap().to_owned()
}

/// The container's directory that has this file.
fn group(c: &Bundle, file: &str) -> PathBuf {
    let mut all = cgroups(&c.id).into_iter();
    all.find(|dir| dir.join(file).exists()).unwrap()
}

fn value(c: &Bundle, file: &str) -> String {
    let text = std::fs::read_to_string(group(c, file).join(file)).unwrap();
    text.trim().to_owned()
}

#[test]
fn pause_stops_time_and_resume_starts_it() {
    let c = Bundle::running("pause", |c| {
        c["process"]["args"] = json!([
            "sh",
            "-c",
            "while :; do echo >>/tmp/ticks; sleep 0.01; done"
        ]);
        c["root"]["readonly"] = json!(false);
    });
    let ticks = || std::fs::read(c.file("rootfs/tmp/ticks")).map_or(0, |t| t.len());
    wait_until("the first tick", || (ticks() > 0).then_some(()));
    c.on(&["pause"], &[]).ok();
    assert_eq!(status(&c), "paused");
    let before = ticks();
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert_eq!(ticks(), before);
    let again = c.on(&["pause"], &[]);
    assert_eq!(
        (again.code, again.stderr.as_str()),
        (Some(1), "hull: container not running\n")
    );
    c.on(&["resume"], &[]).ok();
    assert_eq!(status(&c), "running");
    wait_until("another tick", || (ticks() > before).then_some(()));
    let again = c.on(&["resume"], &[]);
    assert_eq!(
        (again.code, again.stderr.as_str()),
        (Some(1), "hull: container not paused\n")
    );
}

#[test]
fn a_created_container_can_be_paused() {
    let c = Bundle::new("created", |_| {});
    c.hull(&["create", "-b", c.path(), &c.id]).ok();
    c.on(&["pause"], &[]).ok();
    c.on(&["resume"], &[]).ok();
    c.on(&["start"], &[]).ok();
    assert_eq!(status(&c), "running");
}

#[test]
fn ps_shows_the_containers_processes_only() {
    let c = Bundle::running("ps", |_| {});
    c.on(&["exec", "-d"], &["sleep", "1001"]).ok();
    let pids: Vec<i32> =
        serde_json::from_str(&c.on(&["ps", "--format", "json"], &[]).ok()).unwrap();
    assert_eq!(pids.len(), 2);
    assert!(pids.contains(&c.pid()));
    let table = c.on(&["ps"], &[]).ok();
    assert!(table.starts_with("UID "), "{table}");
    assert_eq!(table.lines().count(), 3, "{table}");
    let table = c.on(&["ps"], &["-o", "pid,args"]).ok();
    assert!(table.contains("sleep 1001"), "{table}");
    let output = c.on(&["ps"], &["-o", "comm"]);
    assert_eq!(
        output.stderr,
        "hull: couldn't find PID field in ps output\n"
    );
}

#[test]
fn limits_change_and_the_others_stay() {
    let c = Bundle::running("update", |c| {
        c["linux"]["resources"] = json!({
            "memory": {"limit": 100 << 20}, "pids": {"limit": 50},
            "cpu": {"shares": 512, "quota": 40_000, "period": 100_000},
            "devices": [{"allow": false, "access": "rwm"}]});
    });
    let devices = value(&c, "devices.list");
    c.on(&["update", "--memory", "64M", "--cpu-quota", "30000"], &[])
        .ok();
    assert_eq!(value(&c, "memory.limit_in_bytes"), (64 << 20).to_string());
    assert_eq!(value(&c, "cpu.cfs_quota_us"), "30000");
    assert_eq!(value(&c, "cpu.cfs_period_us"), "100000");
    assert_eq!(value(&c, "cpu.shares"), "512");
    assert_eq!(value(&c, "pids.max"), "50");
    c.on(&["update", "--pids-limit", "20", "--cpuset-cpus", "0"], &[])
        .ok();
    assert_eq!(
        (value(&c, "pids.max"), value(&c, "cpuset.cpus")),
        ("20".into(), "0".into())
    );
    // A document, as containerd sends it; device rules in it change nothing.
    let path = c.file("resources.json");
    let document =
        json!({"memory": {"limit": 80 << 20}, "devices": [{"allow": true, "access": "rwm"}]});
    std::fs::write(&path, document.to_string()).unwrap();
    let mut command = c.command(&["update", "--resources=-", &c.id]);
    command.stdin(std::fs::File::open(&path).unwrap());
    finish(command).ok();
    assert_eq!(value(&c, "memory.limit_in_bytes"), (80 << 20).to_string());
    c.on(&["update", "-r", path.to_str().unwrap()], &[]).ok();
    assert_eq!(value(&c, "devices.list"), devices);
}

#[test]
fn what_cannot_be_set_is_told() {
    let c = Bundle::running("badupdate", |_| {});
    let table = [
        (
            "--memory abc",
            "invalid value for memory: invalid size: \"abc\"",
        ),
        ("--cpu-period 5", "period"),
        ("--blkio-weight 5", "weight"),
        ("--l3-cache-schema L3:0=f", "intelRdt is asked for"),
        ("-r /none", "no such file or directory"),
    ];
    for (words, text) in table {
        let words: Vec<&str> = ["update"].into_iter().chain(words.split(' ')).collect();
        let output = c.on(&words, &[]);
        assert_eq!(output.code, Some(1), "{words:?}");
        assert!(output.stderr.contains(text), "{output:?}");
        assert_eq!(output.stderr.lines().count(), 1, "{output:?}");
    }
}

#[test]
fn statistics_have_runcs_shape() {
    let c = Bundle::running("stats", |_| {});
    let text = c.on(&["events", "--stats"], &[]).ok();
    assert_eq!(text.lines().count(), 1);
    let event: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&event["type"], &event["id"]),
        (&json!("stats"), &json!(c.id))
    );
    let data = &event["data"];
    assert!(data["cpu"]["usage"]["total"].as_u64().unwrap() > 0);
    assert!(data["memory"]["usage"]["usage"].as_u64().unwrap() > 0);
    assert_eq!(data["pids"]["current"], 1);
    for field in ["cpuset", "blkio", "hugetlb", "intel_rdt"] {
        assert!(data[field].is_object(), "{field}");
    }
    assert!(data["network_interfaces"].is_null() && data.get("network_interfaces").is_some());
}

#[test]
fn events_come_in_lines_and_end_with_the_container() {
    let c = Bundle::running("events", |c| {
        c["linux"]["resources"]["memory"] = json!({"limit": 20 << 20, "swap": 20 << 20});
    });
    let mut command = c.command(&["events", "--interval", "100ms", &c.id]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // Read as they come: whoever fills a pipe waits, and the kernel's killing may take seconds.
    let (sender, events) = std::sync::mpsc::channel::<Value>();
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            let _ = sender.send(serde_json::from_str(&line).unwrap());
        }
    });
    let next = || events.recv().unwrap();
    for _ in 0..2 {
        assert_eq!(next()["type"], "stats");
    }
    // One process that is killed by the limit; with several, the kernel may kill a second one,
    // and the container's first, while the memory of the dead one comes back.
    let hog = c.sh(&[], "exec dd if=/dev/zero of=/dev/null bs=60M");
    assert_eq!(hog.code, Some(137), "{hog:?}");
    let mut seen = next();
    while seen["type"] == "stats" {
        seen = next();
    }
    assert_eq!(seen, json!({"type": "oom", "id": c.id}));
    c.on(&["kill"], &["KILL"]).ok();
    assert_eq!(end_of(&mut child), Some(0));
    let output = c.on(&["events", "--stats"], &[]);
    assert!(output.stderr.contains("is not running"), "{output:?}");
    let output = c.on(&["events", "--interval", "0s"], &[]);
    assert!(
        output
            .stderr
            .contains("duration interval must be greater than 0"),
        "{output:?}"
    );
}

#[test]
fn a_state_directory_without_a_record_can_be_deleted() {
    let c = Bundle::new("norecord", |_| {});
    std::fs::create_dir_all(c.file("state").join(&c.id)).unwrap();
    let output = c.on(&["state"], &[]);
    assert!(output.stderr.contains("does not exist"), "{output:?}");
    assert_eq!(c.hull(&["list", "-q"]).ok(), "");
    c.on(&["delete", "-f"], &[]).ok();
    assert!(!c.file("state").join(&c.id).exists());
    std::fs::create_dir_all(c.file("state").join(&c.id)).unwrap();
    c.hull(&["run", "-d", "-b", c.path(), &c.id]).ok();
}
