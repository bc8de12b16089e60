//! A container that cannot be made must not harm one that is there.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod common;

use common::Bundle;
use serde_json::json;

#[test]
fn somebody_else_s_control_group_is_left_alone() {
    let first = Bundle::running("first", |_| {});
    let path = format!("/{}", first.id);
    let second = Bundle::new("second", |c| c["linux"]["cgroupsPath"] = json!(path));
    let output = second.hull(&["run", "-d", "-b", second.path(), &second.id]);
    assert_eq!(output.code, Some(1));
    let text = "container's cgroup is not empty";
    assert!(output.stderr.contains(text), "{output:?}");
    assert_eq!(output.stderr.lines().count(), 1, "{output:?}");
    assert_eq!(first.sh(&[], "echo alive").ok(), "alive\n");
}
