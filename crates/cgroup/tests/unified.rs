//! Core files of the version 2 tree, on the real kernel; needs root.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test"
)]

mod common;

use std::os::fd::AsFd;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use cgroup::{Manager, SubCgroups};
use common::{Fixture, Sleeper, v2_manager};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use spec::oci::Resources;

fn resources(json: &str) -> Resources {
    serde_json::from_str(json).unwrap()
}

/// Held by tests that hand a controller down from the top of the tree and take it back.
static TOP: Mutex<()> = Mutex::new(());

/// A machine with version 1 only has nothing to test here.
fn unified_here() -> bool {
    cgroup::Layout::detect().unwrap().unified.is_some()
}

/// The same container as a version 2 machine would have it: in the unified tree only.
fn as_v2(f: &Fixture) -> Manager {
    let dir = f.dir("");
    v2_manager(dir.parent().unwrap(), &dir)
}

#[test]
fn clone_into_cgroup_places_the_child() {
    if !unified_here() {
        return;
    }
    let f = Fixture::new();
    let child = f.sleeper();
    assert!(
        child
            .cgroups()
            .lines()
            .any(|l| l == format!("0::/{}", f.name))
    );
    assert!(f.read("", "cgroup.events").contains("populated 1"));
    assert_eq!(f.read("", "cgroup.procs"), child.pid().to_string());
}

#[test]
fn a_frozen_group_is_killed_without_a_thaw() {
    if !unified_here() {
        return;
    }
    let f = Fixture::new();
    let mut child = f.sleeper();
    f.manager.freeze().unwrap();
    assert!(f.read("", "cgroup.events").contains("frozen 1"));
    f.manager.kill().unwrap();
    assert!(child.ends());
}

#[test]
fn an_exec_follows_the_first_process_when_the_top_is_closed() {
    if !unified_here() {
        return;
    }
    let _top = TOP.lock().unwrap_or_else(PoisonError::into_inner);
    let f = Fixture::new();
    let v2 = as_v2(&f);
    let scope = f.dir("").join("init.scope");
    std::fs::create_dir(&scope).unwrap();
    let init = f.sleeper();
    std::fs::write(scope.join("cgroup.procs"), init.pid().to_string()).unwrap();
    let place = |args: &[&str]| {
        let sub = SubCgroups::parse(args).unwrap();
        let joiner = v2.exec_joiner(&sub, Some(init.pid)).unwrap();
        let text = Sleeper::start(&joiner, || {}).cgroups();
        let line = text.lines().find(|l| l.starts_with("0::")).unwrap();
        line.rsplit_once('/').unwrap().1.to_owned()
    };
    assert_eq!(place(&[]), f.name);
    assert_eq!(place(&["init.scope"]), "init.scope");
    // Closed by a controller handed down; which the kernel permits only where it has one.
    let root = f.dir("").parent().unwrap().to_owned();
    let controllers = common::read(&root.join("cgroup.controllers"));
    let before = common::read(&root.join("cgroup.subtree_control"));
    let Some(one) = controllers.split(' ').find(|c| !c.is_empty()) else {
        return;
    };
    let hand_down = |dir: &std::path::Path, sign: char| {
        std::fs::write(dir.join("cgroup.subtree_control"), format!("{sign}{one}"))
    };
    hand_down(&root, '+').unwrap();
    hand_down(&f.dir(""), '+').unwrap();
    assert_eq!(place(&[]), "init.scope");
    drop(init);
    drop(f);
    if !before.contains(one) {
        let _ = hand_down(&root, '-');
    }
}

#[test]
fn kill_reaches_groups_below() {
    if !unified_here() {
        return;
    }
    let f = Fixture::new();
    let below = f.dir("").join("below");
    std::fs::create_dir(&below).unwrap();
    let mut child = f.sleeper();
    std::fs::write(below.join("cgroup.procs"), child.pid().to_string()).unwrap();
    assert!(f.manager.procs(false).unwrap().is_empty());
    assert_eq!(f.manager.procs(true).unwrap(), [child.pid()]);
    f.manager.kill().unwrap();
    assert!(child.ends());
}

/// HULL_FAKE_ENOSYS is read once a process, so the fallback runs in another one.
#[test]
fn kill_without_cgroup_kill() {
    if !unified_here() {
        return;
    }
    if std::env::var_os(sys::knob::FAKE_ENOSYS).is_none() {
        let me = std::env::current_exe().unwrap();
        let output = Command::new(me)
            .args(["--exact", "kill_without_cgroup_kill"])
            .env(sys::knob::FAKE_ENOSYS, "cgroup_kill,bpf_f_replace")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success() && text.contains("1 passed"),
            "{text}"
        );
        return;
    }
    let f = Fixture::new();
    let mut children = [f.sleeper(), f.sleeper(), f.sleeper()];
    f.manager.kill().unwrap();
    assert!(children.iter_mut().all(Sleeper::ends));
    // The device rules' fallback too, since we are here.
    device_rules(&f);
}

#[test]
fn pressure_is_in_the_statistics() {
    if !unified_here() || !std::path::Path::new("/proc/pressure/cpu").exists() {
        return;
    }
    let f = Fixture::new();
    let _child = f.sleeper();
    let stats = f.manager.stats().unwrap();
    assert!(stats.cpu.psi.is_some() && stats.memory.psi.is_some() && stats.blkio.psi.is_some());
    let json = serde_json::to_value(&stats).unwrap();
    assert!(json["cpu"]["psi"]["some"]["avg10"].is_number(), "{json}");
}

/// Opens or makes a device inside the group and gives the errno.
fn try_inside(f: &Fixture, what: impl Fn() -> rustix::io::Result<()>) -> i32 {
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    let _child = Sleeper::start(&f.manager.joiner().unwrap(), || {
        let errno = what().err().map_or(0, |e| e.raw_os_error());
        let _ = rustix::io::write(&writer, &errno.to_ne_bytes());
    });
    let mut bytes = [0; 4];
    rustix::io::read(&reader, &mut bytes).unwrap();
    i32::from_ne_bytes(bytes)
}

fn open(path: &str, flags: OFlags) -> rustix::io::Result<()> {
    rustix::fs::open(path, flags, Mode::empty()).map(drop)
}

const EPERM: i32 = 1;

#[test]
fn device_rules_are_in_force() {
    if unified_here() {
        device_rules(&Fixture::new());
    }
}

/// The BPF program, put on the unified tree as on a version 2 machine: it needs no controller,
/// so it works on a hybrid machine too.
fn device_rules(f: &Fixture) {
    let v2 = as_v2(f);
    let json = r#"{"devices":[{"allow":false,"access":"rwm"},
        {"allow":true,"type":"c","access":"m"},
        {"allow":true,"type":"c","major":1,"minor":3,"access":"rw"},
        {"allow":true,"type":"c","major":1,"minor":5,"access":"r"}]}"#;
    v2.apply(&resources(json)).unwrap();
    assert_eq!(try_inside(f, || open("/dev/null", OFlags::RDWR)), 0);
    assert_eq!(try_inside(f, || open("/dev/zero", OFlags::RDONLY)), 0);
    assert_eq!(try_inside(f, || open("/dev/zero", OFlags::RDWR)), EPERM);
    assert_eq!(try_inside(f, || open("/dev/full", OFlags::RDONLY)), EPERM);
    let node = std::env::temp_dir().join(&f.name);
    let make = |kind: FileType| {
        let device = rustix::fs::makedev(7, 99);
        let made = rustix::fs::mknodat(CWD, &node, kind, Mode::RUSR, device);
        if made.is_ok() {
            let _ = rustix::fs::unlink(&node);
        }
        made
    };
    assert_eq!(try_inside(f, || make(FileType::CharacterDevice)), 0);
    assert_eq!(try_inside(f, || make(FileType::BlockDevice)), EPERM);
    // New rules take the place of the old ones, also for who is inside already.
    let json = r#"{"devices":[{"allow":true},
        {"allow":false,"type":"c","major":1,"minor":3,"access":"w"}]}"#;
    v2.apply(&resources(json)).unwrap();
    let dir = std::fs::File::open(f.dir("")).unwrap();
    let programs = sys::bpf::cgroup_device_programs(dir.as_fd()).unwrap();
    assert_eq!(programs.len(), 1);
    assert_eq!(try_inside(f, || open("/dev/full", OFlags::RDONLY)), 0);
    assert_eq!(try_inside(f, || open("/dev/null", OFlags::RDONLY)), 0);
    assert_eq!(try_inside(f, || open("/dev/null", OFlags::RDWR)), EPERM);
}

/// A controller that only the unified tree has is used there, also on a hybrid machine.
#[test]
fn huge_pages_on_the_unified_tree() {
    let layout = cgroup::Layout::detect().unwrap();
    let Some(root) = layout.unified.map(|h| h.mountpoint) else {
        return;
    };
    let has = |file: &str| {
        let text = common::read(&root.join(file));
        text.split(' ').any(|c| c == "hugetlb")
    };
    if !has("cgroup.controllers")
        || !std::path::Path::new("/sys/kernel/mm/hugepages/hugepages-2048kB").exists()
    {
        return;
    }
    let _top = TOP.lock().unwrap_or_else(PoisonError::into_inner);
    let before = has("cgroup.subtree_control");
    let f = Fixture::new();
    f.manager
        .apply(&resources(
            r#"{"hugepageLimits":[{"pageSize":"2MB","limit":4194304}]}"#,
        ))
        .unwrap();
    assert_eq!(f.read("", "hugetlb.2MB.max"), "4194304");
    assert_eq!(f.read("", "hugetlb.2MB.rsvd.max"), "4194304");
    let e = f
        .manager
        .apply(&resources(
            r#"{"hugepageLimits":[{"pageSize":"3MB","limit":1}]}"#,
        ))
        .unwrap_err();
    assert!(e.to_string().contains("hugetlb.3MB.max"), "{e}");
    drop(f);
    if !before {
        // Others may have come to need it in the meantime; then it stays.
        let _ = std::fs::write(root.join("cgroup.subtree_control"), "-hugetlb");
    }
}
