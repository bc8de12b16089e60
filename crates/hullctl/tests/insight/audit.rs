//! What `hull` and `hullctl` themselves were started for.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::{Place, hull, hullctl};

fn lines(log: &Path) -> Vec<Value> {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines = text.lines().map(|l| serde_json::from_str(l).unwrap());
    lines.collect()
}

/// One line of a call of this program's.
fn line(log: &Path, call: &str) -> Value {
    let found = lines(log).into_iter().find(|l| l["call"] == call);
    let line = found.unwrap_or_else(|| panic!("{call}: {:#?}", lines(log)));
    let program = fs::read_link("/proc/self/exe").unwrap();
    let name = fs::read_to_string(format!("/proc/{}/comm", std::process::id())).unwrap();
    // A user namespace does not show more than the name.
    let shown = line["program"].as_str().unwrap();
    let is_ours = Some(shown) == program.to_str() || shown == name.trim();
    assert!(is_ours, "{line}");
    assert_eq!(line["pid"], std::process::id(), "{line}");
    assert_eq!(
        (&line["uid"], &line["gid"]),
        (&0.into(), &0.into()),
        "{line}"
    );
    assert!(line["ms"].as_f64().unwrap() >= 0.0, "{line}");
    assert!(line["time"].as_str().unwrap().starts_with("20"), "{line}");
    line
}

#[test]
fn calls_of_hull() {
    let place = Place::new("audit");
    let log = place.path("audit.log");
    let ask = |words: &[&str]| {
        let mut command = place.hull(words);
        command.env("HULL_AUDIT", &log).output().unwrap()
    };
    let bundle = place.bundle("bundle", "exec sleep 1000", |_| {});
    let id = place.id("one");
    // Files: what the container keeps open is not to be waited for.
    let kept = fs::File::create(place.path("kept")).unwrap();
    let mut run = place.hull(&["run", "--detach", "--bundle", bundle.to_str().unwrap(), &id]);
    run.env("HULL_AUDIT", &log)
        .stdout(kept.try_clone().unwrap())
        .stderr(kept);
    assert!(run.status().unwrap().success());
    for words in [
        &["exec", &id, "/bin/sh", "-c", "exit 7"][..],
        &["pause", &id],
        &["resume", &id],
        &["update", "--pids-limit", "50", &id],
        &["kill", &id, "KILL"],
        &["delete", "--force", &id],
        &["kill", "no-such", "TERM"],
        &["list"],
    ] {
        ask(words);
    }
    for (call, detail) in [
        ("hull run", bundle.to_str().unwrap()),
        ("hull exec", "/bin/sh -c exit 7"),
        ("hull pause", ""),
        ("hull resume", ""),
        ("hull update", "--pids-limit 50"),
        ("hull kill", "KILL"),
        ("hull delete", ""),
    ] {
        let line = line(&log, call);
        assert_eq!(line["object"], "container", "{line}");
        assert_eq!(line["id"], id.as_str(), "{line}");
        assert_eq!(line["code"], "Ok", "{line}");
        assert_eq!(
            line["detail"].as_str().unwrap_or_default(),
            detail,
            "{line}"
        );
    }
    assert_eq!(line(&log, "hull exec")["exit"], 7);
    let failed = lines(&log)
        .into_iter()
        .find(|l| l["id"] == "no-such")
        .unwrap();
    assert_eq!(failed["code"], "NotFound", "{failed}");
    assert_eq!(failed["reason"], "container \"no-such\" does not exist");
    assert!(
        !lines(&log).iter().any(|l| l["call"] == "hull list"),
        "reading is no change"
    );
    let mut shown = hullctl();
    let shown = shown.args(["audit", "--file"]).arg(&log).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    for part in ["hull exec", "exit code 7", "KILL", "does not exist"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}

#[test]
fn calls_of_hullctl() {
    let place = Place::new("audit-ctl");
    let log = place.path("audit.log");
    let store = place.path("store");
    let ask = |words: &[&str]| {
        let mut command = hullctl();
        command.env("HULL_AUDIT", &log).env("HULL_STORE", &store);
        command.args(words).output().unwrap()
    };
    let root = place.root();
    let root = root.to_str().unwrap();
    let id = place.id("host");
    let out = ask(&[
        "run", "--root", root, "--name", &id, "host", "--", "sh", "-c", "exit 3",
    ]);
    assert_eq!(out.status.code(), Some(3), "{out:?}");
    let ran = line(&log, "hullctl run");
    assert_eq!(ran["id"], id.as_str(), "{ran}");
    assert_eq!(
        (&ran["code"], &ran["exit"]),
        (&"Ok".into(), &3.into()),
        "{ran}"
    );
    assert_eq!(ran["detail"], "host sh -c exit 3", "{ran}");

    ask(&["image", "rm", "no-such-image"]);
    let removed = line(&log, "hullctl image rm");
    assert_eq!(removed["object"], "image", "{removed}");
    assert_eq!(removed["id"], "no-such-image", "{removed}");
    assert_ne!(removed["code"], "Ok", "{removed}");
    assert!(
        removed["reason"]
            .as_str()
            .unwrap()
            .contains("no-such-image")
    );

    // Passwords are options.
    ask(&[
        "image",
        "login",
        "--username",
        "me",
        "--password",
        "secret",
        "127.0.0.1:1",
    ]);
    assert_eq!(line(&log, "hullctl image login")["id"], "127.0.0.1:1");
    ask(&["ns", "unshare", "--uts", "true"]);
    let unshared = line(&log, "hullctl ns unshare");
    assert_eq!(
        (&unshared["id"], &unshared["code"]),
        (&"true".into(), &"Begun".into())
    );
    ask(&["container", "rm", "no-such"]);
    assert_eq!(line(&log, "hullctl container rm")["id"], "no-such");
    ask(&["image", "ls"]);
    let text = fs::read_to_string(&log).unwrap();
    assert!(
        !text.contains("image ls") && !text.contains("secret"),
        "{text}"
    );
    assert_eq!(text.lines().count(), 5, "{text}");
}

/// As root of a user namespace, which is a user to us: a log of its own, and a switch for hull.
#[test]
fn a_users_own_log_and_the_switch() {
    let place = Place::new("audit-user");
    let ask = |program: &Path, words: &[&str]| {
        let mut command = Command::new("unshare");
        command.arg("--map-root-user").arg(program).args(words);
        command.env("XDG_STATE_HOME", place.path("state"));
        command.env("XDG_RUNTIME_DIR", place.path("run"));
        command.env_remove("HULL_AUDIT");
        command.output().unwrap()
    };
    let (hull, hullctl) = (hull(), Path::new(env!("CARGO_BIN_EXE_hullctl")));
    let log = place.path("state/hull/audit-hull.log");
    ask(&hull, &["kill", "nobody"]);
    assert!(!log.exists(), "off unless asked for");
    assert!(ask(hullctl, &["audit", "--hull", "on"]).status.success());
    ask(&hull, &["kill", "somebody"]);
    let line = line(&log, "hull kill");
    assert_eq!(line["id"], "somebody", "{line}");
    let shown = ask(hullctl, &["audit"]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(
        shown.contains("hull kill") && !shown.contains("nobody"),
        "{shown}"
    );
    assert!(ask(hullctl, &["audit", "--hull", "off"]).status.success());
    ask(&hull, &["kill", "another"]);
    assert!(!log.exists());
    let shown = ask(hullctl, &["audit", "--format", "json"]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert_eq!(shown.lines().count(), 1, "{shown}");
}
