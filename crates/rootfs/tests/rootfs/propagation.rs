//! What the host sees of the container's mounts, and the reverse.

use rustix::mount::{MountPropagationFlags, mount_bind, mount_change};
use spec::plan::{Propagation, PropagationKind};

use crate::support::{alone, alone_without, contained, enter, image, mounts, usual};

/// Runs `body` in a mount namespace of its own with everything shared, as systemd leaves it, and
/// with a bind mount that a root file system is below.
fn on_a_shared_host(body: impl Fn(&std::path::Path)) {
    let dir = image();
    mount_bind(dir.path(), dir.path()).unwrap();
    mount_change(
        "/",
        MountPropagationFlags::SHARED | MountPropagationFlags::REC,
    )
    .unwrap();
    let root = dir.path().join("rootfs");
    for name in ["proc", "sys", "dev"] {
        std::fs::create_dir(root.join(name)).unwrap();
    }
    body(&root);
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
    .unwrap();
    rustix::mount::unmount(dir.path(), rustix::mount::UnmountFlags::DETACH).unwrap();
}

fn every_kind() {
    let kinds = [
        None,
        Some((PropagationKind::Private, true)),
        Some((PropagationKind::Private, false)),
        Some((PropagationKind::Slave, true)),
        Some((PropagationKind::Slave, false)),
        Some((PropagationKind::Shared, true)),
        Some((PropagationKind::Shared, false)),
        Some((PropagationKind::Unbindable, true)),
        Some((PropagationKind::Unbindable, false)),
    ];
    on_a_shared_host(|root| {
        for kind in kinds {
            let mut plan = usual(root);
            plan.rootfs_propagation = kind.map(|(kind, recursive)| Propagation { kind, recursive });
            let before = mounts();
            contained(&plan, |plan, context| {
                enter(plan, context);
                let top = &mounts()["/"].optional;
                let expected = match kind.map(|(kind, _)| kind) {
                    Some(PropagationKind::Shared) => "shared:",
                    Some(PropagationKind::Unbindable) => "unbindable",
                    None | Some(PropagationKind::Slave) => "master:",
                    Some(PropagationKind::Private) => "",
                };
                assert!(top.starts_with(expected), "{kind:?}: {top:?}");
                if expected.is_empty() {
                    assert_eq!(top, "", "{kind:?}");
                }
            });
            let after = mounts();
            assert_eq!(
                before.keys().collect::<Vec<_>>(),
                after.keys().collect::<Vec<_>>(),
                "{kind:?} changed the host"
            );
        }
    });
}

#[test]
fn the_host_sees_nothing() {
    alone(every_kind);
}

#[test]
fn the_host_sees_nothing_on_an_old_kernel() {
    alone_without("fsopen,open_tree,mount_setattr,openat2", every_kind);
}
