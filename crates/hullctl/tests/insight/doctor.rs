//! What is missing is said; what dead containers left is found and removed.

use std::fs;
use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};

use net::{Attachment, Backend, CniConfig, Config, Network};
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
        Command::new("sleep")
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

/// A network namespace that stands for a machine; it goes with everything in it.
struct Machine(String);

impl Machine {
    fn new(name: &str) -> Self {
        let machine = Self(name.to_owned());
        machine.ip(&["netns", "add", name]);
        machine.ip(&["-n", name, "link", "set", "lo", "up"]);
        machine
    }

    fn ip(&self, words: &[&str]) -> String {
        let out = Command::new("ip").args(words).output().unwrap();
        assert!(out.status.success(), "ip {words:?}: {out:?}");
        String::from_utf8(out.stdout).unwrap()
    }

    fn run(&self, words: &[&str]) -> String {
        let mut all = vec!["netns", "exec", self.0.as_str()];
        all.extend(words);
        self.ip(&all)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).output();
    }
}

/// Three attachments; a port leads to the first.
fn attach(place: &Place, machine: &Machine) {
    let state = place.path("network");
    let config = Config {
        bridge: "br0".to_owned(),
        owner: "hullctl".to_owned(),
        backend: Backend::Builtin,
        netns_dir: place.path("netns"),
        cni: CniConfig {
            cache_dir: place.path("cni"),
            ..CniConfig::default()
        },
        ..Config::default()
    };
    let netns = fs::File::open(format!("/run/netns/{}", machine.0)).unwrap();
    net::netns::inside(netns.as_fd(), || {
        let network = Network::open(config.clone(), &state)?;
        for id in ["dead", "lives", "used"] {
            let path = network.create_netns(id)?;
            let mut attachment = Attachment::new(id, &path);
            if id == "dead" {
                attachment.ports = vec!["8080:80".parse()?];
            }
            network.setup(&attachment)?;
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn what_pods_that_are_gone_hold_of_the_network() {
    let place = Place::new("network");
    let machine = Machine::new(&format!("hdoc{}", std::process::id()));
    attach(&place, &machine);
    fs::create_dir_all(place.path("run/pods/lives")).unwrap();
    let used = format!("--net={}", place.path("netns/used").display());
    let user = Command::new("nsenter")
        .args([&used, "sleep", "1000"])
        .spawn();
    let _user = Killed(user.unwrap());
    let text = |out: &std::process::Output| String::from_utf8_lossy(&out.stdout).into_owned();
    let clean = place.doctor_in(&machine.0, &[]);
    let found = eventually("the user has entered", || {
        let out = place.doctor_in(&machine.0, &["--grace", "0"]);
        (!text(&out).contains(" of used")).then_some(out)
    });
    let link = machine.run(&["ip", "-o", "link", "show", "type", "veth"]);
    let rules = machine.run(&["nft", "list", "ruleset"]);
    let fixed = place.doctor_in(&machine.0, &["--grace", "0", "--fix"]);
    let after = place.doctor_in(&machine.0, &["--grace", "0"]);
    let links_after = machine.run(&["ip", "-o", "link", "show", "type", "veth"]);
    let rules_after = machine.run(&["nft", "list", "ruleset"]);
    for id in ["dead", "lives", "used"] {
        let _ = Command::new("umount")
            .arg(place.path("netns").join(id))
            .output();
    }
    assert_eq!(clean.status.code(), Some(0), "young: {}", text(&clean));
    assert_eq!(found.status.code(), Some(1), "{}", text(&found));
    let line = text(&found);
    let line = line.lines().find(|l| l.contains(" of dead: ")).unwrap();
    for part in [
        "address 10.86.",
        "link hv",
        "port ",
        "8080",
        "elements",
        "namespace",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
    assert!(!text(&found).contains(" of lives"), "{}", text(&found));
    assert!(rules.contains("\"dead\""), "{rules}");
    assert_eq!(fixed.status.code(), Some(0), "{}", text(&fixed));
    assert!(text(&fixed).contains("removed: "), "{}", text(&fixed));
    assert_eq!(after.status.code(), Some(0), "{}", text(&after));
    assert_eq!(
        (link.lines().count(), links_after.lines().count()),
        (3, 2),
        "{links_after}"
    );
    assert!(
        !rules_after.contains("\"dead\"") && rules_after.contains("\"lives\""),
        "{rules_after}"
    );
}
