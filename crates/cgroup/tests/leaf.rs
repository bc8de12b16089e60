//! Groups for single commands, on the real kernel; needs root.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod common;

use cgroup::{Manager, Mode};
use common::{Fixture, Sleeper};

/// Runs a process in a leaf of the manager and kills it there, and nobody else.
fn is_killed_alone(manager: &Manager, name: &str) {
    let sub = manager.make_leaf(name).unwrap().unwrap();
    let leaf = manager.leaf(name).unwrap();
    let joiner = manager.exec_joiner(&sub, None).unwrap();
    let mut command = Sleeper::start(&joiner, || {});
    assert_eq!(leaf.procs(true).unwrap(), [command.pid()]);
    assert!(!leaf.remove_if_empty(), "somebody is in it");
    leaf.kill().unwrap();
    assert!(command.ends());
    drop(command);
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !leaf.remove_if_empty() {
        assert!(std::time::Instant::now() < end, "it cannot be removed");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    // Once more is no error.
    assert!(leaf.remove_if_empty());
}

#[test]
fn a_command_is_killed_without_its_container() {
    let f = Fixture::new();
    let mut first = f.sleeper();
    is_killed_alone(&f.manager, "leaf");
    assert!(!first.ends(), "the container lives on");
    if f.manager.mode() == Mode::V2 {
        return;
    }
    // The same on a machine without the unified tree.
    let mut state = serde_json::to_value(f.manager.state()).unwrap();
    state["unified"] = serde_json::Value::Null;
    let old = Manager::from_state(serde_json::from_value(state).unwrap());
    if old.paths().contains_key("freezer") {
        is_killed_alone(&old, "leaf");
        assert!(!first.ends(), "the container lives on");
    } else {
        assert!(old.leaf("leaf").is_none());
        assert!(old.make_leaf("leaf").unwrap().is_none());
    }
}
