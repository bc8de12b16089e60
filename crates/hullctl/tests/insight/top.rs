//! A writer and a waiter, live and measured once.

use std::os::fd::AsFd as _;

use runtime::console::Console;
use serde_json::{Value, json};

use crate::support::{Disk, Killed, Place, eventually, hullctl};

/// One container that writes and syncs on a disk of its own. Its shell holds the file, too: on a busy
/// machine a short process has gone before its descriptors can be read.
fn writer(place: &Place, disk: &Disk) -> String {
    let id = place.id("writer");
    let script = "exec 3>>/data/big; while :; do busybox dd if=/dev/zero of=/data/big bs=64k count=64 conv=fsync 2>/dev/null; done";
    let bundle = place.bundle("writer", script, |spec: &mut Value| {
        let mounts = spec["mounts"].as_array_mut().unwrap();
        mounts.push(json!({ "destination": "/data", "source": disk.point, "type": "bind", "options": ["rbind"] }));
        spec["linux"]["resources"]["memory"] = json!({ "limit": 64 << 20 });
    });
    place.start(&id, &bundle);
    id
}

/// The writer's file, among those that it has open.
fn big<'a>(report: &'a Value, id: &str) -> Option<&'a Value> {
    let files = report["io"]["files"].get(id)?.as_array()?;
    files.iter().find(|file| file["path"] == "/data/big")
}

#[test]
fn who_writes_what_and_where() {
    let place = Place::new("top");
    let disk = Disk::new(&place);
    let id = writer(&place, &disk);
    let idle = place.id("idle");
    let bundle = place.bundle("idle", "exec sleep 1000", |_| {});
    place.start(&idle, &bundle);
    let report = eventually("a write and an open file", || {
        let report = place.json("top", &["--io", "--sort", "io"]);
        let writes = report["containers"][0]["write"].as_f64()? > 0.0;
        (writes && big(&report, &id).is_some()).then_some(report)
    });
    let row = &report["containers"][0];
    assert_eq!(
        (&row["id"], &report["containers"][1]["id"]),
        (&json!(id), &json!(idle)),
        "{report:#}"
    );
    assert!(
        row["limits"].to_string().contains("memory 64 MiB"),
        "{row:#}"
    );
    let file = big(&report, &id).unwrap();
    assert!(
        file["device"].as_str().unwrap().starts_with("loop"),
        "{file:#}"
    );
    assert!(
        file["mount"]
            .as_str()
            .unwrap()
            .starts_with("/data (ext4 /dev/loop"),
        "{file:#}"
    );
    if std::fs::read_to_string("/proc/sys/kernel/task_delayacct").is_ok_and(|t| t.trim() == "0") {
        assert!(
            report["io"]["blind_spots"]
                .to_string()
                .contains("kernel.task_delayacct=1"),
            "{report:#}"
        );
    }
    let text = place.ask("top", &["--once", "--io"]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("advice: ") && text.contains(&id), "{text}");
    place.delete(&id);
    place.delete(&idle);
}

#[test]
fn what_a_busy_one_uses() {
    let place = Place::new("busy");
    let id = place.id("loop");
    let bundle = place.bundle("loop", "while :; do :; done", |spec| {
        spec["linux"]["resources"]["cpu"] = json!({ "quota": 5000, "period": 100_000 });
        spec["linux"]["resources"]["pids"] = json!({ "limit": 7 });
    });
    place.start(&id, &bundle);
    let row = eventually("its quota used up", || {
        let report = place.json("top", &[]);
        let row = report["containers"][0].clone();
        (row["throttled_percent"].as_f64()? > 0.0 && row["cpu_percent"].as_f64()? > 0.0)
            .then_some(row)
    });
    assert!(row["limits"].to_string().contains("cpu 0.05"), "{row:#}");
    assert!(row["limits"].to_string().contains("tasks 7"), "{row:#}");
    let text = String::from_utf8(place.ask("top", &["--once"]).stdout).unwrap();
    assert!(
        text.contains("PSI c/m/i") && text.contains("throttled"),
        "{text}"
    );
    place.delete(&id);
}

#[test]
fn live_with_keys() {
    let place = Place::new("live");
    let id = place.id("sleeper");
    let bundle = place.bundle("sleeper", "exec sleep 1000", |_| {});
    place.start(&id, &bundle);
    let console = Console::open().unwrap();
    let size = spec::oci::ConsoleSize {
        height: 24,
        width: 160,
    };
    console.set_size(size).unwrap();
    let end = || std::process::Stdio::from(console.slave.as_fd().try_clone_to_owned().unwrap());
    let mut command = hullctl();
    command.arg("top").arg("--root").arg(place.root());
    let mut top = Killed(command.stdin(end()).stdout(end()).spawn().unwrap());
    let mut shown = String::new();
    let mut until = |what: &str| {
        while !shown.contains(what) {
            let mut bytes = [0; 4096];
            let n = rustix::io::read(&console.master, &mut bytes).unwrap();
            shown.push_str(&String::from_utf8_lossy(&bytes[..n]));
        }
    };
    until(&id);
    until("q ends");
    rustix::io::write(&console.master, b"v").unwrap();
    until("advice: ");
    rustix::io::write(&console.master, b"q").unwrap();
    until("\x1b[?1049l");
    assert!(top.0.wait().unwrap().success());
    place.delete(&id);
    let out = place.ask("top", &[]);
    assert!(
        String::from_utf8_lossy(&out.stderr).contains("use --once"),
        "{out:?}"
    );
}
