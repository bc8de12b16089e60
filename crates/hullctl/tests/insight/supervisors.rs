//! Processes that nobody looks after are found, explained and ended.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};

use serde_json::{Value, json};
use supervise::protocol::Create;
use supervise::{Client, Launch};

use crate::support::{Killed, Place, eventually, hull};

/// A supervisor in a directory of the place.
fn supervisor(place: &Place, dir: &Path) -> Killed {
    let launch = Launch {
        program: &hull(),
        root: &place.root(),
        dir,
        resume: false,
        stderr: Stdio::null(),
    };
    Killed(launch.start().unwrap())
}

/// A container of it that runs; its pid.
fn container(place: &Place, dir: &Path, id: &str, bundle: &Path) -> i32 {
    let mut client = Client::connect(dir).unwrap();
    let create = Create {
        id: id.to_owned(),
        bundle: bundle.to_owned(),
        start: true,
        ..Create::default()
    };
    let (process, _) = client.create(create).unwrap();
    assert!(place.root().join(id).exists());
    process.pid
}

fn doctor(place: &Place, words: &[&str]) -> Output {
    let (store, run) = (place.path("store"), place.path("run"));
    let mut all = vec!["--grace", "0", "--store", store.to_str().unwrap()];
    all.extend(["--run", run.to_str().unwrap()]);
    all.extend(words);
    place.ask("doctor", &all)
}

/// What it finds, by kind.
fn leaks(place: &Place) -> Vec<Value> {
    let out = doctor(place, &["--format", "json"]);
    let report: Value = serde_json::from_slice(&out.stdout).unwrap();
    report["leaks"].as_array().unwrap().clone()
}

#[track_caller]
fn only(place: &Place, kind: &str, process: i32, why: &str) {
    let found = leaks(place);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(found[0]["kind"], kind, "{found:#?}");
    assert_eq!(found[0]["process"]["pid"], process, "{found:#?}");
    assert!(
        found[0]["why"].as_str().unwrap().contains(why),
        "{found:#?}"
    );
}

#[track_caller]
fn fixed(place: &Place) {
    let out = doctor(place, &["--fix"]);
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success() && text.contains("\nended: "), "{text}");
    assert!(leaks(place).is_empty());
}

fn is_gone(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')')
        .is_none_or(|(_, rest)| rest.starts_with(" Z"))
}

fn pid_of(child: &Child) -> i32 {
    i32::try_from(child.id()).unwrap()
}

fn local(place: &Place, id: &str) -> PathBuf {
    place.root().join("pods").join(format!("local-{id}"))
}

#[test]
fn a_supervisor_without_a_container() {
    let place = Place::new("idle");
    let dir = local(&place, "idle");
    let child = supervisor(&place, &dir);
    // One whose time has not come is left alone.
    let store = place.path("store");
    let young = place.ask("doctor", &["--store", store.to_str().unwrap()]);
    assert!(young.status.success(), "{young:?}");
    only(
        &place,
        "supervisor",
        pid_of(&child.0),
        "no container to look after",
    );
    fixed(&place);
    eventually("its end", || is_gone(pid_of(&child.0)).then_some(()));
    assert!(!dir.exists());
}

#[test]
fn a_supervisor_that_nobody_can_reach() {
    let place = Place::new("deaf");
    let id = place.id("deaf");
    let dir = local(&place, &id);
    let child = supervisor(&place, &dir);
    let bundle = place.bundle("bundle", "exec sleep 1000", |_| {});
    let pid = container(&place, &dir, &id, &bundle);
    fs::create_dir_all(place.path("store/local").join(&id)).unwrap();
    assert!(
        leaks(&place).is_empty(),
        "it has its container, and that its record"
    );
    fs::remove_dir_all(&dir).unwrap();
    only(
        &place,
        "supervisor",
        pid_of(&child.0),
        "nobody can reach it",
    );
    fixed(&place);
    assert!(is_gone(pid) && is_gone(pid_of(&child.0)));
    assert!(!place.root().join(&id).exists());
}

#[test]
fn a_supervisor_whose_container_or_pod_is_forgotten() {
    let place = Place::new("forgotten");
    let bundle = place.bundle("bundle", "exec sleep 1000", |_| {});
    let pods = place.path("run/pods/pod");
    let one = place.id("one");
    for (dir, id, record) in [
        (
            local(&place, &one),
            one.clone(),
            place.path("store/local").join(&one),
        ),
        (pods, place.id("two"), place.path("run/records/pod")),
    ] {
        let child = supervisor(&place, &dir);
        let pid = container(&place, &dir, &id, &bundle);
        fs::create_dir_all(&record).unwrap();
        assert!(leaks(&place).is_empty(), "{:#?}", leaks(&place));
        fs::remove_dir(&record).unwrap();
        only(
            &place,
            "supervisor",
            pid_of(&child.0),
            "1 containers, 1 of them alive",
        );
        fixed(&place);
        assert!(is_gone(pid));
        eventually("its end", || is_gone(pid_of(&child.0)).then_some(()));
    }
}

#[test]
fn a_container_whose_supervisor_is_dead() {
    let place = Place::new("orphan");
    let id = place.id("orphan");
    let dir = local(&place, &id);
    let mut child = supervisor(&place, &dir);
    let bundle = place.bundle("bundle", "exec sleep 1000", |_| {});
    let pid = container(&place, &dir, &id, &bundle);
    child.0.kill().unwrap();
    child.0.wait().unwrap();
    only(&place, "container", pid, "its supervisor has died");
    fixed(&place);
    assert!(is_gone(pid) && !place.root().join(&id).exists() && !dir.exists());
}

#[test]
fn a_sandbox_without_a_record() {
    let place = Place::new("pause");
    let id = place.id("pause");
    let pause = place.path("run/pause");
    supervise::pause::install(&pause).unwrap();
    let bundle = place.bundle("bundle", "", |spec| {
        spec["root"] = json!({ "path": pause, "readonly": true });
        spec["process"]["args"] = json!(["/pause"]);
    });
    let dir = place.path("run/pods/pod");
    fs::create_dir_all(place.path("run/records/pod")).unwrap();
    let mut child = supervisor(&place, &dir);
    let pid = container(&place, &dir, &id, &bundle);
    assert!(leaks(&place).is_empty(), "{:#?}", leaks(&place));
    child.0.kill().unwrap();
    child.0.wait().unwrap();
    // The daemon starts another supervisor; while there is a record it is not for us.
    assert!(leaks(&place).is_empty(), "{:#?}", leaks(&place));
    let kept = place.path("kept");
    fs::rename(place.root().join(&id), &kept).unwrap();
    only(&place, "pause", pid, "no record speaks of");
    fixed(&place);
    assert!(is_gone(pid));
    // Its control groups are deleted by the record.
    fs::rename(kept, place.root().join(&id)).unwrap();
}
