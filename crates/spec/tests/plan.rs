//! Whole configurations: what is accepted, and what becomes of it.

mod common;

use std::path::Path;

use common::plan;
use spec::plan::{DeviceKind, MountKind, NamespaceKind, NamespaceMode};

#[test]
fn a_small_configuration_becomes_a_plan() {
    let (plan, warnings) = plan(|_| {});
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(plan.root.path, Path::new("/bundle/rootfs"));
    let process = plan.process.unwrap();
    assert_eq!(process.args, ["sh"]);
    assert!(process.terminal.is_none());
    assert!(plan.namespaces.is_new(NamespaceKind::Mount));
    assert_eq!(
        *plan.namespaces.get(NamespaceKind::User),
        NamespaceMode::Inherit
    );
    let paths: Vec<_> = plan
        .devices
        .iter()
        .map(|d| d.path.to_str().unwrap())
        .collect();
    assert_eq!(
        paths,
        [
            "/dev/null",
            "/dev/zero",
            "/dev/full",
            "/dev/random",
            "/dev/urandom",
            "/dev/tty"
        ]
    );
    assert_eq!(
        plan.devices[0].kind,
        DeviceKind::Char { major: 1, minor: 3 }
    );
    assert!(
        matches!(&plan.mounts[0].kind, MountKind::Filesystem { fstype, .. } if fstype == "proc")
    );
}
