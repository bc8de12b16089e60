//! What a container said last, where a supervisor keeps its output, and what that tells.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use supervise::protocol::{Create, LogOptions, Stdio as Connected};
use supervise::{Client, Launch};

use crate::support::{Killed, Place, eventually, hull};

/// A file system of 64 KiB; unmounted when dropped.
struct Small(PathBuf);

impl Small {
    fn new(place: &Place) -> Self {
        let small = Self(place.path("small"));
        fs::create_dir(&small.0).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=64k", "small"]);
        assert!(mount.arg(&small.0).status().unwrap().success());
        small
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// What is said of a container of a supervisor that ran this script, without capabilities.
fn said_of(place: &Place, dir: &Path, data: &Path, name: &str, script: &str) -> Value {
    let id = place.id(name);
    let bundle = place.bundle(name, script, |spec| {
        for set in ["bounding", "effective", "permitted"] {
            spec["process"]["capabilities"][set] = json!(["CAP_KILL"]);
        }
        let mount =
            json!({ "destination": "/data", "source": data, "type": "bind", "options": ["rbind"] });
        spec["mounts"].as_array_mut().unwrap().push(mount);
    });
    let create = Create {
        id: id.clone(),
        bundle,
        stdio: Connected::Pipes,
        log: Some(LogOptions {
            path: place.path(&format!("{name}.log")),
            ..LogOptions::default()
        }),
        ..Create::default()
    };
    let mut client = Client::connect(dir).unwrap();
    client.create(create).unwrap();
    client.start(&id).unwrap();
    let answer = eventually("its end", || {
        let answer = place.json("why", &[&id]);
        let evidence = answer["evidence"].to_string();
        evidence
            .contains("the runtime, which waited")
            .then_some(answer)
    });
    client.delete(&id, true).unwrap();
    answer
}

#[test]
fn last_words_tell_the_cause() {
    let place = Place::new("words");
    let dir = place.path("supervisor");
    let launch = Launch {
        program: &hull(),
        root: &place.root(),
        dir: &dir,
        resume: false,
        stderr: Stdio::null(),
    };
    let _supervisor = Killed(launch.start().unwrap());
    let small = Small::new(&place);
    // What filled the disk is gone when it is asked for.
    let fill = "busybox dd if=/dev/zero of=/data/x bs=4k status=none; busybox rm /data/x; exit 1";
    for (name, script, kind, part) in [
        (
            "mount",
            "busybox mount -t tmpfs x /tmp",
            "capability",
            "mount needs CAP_SYS_ADMIN",
        ),
        (
            "chown",
            "echo 1; busybox chown 5 /tmp",
            "capability",
            "chown needs CAP_CHOWN",
        ),
        ("full", fill, "space", "No space left on device"),
        (
            "read-only",
            "echo x > /sys/x",
            "read-only",
            "a mount of its is read-only",
        ),
        (
            "other",
            "echo all is lost >&2; echo no; exit 3",
            "exit",
            "words: `all is lost`",
        ),
        ("silent", "exit 3", "exit", "its output says more"),
    ] {
        let answer = said_of(&place, &dir, &small.0, name, script);
        assert_eq!(answer["kind"], kind, "{answer:#}");
        let sentence = answer["sentence"].as_str().unwrap();
        assert!(sentence.contains(part), "{part}: {answer:#}");
    }
}
