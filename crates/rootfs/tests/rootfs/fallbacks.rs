//! Kernels without the newer calls.

use std::path::Path;

use spec::plan::{MountAttrs, MountPlan};

use crate::support::{
    alone, alone_without, bare, bind, contained, enter, fs, image, mounts, refusal, usual,
};
use crate::usual;

fn usual_without(calls: &str) {
    alone_without(calls, || {
        let root = image();
        let mut plan = usual(root.path());
        plan.root.readonly = true;
        plan.sysctl = vec![("kernel/shmmni".to_owned(), "77".to_owned())];
        contained(&plan, |plan, context| {
            enter(plan, context);
            usual::check();
            assert!(mounts()["/"].options.starts_with("ro"));
            assert_eq!(std::fs::read("/proc/sys/kernel/shmmni").unwrap(), b"77\n");
        });
    });
}

#[test]
fn without_fsopen() {
    usual_without("fsopen");
}

#[test]
fn without_open_tree() {
    usual_without("open_tree");
}

#[test]
fn without_mount_setattr() {
    usual_without("mount_setattr");
}

#[test]
fn without_openat2() {
    usual_without("openat2");
}

#[test]
fn without_any() {
    usual_without("fsopen,open_tree,mount_setattr,openat2");
}

#[test]
fn binds_without_any() {
    alone_without("fsopen,open_tree,mount_setattr,openat2", || {
        let (root, host) = (image(), image());
        std::fs::write(host.path().join("file"), "x").unwrap();
        let mut plan = bare(root.path());
        plan.mounts = vec![
            fs("/proc", "proc", &[], 0),
            bind(host.path(), "/a/dir", MountAttrs::NOEXEC),
            bind(&host.path().join("file"), "/b/file", MountAttrs::RDONLY),
            MountPlan {
                tmpcopyup: true,
                ..fs("/a", "tmpfs", &[], 0)
            },
        ];
        contained(&plan, |plan, context| {
            enter(plan, context);
            let all = mounts();
            assert!(all["/a/dir"].options.contains("noexec"), "{all:?}");
            assert!(all["/b/file"].options.starts_with("ro"), "{all:?}");
            assert!(Path::new("/a/dir").is_dir());
            assert_eq!(std::fs::read("/b/file").unwrap(), b"x");
        });
    });
}

#[test]
fn remount_without_any() {
    alone_without("fsopen,open_tree,mount_setattr,openat2", || {
        let root = image();
        let mut plan = bare(root.path());
        plan.mounts = vec![
            fs("/proc", "proc", &[], 0),
            fs("/tmp", "tmpfs", &["size=1m"], MountAttrs::NOEXEC),
            MountPlan {
                remount: true,
                ..fs("/tmp", "tmpfs", &["size=2m"], MountAttrs::NOSUID)
            },
        ];
        contained(&plan, |plan, context| {
            enter(plan, context);
            let m = &mounts()["/tmp"];
            assert_eq!(m.options, "rw,nosuid,noexec,relatime");
            assert!(m.superblock.contains("size=2048k"), "{m:?}");
        });
    });
}

/// Not only our own calls fail: so do those of the resolver that we build on.
#[test]
fn on_a_kernel_that_really_lacks_them() {
    let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{
        "names": ["openat2", "fsopen", "fsconfig", "fsmount", "fspick", "open_tree", "move_mount",
            "mount_setattr"],
        "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]}"#;
    let filter = seccomp::compile(&serde_json::from_str(profile).unwrap()).unwrap();
    alone(|| {
        let root = image();
        std::os::unix::fs::symlink("/tmp", root.path().join("link")).unwrap();
        let mut plan = usual(root.path());
        plan.sysctl = vec![("kernel/shmmni".to_owned(), "77".to_owned())];
        plan.mounts.push(bind(root.path(), "/link/../link/sub", 0));
        contained(&plan, |plan, context| {
            sys::seccomp::install(&filter.to_bytes(), filter.flags).unwrap();
            enter(plan, context);
            usual::check();
            assert_eq!(std::fs::read("/proc/sys/kernel/shmmni").unwrap(), b"77\n");
            assert!(Path::new("/tmp/sub/etc").is_dir());
        });
    });
}

#[test]
fn recursive_attributes_need_mount_setattr() {
    alone_without("mount_setattr", || {
        let (root, host) = (image(), image());
        let mut plan = bare(root.path());
        plan.mounts = vec![MountPlan {
            recursive_attrs: MountAttrs {
                set: MountAttrs::RDONLY,
                clear: 0,
            },
            ..bind(host.path(), "/mnt", 0)
        }];
        contained(&plan, |plan, context| {
            let error = refusal(plan, context);
            assert!(error.contains("Linux 5.12"), "{error}");
        });
    });
}
