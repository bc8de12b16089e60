//! In a user namespace: devices are bound, what may not be mounted is bound from the host.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use spec::plan::{MountAttrs, MountIdmap, MountPlan, NamespaceKind, NamespaceMode};

use crate::support::{
    alone, alone_without, bind, contained, enter, fs, give, image, mounts, names, refusal, usual,
    with_userns,
};
use crate::usual;

const FIRST: u32 = 200_000;

#[test]
fn default_configuration() {
    alone(|| {
        let root = image();
        give(root.path(), FIRST);
        let mut plan = with_userns(usual(root.path()), FIRST);
        // The link of that name stands in for it.
        plan.devices.push(crate::support::device("/dev/ptmx", 5, 2));
        contained(&plan, |plan, context| {
            enter(plan, context);
            usual::check();
            assert_eq!(mounts()["/dev/null"].fstype, "devtmpfs");
            // No new procfs may be mounted here any more, now that the one there is covered.
            for procfs in [rootfs::Procfs::processes(), rootfs::Procfs::whole()] {
                let read = rustix::fs::OFlags::RDONLY;
                let fd = procfs.unwrap().open(Path::new("self/stat"), read).unwrap();
                let text = std::io::read_to_string(std::fs::File::from(fd)).unwrap();
                assert!(text.starts_with("1 "), "{text}");
            }
        });
    });
}

#[test]
fn default_configuration_on_an_old_kernel() {
    alone_without("fsopen,open_tree,mount_setattr,openat2", || {
        let root = image();
        give(root.path(), FIRST);
        contained(&with_userns(usual(root.path()), FIRST), |plan, context| {
            enter(plan, context);
            usual::check();
        });
    });
}

/// Nobody helps: the user's own id is all that is mapped.
fn ordinary_user() {
    const USER: u32 = 12_345;
    let (root, host) = (image(), image());
    give(root.path(), USER);
    give(host.path(), USER);
    let mut plan = with_userns(usual(root.path()), USER);
    plan.id_maps.uids[0].size = 1;
    plan.id_maps.gids[0].size = 1;
    if let spec::plan::MountKind::Filesystem { data, .. } = &mut plan.mounts[2].kind {
        data.retain(|word| word != "gid=5");
    }
    plan.mounts
        .push(bind(host.path(), "/mnt", MountAttrs::NOEXEC));
    crate::support::as_user(USER, || {
        contained(&plan, |plan, context| {
            enter(plan, context);
            usual::check();
            std::fs::write("/mnt/file", "").unwrap();
        });
    });
    assert_eq!(
        std::fs::metadata(host.path().join("file")).unwrap().uid(),
        USER
    );
}

#[test]
fn made_by_an_ordinary_user() {
    alone(ordinary_user);
}

#[test]
fn made_by_an_ordinary_user_on_an_old_kernel() {
    alone_without("fsopen,open_tree,mount_setattr,openat2", ordinary_user);
}

#[test]
fn a_device_that_is_another_on_the_host() {
    alone(|| {
        let root = image();
        give(root.path(), FIRST);
        let mut plan = with_userns(usual(root.path()), FIRST);
        plan.devices[1].kind = spec::plan::DeviceKind::Char { major: 1, minor: 7 };
        contained(&plan, |plan, context| {
            let error = refusal(plan, context);
            assert!(error.contains("\"/dev/zero\""), "{error}");
        });
    });
}

#[test]
fn sysfs_of_the_hosts_network() {
    alone(|| {
        let root = image();
        give(root.path(), FIRST);
        let mut plan = with_userns(usual(root.path()), FIRST);
        plan.namespaces
            .set(NamespaceKind::Network, NamespaceMode::Inherit);
        plan.mounts[5].attrs.set &= !MountAttrs::RDONLY;
        contained(&plan, |plan, context| {
            enter(plan, context);
            let sys = &mounts()["/sys"];
            assert_eq!(sys.fstype, "sysfs");
            assert!(sys.options.starts_with("ro,nosuid,nodev,noexec"), "{sys:?}");
            assert!(Path::new("/sys/class/net/lo").exists());
        });
    });
}

#[test]
fn root_and_sources_that_only_the_host_can_reach() {
    alone(|| {
        let dir = image();
        let root = dir.path().join("rootfs");
        std::fs::create_dir(root.join("proc")).unwrap();
        give(&root, FIRST);
        let volume = dir.path().join("tmp");
        std::fs::write(volume.join("file"), "x").unwrap();
        give(&volume, FIRST);
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let mut plan = with_userns(crate::support::bare(&root), FIRST);
        plan.mounts = vec![
            fs("/proc", "proc", &[], 0),
            bind(&volume, "/volume", MountAttrs::RDONLY),
        ];
        contained(&plan, |plan, context| {
            enter(plan, context);
            assert_eq!(std::fs::read("/volume/file").unwrap(), b"x");
            assert!(std::fs::write("/volume/file", "").is_err());
            let all = mounts();
            assert_eq!(all["/"].optional, "", "{all:?}");
            assert_eq!(all["/volume"].optional, "", "{all:?}");
            assert_eq!(names("/"), ["dev", "proc", "volume"]);
        });
        assert_eq!(names(&root), ["dev", "proc", "volume"]);
    });
}

#[test]
fn id_map_of_the_container() {
    alone(|| {
        let (root, host) = (image(), image());
        give(root.path(), FIRST);
        std::fs::write(host.path().join("file"), "").unwrap();
        let mut plan = with_userns(usual(root.path()), FIRST);
        plan.mounts.push(MountPlan {
            idmap: Some(MountIdmap {
                maps: None,
                recursive: true,
            }),
            ..bind(host.path(), "/mnt", 0)
        });
        contained(&plan, |plan, context| {
            enter(plan, context);
            assert_eq!(std::fs::metadata("/mnt/file").unwrap().uid(), 0);
            std::fs::write("/mnt/new", "").unwrap();
        });
        let new = std::fs::metadata(host.path().join("new")).unwrap();
        assert_eq!(
            new.uid(),
            0,
            "root inside is root on the volume, nobody's id in between"
        );
    });
}

#[test]
fn remount_keeps_locked_flags() {
    alone(|| {
        let (root, host) = (image(), image());
        give(root.path(), FIRST);
        // A source on a mount whose flags the user namespace inherits locked.
        let mut plan = with_userns(crate::support::bare(root.path()), FIRST);
        plan.mounts = vec![
            fs("/proc", "proc", &[], 0),
            bind(host.path(), "/mnt", MountAttrs::RDONLY),
        ];
        locked(host.path(), || {
            contained(&plan, |plan, context| {
                enter(plan, context);
                let m = &mounts()["/mnt"];
                assert!(
                    m.options.starts_with("ro,nosuid,nodev,noexec,noatime"),
                    "{m:?}"
                );
            });
            // To drop a locked flag is refused, not ignored.
            let mut plan = plan.clone();
            plan.mounts[1].attrs.clear = MountAttrs::NOSUID;
            contained(&plan, |plan, context| {
                let error = refusal(plan, context);
                assert!(error.ends_with("operation not permitted"), "{error}");
            });
        });
    });
}

/// Runs `f` while a tmpfs with all flags covers `dir`.
fn locked(dir: &Path, f: impl FnOnce()) {
    use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::NOATIME;
    mount("tmpfs", dir, "tmpfs", flags, None).unwrap();
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f));
    unmount(dir, UnmountFlags::DETACH).unwrap();
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}
