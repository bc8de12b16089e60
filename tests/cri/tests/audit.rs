//! Who asked for what: the audit log, and why a container ended.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;

use cri_api::v1;
use cri_suite::{Daemon, Options, container, pod, programs_dir, sleeper, until};
use serde_json::Value;

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines = text.lines().map(|l| serde_json::from_str(l).unwrap());
    lines.collect()
}

/// The last call of that name, once it is written.
async fn last(log: &Path, call: &str) -> Value {
    let find = || lines(log).into_iter().rev().find(|l| l["call"] == call);
    until(call, async || find().is_some()).await;
    find().unwrap()
}

fn stop(id: &str, timeout: i64) -> v1::StopContainerRequest {
    v1::StopContainerRequest {
        container_id: id.to_owned(),
        timeout,
    }
}

/// `hullctl COMMAND --format json`, on the daemon's containers.
fn hullctl(daemon: &Daemon, command: &str, words: &[&str]) -> Value {
    let out = Command::new(programs_dir().join("hullctl"))
        .args([command, "--format", "json", "--root"])
        .arg(daemon.dir.join("runtime"))
        .args(words)
        .output()
        .unwrap();
    serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{e}: {out:?}"))
}

fn why(daemon: &Daemon, id: &str) -> Value {
    hullctl(daemon, "why", &[id])
}

/// As a person sees it: the sort, and all that is said.
#[track_caller]
fn said(answer: &Value, kind: &str, parts: &[&str]) {
    assert_eq!(answer["kind"], kind, "{answer:#}");
    for part in parts {
        assert!(answer.to_string().contains(part), "{part}: {answer:#}");
    }
}

/// A call of this program that succeeded, about an object: its sort, name and id.
async fn check(log: &Path, call: &str, object: (&str, &str, &str), detail: &str) {
    let find = || {
        let mut all = lines(log).into_iter();
        all.find(|l| l["call"] == call && l["code"] == "Ok")
    };
    until(call, async || find().is_some()).await;
    let line = find().unwrap();
    assert_eq!(line["object"], object.0, "{line}");
    assert_eq!(line["name"], object.1, "{line}");
    assert_eq!(line["id"], object.2, "{line}");
    assert_eq!(
        line["detail"].as_str().unwrap_or_default(),
        detail,
        "{line}"
    );
    assert_eq!(
        (&line["uid"], &line["gid"]),
        (&0.into(), &0.into()),
        "{line}"
    );
    assert_eq!(line["pid"], std::process::id(), "{line}");
    let program = fs::read_link("/proc/self/exe").unwrap();
    assert_eq!(line["program"].as_str(), program.to_str(), "{line}");
    assert!(line["ms"].as_f64().unwrap() > 0.0, "{line}");
    assert!(line["time"].as_str().unwrap().starts_with("20"), "{line}");
}

/// `hullctl audit`.
fn shown(log: &Path, id: &str) {
    let ask = |words: &[&str]| {
        let mut command = Command::new(programs_dir().join("hullctl"));
        command.args(["audit", "--file"]).arg(log).args(words);
        let out = command.output().unwrap();
        assert!(out.status.success(), "{out:?}");
        String::from_utf8(out.stdout).unwrap()
    };
    let stops = ask(&["--call", "StopContainer", "--about", &id[..8]]);
    let who = format!("/{} user 0", std::process::id());
    for part in [&who, "container test/one/sleeper: timeout 9 s", "Ok", " ms"] {
        assert!(stops.contains(part), "{part}: {stops}");
    }
    assert_eq!(stops.lines().count(), 2, "{stops}");
    let failed = ask(&["--failed", "--format", "json"]);
    let failed: Value = serde_json::from_str(&failed).unwrap();
    assert_eq!(failed["code"], "NotFound", "{failed}");
    assert_eq!(ask(&["--last", "1"]).lines().count(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_that_changes_something() {
    let daemon = Daemon::start(Options::default()).await;
    let log = daemon.dir.join("state/audit.log");
    let one = daemon.run_pod(pod("one")).await;
    let id = daemon.run(&one, sleeper("sleeper")).await;
    let (code, _) = daemon.exec(&id, &["/bin/sh", "-c", "exit 4"]).await;
    assert_eq!(code, 4);
    daemon.runtime().stop_container(stop(&id, 9)).await.unwrap();
    let refused = daemon.try_create("no-such-pod", sleeper("x")).await;
    assert!(refused.is_err());
    daemon.remove_pod(&one).await;

    let object = ("pod", "test/one", one.as_str());
    check(&log, "RunPodSandbox", object, "").await;
    check(&log, "RemovePodSandbox", object, "").await;
    let object = ("container", "test/one/sleeper", id.as_str());
    for (call, detail) in [
        ("CreateContainer", ""),
        ("StartContainer", ""),
        ("ExecSync", "/bin/sh -c exit 4"),
        ("StopContainer", "timeout 9 s"),
    ] {
        check(&log, call, object, detail).await;
    }
    shown(&log, &id);
    let failed = lines(&log)
        .into_iter()
        .find(|l| l["code"] == "NotFound")
        .unwrap();
    assert_eq!(failed["call"], "CreateContainer", "{failed}");
    assert!(
        failed["reason"].as_str().unwrap().contains("no-such-pod"),
        "{failed}"
    );
    assert!(
        !lines(&log).iter().any(|l| l["call"] == "ContainerStatus"),
        "reading is no change"
    );
    assert_eq!(
        fs::metadata(&log).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_rotated_and_a_journal() {
    let token = format!("hull-journal-{}", std::process::id());
    let socket = std::env::temp_dir().join(token);
    let journal = UnixDatagram::bind(&socket).unwrap();
    let config = format!(
        "[audit]\nmax-bytes = 2000\nmax-files = 2\njournal = {:?}\n",
        socket.to_str().unwrap()
    );
    let daemon = Daemon::start(Options {
        config,
        ..Options::default()
    })
    .await;
    let log = daemon.dir.join("state/audit.log");
    for n in 0..20 {
        let refused = daemon.try_create(&format!("none-{n}"), sleeper("x")).await;
        assert!(refused.is_err());
        let told = async || last(&log, "CreateContainer").await["reason"].to_string();
        until("it is written", async || {
            told().await.contains(&format!("none-{n}"))
        })
        .await;
    }
    let beside = |n: u32| daemon.dir.join(format!("state/audit.log.{n}"));
    for path in [&log, &beside(1), &beside(2)] {
        let size = fs::metadata(path).unwrap().len();
        assert!((1..=2000).contains(&size), "{}: {size}", path.display());
    }
    assert!(!beside(3).exists(), "only so many are kept");
    let mut message = vec![0; 8192];
    let length = journal.recv(&mut message).unwrap();
    let _ = fs::remove_file(&socket);
    let text = String::from_utf8_lossy(&message[..length]).into_owned();
    for part in [
        "MESSAGE={\"time\":",
        "SYSLOG_IDENTIFIER=hulld-audit\n",
        "HULL_CALL=CreateContainer\n",
        "HULL_CODE=NotFound\n",
        "HULL_UID=0\n",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

/// A container that ends when it is asked to.
async fn polite(daemon: &Daemon, pod: &str) -> String {
    let script = "trap 'exit 0' TERM; echo ready; sleep 3600 & wait";
    let config = container("polite", &["/bin/sh", "-c", script]);
    let id = daemon.run(pod, config).await;
    // As first process it does not hear of a signal that it has no handler for yet.
    until("its handler", async || {
        daemon.container_log("polite").contains("ready")
    })
    .await;
    id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn why_pods_containers_ended() {
    let daemon = Daemon::start(Options::default()).await;
    let one = daemon.run_pod(pod("one")).await;
    let caller = fs::read_link("/proc/self/exe").unwrap();
    let caller = caller.file_name().unwrap().to_string_lossy().into_owned();
    let who = format!("{caller} (process {}, user 0)", std::process::id());

    let killed = daemon.run(&one, sleeper("killed")).await;
    let parts = ["one/killed", "CreateContainer", "root file system"];
    said(&why(&daemon, &killed), "running", &parts);
    daemon
        .runtime()
        .stop_container(stop(&killed, 0))
        .await
        .unwrap();
    let parts = [
        "killed by SIGKILL",
        &who,
        "by StopContainer through the API at 20",
        "signal 9",
    ];
    said(&why(&daemon, &killed), "killed", &parts);

    let polite = polite(&daemon, &one).await;
    daemon
        .runtime()
        .stop_container(stop(&polite, 60))
        .await
        .unwrap();
    let parts = ["ended with exit code 0 after SIGTERM", &who];
    said(&why(&daemon, &polite), "killed", &parts);

    let fails = daemon
        .run(&one, container("fails", &["/bin/sh", "-c", "exit 3"]))
        .await;
    daemon.ended(&fails).await;
    said(
        &why(&daemon, &fails),
        "exit",
        &["ended by itself, with exit code 3"],
    );

    let missing = container("missing", &["/no/such/program"]);
    assert!(daemon.try_create(&one, missing).await.is_err());
    let parts = ["never ran", "/no/such/program"];
    said(&why(&daemon, "one/missing"), "exec", &parts);

    let mut hog = container("hog", &["/bin/sh", "-c", "tail /dev/zero"]);
    hog.linux.as_mut().unwrap().resources = Some(v1::LinuxContainerResources {
        memory_limit_in_bytes: 16 << 20,
        memory_swap_limit_in_bytes: 16 << 20,
        ..Default::default()
    });
    let hog = daemon.run(&one, hog).await;
    daemon.ended(&hog).await;
    said(&why(&daemon, &hog), "oom", &["lack of memory", "16 MiB"]);

    daemon.remove_pod(&one).await;
    // All of it is still known, by names too.
    said(&why(&daemon, "one/killed"), "killed", &["\"gone\"", &who]);
    said(
        &why(&daemon, &fails[..12]),
        "exit",
        &["\"gone\"", "exit code 3"],
    );
    said(&why(&daemon, "hog"), "oom", &["\"gone\"", "16 MiB"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_pods_use() {
    let daemon = Daemon::start(Options::default()).await;
    let one = daemon.run_pod(pod("one")).await;
    let script = "while :; do head -c 100000 /dev/zero > /file; done";
    let mut busy = container("busy", &["/bin/sh", "-c", script]);
    busy.linux.as_mut().unwrap().resources = Some(v1::LinuxContainerResources {
        cpu_period: 100_000,
        cpu_quota: 5_000,
        memory_limit_in_bytes: 32 << 20,
        ..Default::default()
    });
    let id = daemon.run(&one, busy).await;
    let row = || {
        let report = hullctl(&daemon, "top", &["--once"]);
        let rows = report["containers"].as_array().unwrap().clone();
        rows.into_iter().find(|row| row["id"] == id.as_str())
    };
    until("it is held back", async || {
        row().is_some_and(|row| row["throttled_percent"].as_f64() > Some(0.0))
    })
    .await;
    let row = row().unwrap();
    assert_eq!(row["name"], "one/busy", "{row:#}");
    let limits = row["limits"].to_string();
    assert!(
        limits.contains("cpu 0.05") && limits.contains("memory 32 MiB"),
        "{row:#}"
    );
    assert!(row["memory"].as_u64() > Some(0), "{row:#}");
}
