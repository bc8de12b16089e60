//! On the real kernel: needs root and cgroup v1 or hybrid, which CI's host has.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test"
)]

mod common;

use std::fs;

use cgroup::{ErrorKind, Manager, Mode, OomEvent, Policy, Request, SubCgroups};
use common::{Fixture, read};
use spec::oci::Resources;

fn resources(json: &str) -> Resources {
    serde_json::from_str(json).unwrap()
}

/// `false` where this machine is of another kind; the VM's suite covers that one.
fn v1_here() -> bool {
    cgroup::Layout::detect().unwrap().mode != Mode::V2
}

#[test]
fn a_process_enters_every_hierarchy() {
    if !v1_here() {
        return;
    }
    let f = Fixture::new();
    let child = f.sleeper();
    for line in child.cgroups().lines() {
        assert!(line.ends_with(&format!(":/{}", f.name)), "{line}");
    }
    assert_eq!(f.manager.procs(true).unwrap(), [child.pid()]);
    let state = serde_json::to_string(&f.manager.state()).unwrap();
    let again = Manager::from_state(serde_json::from_str(&state).unwrap());
    assert_eq!(again.paths(), f.manager.paths());
    assert_eq!(again.procs(false).unwrap(), [child.pid()]);
}

#[test]
fn another_process_is_moved() {
    if !v1_here() {
        return;
    }
    let (from, to) = (Fixture::new(), Fixture::new());
    let child = from.sleeper();
    to.manager.join(child.pid).unwrap();
    for line in child.cgroups().lines() {
        assert!(line.ends_with(&format!(":/{}", to.name)), "{line}");
    }
}

#[test]
fn an_exec_goes_below() {
    if !v1_here() {
        return;
    }
    let f = Fixture::new();
    let cgroups = |args: &[&str]| {
        let sub = SubCgroups::parse(args).unwrap();
        let joiner = f.manager.exec_joiner(&sub, None)?;
        Ok::<_, cgroup::Error>(common::Sleeper::start(&joiner, || {}).cgroups())
    };
    assert!(cgroups(&["memory:sub"]).is_err(), "does not exist");
    fs::create_dir(f.dir("memory").join("sub")).unwrap();
    let text = cgroups(&["memory:sub"]).unwrap();
    let of = |controller: &str| {
        let line = text.lines().find(|l| l.contains(controller)).unwrap();
        line.rsplit_once('/').unwrap().1.to_owned()
    };
    assert_eq!(of(":memory:"), "sub");
    assert_eq!(of(":pids:"), f.name);
    assert_eq!(of("0::"), f.name);
}

#[test]
fn limits_reach_the_files() {
    if !v1_here() {
        return;
    }
    let f = Fixture::new();
    let r = resources(
        r#"{"memory":{"limit":104857600,"swap":209715200,"reservation":52428800,"swappiness":10,
            "disableOOMKiller":true,"kernel":1,"kernelTCP":1},
            "cpu":{"shares":512,"quota":50000,"period":200000,"burst":10000},
            "pids":{"limit":17}}"#,
    );
    let warnings = f.manager.apply(&r).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    for (controller, file, want) in [
        ("memory", "memory.limit_in_bytes", "104857600"),
        ("memory", "memory.memsw.limit_in_bytes", "209715200"),
        ("memory", "memory.soft_limit_in_bytes", "52428800"),
        ("memory", "memory.swappiness", "10"),
        ("cpu", "cpu.shares", "512"),
        ("cpu", "cpu.cfs_quota_us", "50000"),
        ("cpu", "cpu.cfs_period_us", "200000"),
        ("cpu", "cpu.cfs_burst_us", "10000"),
        ("pids", "pids.max", "17"),
    ] {
        assert_eq!(f.read(controller, file), want, "{file}");
    }
    assert!(
        f.read("memory", "memory.oom_control")
            .starts_with("oom_kill_disable 1")
    );
    let weight = f.dir("blkio").join("blkio.bfq.weight");
    if weight.exists() {
        let r = resources(r#"{"blockIO":{"weight":300}}"#);
        f.manager.apply(&r).unwrap();
        assert_eq!(read(&weight).trim_start_matches("default "), "300");
    }
}

/// Two that are made below a new parent at the same time: one makes it, the other finds it before
/// it has its lists.
#[test]
fn a_parent_without_lists_gets_them_too() {
    if !v1_here() {
        return;
    }
    let mut f = Fixture::named(Policy::default());
    let Some(root) = f.manager.paths().get("cpuset").cloned() else {
        return;
    };
    let parent = root.with_file_name(format!("{}-parent", f.name));
    let path = format!("/{}-parent/middle/{}", f.name, f.name);
    let request = Request {
        path: Some(&path),
        id: &f.name,
        policy: Policy::default(),
        systemd: None,
    };
    f.manager = Manager::new(&request).unwrap();
    fs::create_dir_all(parent.join("middle")).unwrap();
    assert_eq!(read(&parent.join("middle/cpuset.mems")), "");
    let created = f.manager.create();
    let lists = ["cpuset.cpus", "cpuset.mems"].map(|file| {
        let at = |dir: &std::path::Path| fs::read_to_string(dir.join(file)).unwrap_or_default();
        [at(&f.dir("cpuset")), at(&parent)]
    });
    let deleted = f.manager.delete();
    for hierarchy in f.manager.paths().values() {
        // The parents are this test's, in every hierarchy.
        for dir in hierarchy.ancestors().skip(1).take(2) {
            let _ = fs::remove_dir(dir);
        }
    }
    created.unwrap();
    deleted.unwrap();
    assert!(
        lists.iter().flatten().all(|l| !l.trim().is_empty()),
        "{lists:?}"
    );
}

#[test]
fn placement_reaches_the_files() {
    if !v1_here() {
        return;
    }
    let f = Fixture::new();
    let placement = resources(r#"{"cpu":{"cpus":"0","mems":"0"}}"#);
    if !f.manager.paths().contains_key("cpuset") {
        let e = f.manager.apply(&placement).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Invalid);
        return;
    }
    // The parent's, at first.
    assert!(!f.read("cpuset", "cpuset.cpus").is_empty());
    f.manager.apply(&placement).unwrap();
    assert_eq!(f.read("cpuset", "cpuset.cpus"), "0");
    assert_eq!(f.read("cpuset", "cpuset.mems"), "0");
    let e = f
        .manager
        .apply(&resources(r#"{"cpu":{"cpus":"999999"}}"#))
        .unwrap_err();
    assert!(e.to_string().contains("cpuset.cpus"), "{e}");
}

#[test]
fn memory_limits_move_in_both_directions() {
    if !v1_here() {
        return;
    }
    let f = Fixture::new();
    let set = |limit: i64, swap: i64| {
        let r = resources(&format!(
            r#"{{"memory":{{"limit":{limit},"swap":{swap}}}}}"#
        ));
        f.manager.apply(&r)
    };
    let in_force = || {
        let read = |file| f.read("memory", file).parse::<i64>().unwrap();
        (
            read("memory.limit_in_bytes"),
            read("memory.memsw.limit_in_bytes"),
        )
    };
    const MIB: i64 = 1 << 20;
    for (limit, swap) in [
        (64, 64),
        (128, 256),
        (32, 48),
        (200, 220),
        (100, 100),
        (300, 300),
    ] {
        set(limit * MIB, swap * MIB).unwrap();
        assert_eq!(in_force(), (limit * MIB, swap * MIB));
    }
    assert_eq!(
        set(100 * MIB, 99 * MIB).unwrap_err().kind(),
        ErrorKind::Invalid
    );
    // No limit at all also lifts the limit of the sum.
    f.manager
        .apply(&resources(r#"{"memory":{"limit":-1}}"#))
        .unwrap();
    let (limit, swap) = in_force();
    assert!(limit > 1 << 60 && swap > 1 << 60);
    // Zero leaves things as they are.
    set(0, 0).unwrap();
    assert_eq!(in_force(), (limit, swap));
}

#[test]
fn cpu_idle_and_back() {
    if !v1_here() {
        return;
    }
    let f = Fixture::new();
    if !f.dir("cpu").join("cpu.idle").exists() {
        return;
    }
    f.manager
        .apply(&resources(r#"{"cpu":{"idle":1,"shares":512}}"#))
        .unwrap();
    assert_eq!(f.read("cpu", "cpu.idle"), "1");
    f.manager
        .apply(&resources(r#"{"cpu":{"idle":0,"shares":512}}"#))
        .unwrap();
    assert_eq!(f.read("cpu", "cpu.shares"), "512");
    // Burst and quota bound each other: raised and lowered together.
    for (quota, burst) in [(50_000, 50_000), (20_000, 10_000), (90_000, 80_000)] {
        let json = format!(r#"{{"cpu":{{"quota":{quota},"burst":{burst}}}}}"#);
        f.manager.apply(&resources(&json)).unwrap();
        assert_eq!(f.read("cpu", "cpu.cfs_burst_us"), burst.to_string());
    }
}

#[test]
fn refused_values_say_which() {
    if !v1_here() {
        return;
    }
    let f = Fixture::new();
    for (json, want) in [
        (r#"{"cpu":{"shares":1}}"#, "cpu.shares: 1: not in 2-262144"),
        (
            r#"{"memory":{"swappiness":101}}"#,
            "memory.swappiness: 101: not in 0-100",
        ),
        (
            r#"{"hugepageLimits":[{"pageSize":"x","limit":1}]}"#,
            "hugepageLimits",
        ),
        (
            r#"{"rdma":{"x":{"hcaHandles":1}}}"#,
            "rdma: controller rdma is not available",
        ),
        (r#"{"unified":{"a/b":"1"}}"#, "unified \"a/b\""),
        (
            r#"{"unified":{"memory.high":"1"}}"#,
            "controller memory is not available",
        ),
    ] {
        let e = f.manager.apply(&resources(json)).unwrap_err().to_string();
        assert!(e.contains(want), "{json}: {e}");
        assert!(!e.contains('\n'));
    }
}

#[test]
fn a_missing_controller_can_be_tolerated() {
    if !v1_here() {
        return;
    }
    let json = r#"{"rdma":{"x":{"hcaHandles":1}},"pids":{"limit":0}}"#;
    let mut f = Fixture::named(Policy {
        tolerate: vec!["rdma".into()],
        ..Policy::default()
    });
    f.manager.create().unwrap();
    if f.manager.paths().contains_key("rdma") {
        return;
    }
    let warnings = f.manager.apply(&resources(json)).unwrap();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    // Zero is a limit.
    assert_eq!(f.read("pids", "pids.max"), "0");
}

#[test]
fn devices_are_denied() {
    if !v1_here() {
        return;
    }
    let f = Fixture::new();
    let r = resources(
        r#"{"devices":[{"allow":false,"access":"rwm"},
            {"allow":true,"type":"c","major":1,"minor":3,"access":"rw"},
            {"allow":true,"type":"c","access":"m"}]}"#,
    );
    f.manager.apply(&r).unwrap();
    assert_eq!(f.read("devices", "devices.list"), "c *:* m\nc 1:3 rwm");
    let opens = |path: &'static str| {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let _child = common::Sleeper::start(&f.manager.joiner().unwrap(), || {
            let flags = rustix::fs::OFlags::RDONLY;
            let r = rustix::fs::open(path, flags, rustix::fs::Mode::empty());
            let errno = r.err().map_or(0, |e| e.raw_os_error());
            let _ = rustix::io::write(&writer, &errno.to_ne_bytes());
        });
        let mut bytes = [0; 4];
        rustix::io::read(&reader, &mut bytes).unwrap();
        i32::from_ne_bytes(bytes)
    };
    assert_eq!(opens("/dev/null"), 0);
    assert_eq!(opens("/dev/zero"), 1, "EPERM");
    // With a child group, the default cannot be set again, but exceptions can change.
    fs::create_dir(f.dir("devices").join("child")).unwrap();
    let r = resources(
        r#"{"devices":[{"allow":false},{"allow":true,"type":"c","major":1,"minor":5,"access":"r"}]}"#,
    );
    f.manager.apply(&r).unwrap();
    assert_eq!(f.read("devices", "devices.list"), "c 1:5 r");
}

#[test]
fn freeze_and_thaw_and_kill() {
    if !v1_here() {
        return;
    }
    let f = Fixture::new();
    let mut child = f.sleeper();
    assert!(!f.manager.is_frozen().unwrap());
    f.manager.freeze().unwrap();
    assert!(f.manager.is_frozen().unwrap());
    f.manager.thaw().unwrap();
    assert!(!f.manager.is_frozen().unwrap());
    // Also by the other freezer, which somebody else may use.
    fs::write(f.dir("freezer").join("freezer.state"), "FROZEN").unwrap();
    assert!(f.manager.is_frozen().unwrap());
    f.manager.thaw().unwrap();
    assert!(!f.manager.is_frozen().unwrap());
    // Killed while the other freezer holds it.
    fs::write(f.dir("freezer").join("freezer.state"), "FROZEN").unwrap();
    f.manager.kill().unwrap();
    assert!(child.ends());
}

#[test]
fn what_others_use_is_not_taken() {
    if !v1_here() {
        return;
    }
    let f = Fixture::new();
    let again = || {
        let path = format!("/{}", f.name);
        let request = Request {
            path: Some(&path),
            id: "other",
            policy: Policy::default(),
            systemd: None,
        };
        Manager::new(&request).unwrap().create()
    };
    again().unwrap();
    f.manager.freeze().unwrap();
    let e = again().unwrap_err();
    assert!(
        e.to_string()
            .contains("container's cgroup unexpectedly frozen"),
        "{e}"
    );
    f.manager.thaw().unwrap();
    let _child = f.sleeper();
    let e = again().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Occupied);
    assert!(
        e.to_string()
            .starts_with("container's cgroup is not empty: 1 process(es) found"),
        "{e}"
    );
}

#[test]
fn a_create_that_fails_leaves_nothing() {
    if !v1_here() {
        return;
    }
    let mut f = Fixture::named(Policy::default());
    // A process in the last directory that is made spoils it for all.
    let paths: Vec<_> = f.manager.paths().into_iter().collect();
    let (_, spoilt) = paths.iter().find(|(c, _)| c == "pids").unwrap();
    fs::create_dir(spoilt).unwrap();
    let child = std::process::Command::new("sleep").arg("100").spawn();
    let mut child = child.unwrap();
    fs::write(spoilt.join("cgroup.procs"), child.id().to_string()).unwrap();
    let result = f.manager.create();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Occupied);
    for (controller, dir) in &paths {
        assert_eq!(dir.exists(), controller == "pids", "{dir:?}");
    }
}

#[test]
fn delete_takes_what_the_container_made_below() {
    if !v1_here() {
        return;
    }
    let mut f = Fixture::new();
    for dir in f.manager.paths().values() {
        fs::create_dir_all(dir.join("a/b")).unwrap();
        fs::create_dir_all(dir.join("c")).unwrap();
    }
    // A process in one of them keeps it, and only it.
    let child = std::process::Command::new("sleep").arg("100").spawn();
    let mut child = child.unwrap();
    let busy = f.dir("pids").join("a/b");
    fs::write(busy.join("cgroup.procs"), child.id().to_string()).unwrap();
    let e = f.manager.delete().unwrap_err();
    assert!(e.to_string().contains("device or resource busy"), "{e}");
    assert!(busy.exists() && !f.dir("memory").exists());
    child.kill().unwrap();
    child.wait().unwrap();
    f.manager.delete().unwrap();
    f.manager.delete().unwrap();
    assert!(!f.dir("pids").exists());
}

#[test]
fn oom_is_seen_and_counted() {
    if !v1_here() {
        return;
    }
    let f = Fixture::new();
    f.manager
        .apply(&resources(r#"{"memory":{"limit":8388608,"swap":8388608}}"#))
        .unwrap();
    let mut watch = f.manager.watch_oom().unwrap();
    assert_eq!(watch.take().unwrap(), OomEvent::None);
    assert_eq!(f.manager.oom_kills().unwrap(), Some(0));
    // A hog, in one process of its own: of several, the kernel may kill more than one.
    let tasks = f.dir("memory").join("cgroup.procs");
    let hog = format!("echo $$ > {tasks:?}; exec dd if=/dev/zero of=/dev/null bs=64M");
    let status = std::process::Command::new("sh").args(["-c", &hog]).status();
    assert!(!status.unwrap().success());
    assert_eq!(f.manager.oom_kills().unwrap(), Some(1));
    assert_eq!(watch.take().unwrap(), OomEvent::Oom);
    assert_eq!(watch.take().unwrap(), OomEvent::None);
    let mut f = f;
    f.manager.delete().unwrap();
    // The kernel tells of the removal some time after it.
    common::wait_readable(&watch);
    assert_eq!(watch.take().unwrap(), OomEvent::Gone);
}

/// What `runc events --stats` of runc 1.1.5 printed on a hybrid machine, without the parts that
/// are not control groups' and with one entry of memory.stat.
const RUNC: &str = r#"{"cpu":{"usage":{"total":10275744,"percpu":[8991688,1284056],
    "percpu_kernel":[3996996,0],"percpu_user":[4000000,0],"kernel":0,"user":0},"throttling":{}},
    "cpuset":{"cpus":[0,1],"cpu_exclusive":0,"mems":[0],"mem_hardwall":0,"mem_exclusive":0,
    "memory_migrate":0,"memory_spread_page":0,"memory_spread_slab":0,"memory_pressure":0,
    "sched_load_balance":1,"sched_relax_domain_level":-1},
    "memory":{"cache":12288,"usage":{"limit":9223372036854771712,"usage":1015808,"max":2781184,
    "failcnt":0},"swap":{"limit":9223372036854771712,"usage":1015808,"max":2781184,"failcnt":0},
    "kernel":{"limit":9223372036854771712,"usage":479232,"max":618496,"failcnt":0},
    "kernelTCP":{"limit":9223372036854771712,"failcnt":0},"raw":{"cache":12288}},
    "pids":{"current":1},"blkio":{},"hugetlb":{}}"#;

/// Every name and kind of value of `want` is in `got`, but for those in `may_lack`.
fn same_shape(want: &serde_json::Value, got: &serde_json::Value, at: &str) {
    use serde_json::Value;
    // Zeros are left out, and these may be zero in a group that has done next to nothing.
    let may_lack = ["cache", "usage", "max", "total"];
    match (want, got) {
        (Value::Object(want), Value::Object(got)) => {
            for (key, value) in want {
                match got.get(key) {
                    Some(got) => same_shape(value, got, &format!("{at}.{key}")),
                    None if value.is_null() => {}
                    None => assert!(may_lack.contains(&key.as_str()), "{at}.{key} is missing"),
                }
            }
            for key in got.keys() {
                let known = want.contains_key(key) || key == "psi" || at.ends_with(".raw");
                assert!(known || at.ends_with(".blkio"), "{at}.{key} is new");
            }
        }
        (Value::Number(_), Value::Number(_)) => {}
        (Value::Array(want), Value::Array(got)) if !want.is_empty() => {
            assert!(!got.is_empty(), "{at}")
        }
        (want, got) => panic!("{at}: {want} became {got}"),
    }
}

#[test]
fn statistics_have_runcs_shape() {
    if !v1_here() {
        return;
    }
    let f = Fixture::new();
    let _child = f.sleeper();
    let mut want: serde_json::Value = serde_json::from_str(RUNC).unwrap();
    if !f.manager.paths().contains_key("cpuset") {
        want["cpuset"]["cpus"].take();
        want["cpuset"]["mems"].take();
    }
    let got = serde_json::to_value(f.manager.stats().unwrap()).unwrap();
    same_shape(&want, &got, "");
    assert_eq!(got["pids"]["current"], 1);
    assert_eq!(
        got["memory"]["usage"]["limit"],
        9_223_372_036_854_771_712_u64
    );
    // With a limit, the limit is shown.
    let json = r#"{"pids":{"limit":9},"cpu":{"quota":50000,"period":100000}}"#;
    f.manager.apply(&resources(json)).unwrap();
    let stats = f.manager.stats().unwrap();
    assert_eq!(stats.pids.limit, 9);
}
