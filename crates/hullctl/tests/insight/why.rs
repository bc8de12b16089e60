//! Each sort of end, and of waiting.

use std::fs;

use serde_json::{Value, json};

use crate::support::{Disk, Place, eventually, hullctl};

fn nothing(_: &mut Value) {}

/// The sentence, and its sort.
#[track_caller]
fn why(place: &Place, id: &str, kind: &str, parts: &[&str]) -> String {
    let answer = place.json("why", &[id]);
    let sentence = answer["sentence"].as_str().unwrap().to_owned();
    assert_eq!(answer["kind"], kind, "{answer:#}");
    for part in parts {
        let whole = answer.to_string();
        assert!(
            sentence.contains(part) || whole.contains(part),
            "{part}: {answer:#}"
        );
    }
    let text = place.ask("why", &[id]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.starts_with(&format!("{id}: {sentence}\n")), "{text}");
    sentence
}

#[test]
fn by_itself() {
    let place = Place::new("itself");
    for (code, kind, part) in [
        (0, "done", "exit code 0"),
        (3, "exit", "exit code 3"),
        (127, "exit", "did not find"),
    ] {
        let id = place.id(&code.to_string());
        let bundle = place.bundle(&id, &format!("exit {code}"), nothing);
        assert_eq!(place.run(&id, &bundle).status.code(), Some(code));
        why(
            &place,
            &id,
            kind,
            &[part, "the runtime, which waited for it"],
        );
    }
}

#[test]
fn for_lack_of_memory() {
    let place = Place::new("oom");
    let id = place.id("hog");
    let bundle = place.bundle("hog", "exec tail /dev/zero", |spec| {
        spec["linux"]["resources"]["memory"] = json!({ "limit": 16 << 20, "swap": 16 << 20 });
    });
    assert_eq!(place.run(&id, &bundle).status.code(), Some(137));
    let sentence = why(
        &place,
        &id,
        "oom",
        &["killed for lack of memory", "16 MiB", "oom_kill"],
    );
    // Which process it was stands in the kernel's log, where we may read that.
    if fs::File::open("/dev/kmsg").is_ok() {
        assert!(sentence.contains("process tail ("), "{sentence}");
    }
}

#[test]
fn for_lack_of_memory_without_a_runtime_that_waits() {
    let place = Place::new("oom-detached");
    let id = place.id("hog");
    let bundle = place.bundle("hog", "sleep 0.2; exec tail /dev/zero", |spec| {
        spec["linux"]["resources"]["memory"] = json!({ "limit": 16 << 20, "swap": 16 << 20 });
    });
    place.start(&id, &bundle);
    eventually("the hog's end", || place.is_stopped(&id).then_some(()));
    why(&place, &id, "oom", &["killed for lack of memory"]);
    place.delete(&id);
    let answer = place.json("why", &[&id]);
    assert_eq!(
        (&answer["kind"], &answer["status"]),
        (&json!("oom"), &json!("gone")),
        "{answer:#}"
    );
}

#[test]
fn by_somebody_through_the_runtime() {
    let place = Place::new("killed");
    let id = place.id("sleeper");
    let bundle = place.bundle("sleeper", "exec sleep 1000", nothing);
    place.start(&id, &bundle);
    let out = place.hull(&["kill", &id, "KILL"]).output().unwrap();
    assert!(out.status.success(), "{out:?}");
    eventually("its end", || place.is_stopped(&id).then_some(()));
    let parts = [
        "SIGKILL",
        "sent through the runtime at 20",
        "user 0",
        "insight",
    ];
    why(&place, &id, "killed", &parts);
}

#[test]
fn a_signal_from_elsewhere() {
    let place = Place::new("signal");
    let id = place.id("abort");
    // Not as pid 1, which its own signals do not reach.
    let bundle = place.bundle("abort", "sh -c 'kill -ABRT $$'; exit $?", nothing);
    assert_eq!(place.run(&id, &bundle).status.code(), Some(134));
    why(&place, &id, "signal", &["SIGABRT", "stopped itself"]);
}

#[test]
fn a_system_call_that_was_refused() {
    let place = Place::new("seccomp");
    let id = place.id("mkdir");
    let bundle = place.bundle("mkdir", "exec busybox mkdir /tmp/x", |spec| {
        spec["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{ "names": ["mkdir"], "action": "SCMP_ACT_KILL_PROCESS",
                "args": [{ "index": 1, "value": 0o777, "op": "SCMP_CMP_EQ" }] }],
        });
    });
    assert_eq!(place.run(&id, &bundle).status.code(), Some(159));
    let sentence = why(
        &place,
        &id,
        "seccomp",
        &["killed by its seccomp filter (SIGSYS)"],
    );
    let log =
        String::from_utf8_lossy(&std::process::Command::new("dmesg").output().unwrap().stdout)
            .into_owned();
    if log.contains("type=1326") {
        assert!(sentence.contains("system call mkdir"), "{sentence}");
        assert!(
            sentence.contains("kill process if argument 1 = 0x1ff"),
            "{sentence}"
        );
    }
}

#[test]
fn a_program_that_cannot_run() {
    let place = Place::new("exec");
    let id = place.id("script");
    let bundle = place.bundle("script", "", |spec| {
        spec["process"]["args"] = json!(["/bin/script"]);
    });
    let script = bundle.join("rootfs/bin/script");
    fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    assert!(!place.run(&id, &bundle).status.success());
    why(&place, &id, "exec", &["never ran", "/no/such/interpreter"]);

    let id = place.id("capable");
    let bundle = place.bundle("capable", "", |spec| {
        spec["process"]["args"] = json!(["/bin/capable", "true"]);
    });
    let capable = bundle.join("rootfs/bin/capable");
    fs::copy("/bin/busybox", &capable).unwrap();
    let status = std::process::Command::new("setcap")
        .arg("cap_sys_admin,cap_bpf+ep")
        .arg(&capable)
        .status();
    assert!(status.unwrap().success());
    assert!(!place.run(&id, &bundle).status.success());
    let parts = ["asks for CAP_SYS_ADMIN, CAP_BPF, which the container does not have"];
    why(&place, &id, "exec", &parts);
}

#[test]
fn limits_of_tasks_and_of_space() {
    let place = Place::new("limits");
    let id = place.id("tasks");
    let bundle = place.bundle(
        "tasks",
        "sleep 1 & sleep 1 & sleep 1 & sleep 1 & wait; exit 1",
        |spec| {
            spec["linux"]["resources"]["pids"] = json!({ "limit": 2 });
        },
    );
    assert!(!place.run(&id, &bundle).status.success());
    why(&place, &id, "tasks", &["limit of 2 tasks", "pids.events"]);

    let full = place.path("full");
    fs::create_dir(&full).unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64k", "full"])
        .arg(&full)
        .status();
    assert!(mounted.unwrap().success());
    let id = place.id("space");
    let bundle = place.bundle("space", "dd if=/dev/zero of=/data/file bs=4k count=100", |spec| {
        let mounts = spec["mounts"].as_array_mut().unwrap();
        mounts.push(json!({ "destination": "/data", "source": full, "type": "bind", "options": ["rbind"] }));
    });
    let out = place.run(&id, &bundle);
    let answer = place.json("why", &[&id]);
    let _ = std::process::Command::new("umount").arg(&full).status();
    assert!(!out.status.success());
    assert_eq!(answer["kind"], "space", "{answer:#}");
    assert!(
        answer["sentence"]
            .as_str()
            .unwrap()
            .contains("no space is left on /data"),
        "{answer:#}"
    );
}

#[test]
fn a_root_that_is_read_only() {
    let place = Place::new("read-only");
    let id = place.id("writer");
    let bundle = place.bundle("writer", "echo x > /file", |spec| {
        spec["root"]["readonly"] = json!(true)
    });
    assert_eq!(place.run(&id, &bundle).status.code(), Some(1));
    why(
        &place,
        &id,
        "read-only",
        &["root file system is read-only", "config.json"],
    );
}

#[test]
fn waiting_for_its_start_paused_and_at_work() {
    let place = Place::new("alive");
    let id = place.id("sleeper");
    let bundle = place.bundle("sleeper", "exec sleep 1000", nothing);
    let words = ["create", "--bundle", bundle.to_str().unwrap(), &id];
    assert!(
        place
            .hull(&words)
            .stdout(std::process::Stdio::null())
            .status()
            .unwrap()
            .success()
    );
    why(&place, &id, "created", &["waits for `hull start`"]);
    assert!(place.hull(&["start", &id]).status().unwrap().success());
    eventually("its sleep", || {
        let answer = place.json("why", &[&id]);
        answer["sentence"]
            .as_str()?
            .contains("nanosleep")
            .then_some(())
    });
    assert!(place.hull(&["pause", &id]).status().unwrap().success());
    why(&place, &id, "paused", &["frozen"]);
    assert!(place.hull(&["resume", &id]).status().unwrap().success());
    place.delete(&id);
}

#[test]
fn stuck_on_a_file_system() {
    let place = Place::new("stuck");
    let disk = Disk::new(&place);
    let id = place.id("writer");
    let bundle = place.bundle("writer", "while :; do echo x > /data/file; sleep 0.01; done", |spec| {
        let mounts = spec["mounts"].as_array_mut().unwrap();
        mounts.push(json!({ "destination": "/data", "source": disk.point, "type": "bind", "options": ["rbind"] }));
    });
    place.start(&id, &bundle);
    disk.freeze("-f");
    let answer = eventually("a task in D", || {
        let answer = place.json("why", &[&id]);
        (answer["kind"] == "stuck").then_some(answer)
    });
    let top = place.json("top", &["--io"]);
    disk.freeze("-u");
    let sentence = answer["sentence"].as_str().unwrap();
    for part in [
        "task sh (",
        "/data/file",
        "on /data (ext4 /dev/loop",
        "frozen",
    ] {
        assert!(sentence.contains(part), "{part}: {answer:#}");
    }
    // Whichever of the two the freeze has met.
    let calls = ["waits in openat", "waits in write"];
    assert!(calls.iter().any(|c| sentence.contains(c)), "{answer:#}");
    let stuck = &top["containers"][0]["stuck"][0];
    assert_eq!(stuck["file"], "/data/file", "{top:#}");
    assert!(
        top["io"]["advice"]
            .as_str()
            .unwrap()
            .contains("fsfreeze --unfreeze"),
        "{top:#}"
    );
    place.delete(&id);
}

#[test]
fn a_start_that_was_slow() {
    let place = Place::new("slow");
    for (name, hook, stage) in [
        ("before", "createRuntime", "create (mounts and hooks)"),
        ("after", "poststart", "start (hooks)"),
    ] {
        let id = place.id(name);
        let bundle = place.bundle(name, "exec sleep 1000", |spec| {
            spec["hooks"][hook] = json!([{ "path": "/bin/sleep", "args": ["sleep", "1.1"] }]);
        });
        place.start(&id, &bundle);
        let sentence = why(&place, &id, "slow-start", &["its start was slow: ", stage]);
        assert!(sentence.starts_with("runs"), "{sentence}");
        place.delete(&id);
        // What it ended of comes first then.
        let sentence = why(&place, &id, "killed", &["SIGKILL", "its start was slow: "]);
        assert!(sentence.contains(stage), "{sentence}");
    }
    let id = place.id("quick");
    let bundle = place.bundle("quick", "exit 0", nothing);
    assert!(place.run(&id, &bundle).status.success());
    let answer = place.json("why", &[&id]);
    let sentence = answer["sentence"].as_str().unwrap();
    assert!(!sentence.contains("slow"), "{answer:#}");
    assert!(
        answer["start"]["stages"].as_array().unwrap().len() >= 6,
        "{answer:#}"
    );
}

#[test]
fn stages_of_a_start_and_the_memory_of_many() {
    let place = Place::new("stages");
    let id = place.id("host");
    let mut command = hullctl();
    command.arg("run").arg("--root").arg(place.root());
    let out = command
        .args(["--name", &id, "host", "--", "true"])
        .output()
        .unwrap();
    assert!(out.status.success(), "{out:?}");
    let answer = place.json("why", &[&id]);
    assert!(
        answer["start"]["total_us"].as_u64().unwrap() > 0,
        "{answer:#}"
    );
    assert!(
        answer["start"]["stages"].as_array().unwrap().len() > 10,
        "{answer:#}"
    );
    let bundle = place.bundle("many", "exit 0", nothing);
    for n in 0..82 {
        let other = place.id(&format!("many-{n}"));
        assert!(place.run(&other, &bundle).status.success());
    }
    let kept = fs::read_dir(place.root().join("@ended")).unwrap().count();
    assert!((64..=80).contains(&kept), "{kept}");
    let out = place.ask("why", &[&id]);
    assert!(!out.status.success());
    let complaint = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(
        complaint.contains("no such container") && complaint.lines().count() == 1,
        "{complaint}"
    );
}
