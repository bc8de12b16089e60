//! Every option of a mount.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use rootfs::prepare;
use spec::oci::IdMapping;
use spec::plan::{
    IdMaps, MountAttrs, MountIdmap, MountKind, MountPlan, Propagation, PropagationKind,
    SuperblockFlags,
};

use crate::support::{alone, bare, bind, contained, enter, fs, image, mounts, names, refusal};

/// Mounts and reads back the options of the mount at a path.
fn options_of(list: Vec<MountPlan>, at: &str) -> String {
    let root = image();
    let mut plan = bare(root.path());
    plan.mounts = vec![fs("/proc", "proc", &[], 0)];
    plan.mounts.extend(list);
    let (reader, writer) = std::io::pipe().unwrap();
    contained(&plan, |plan, context| {
        enter(plan, context);
        let all = mounts();
        let m = &all[at];
        use std::io::Write as _;
        write!(&writer, "{} {} {}", m.options, m.optional, m.superblock).unwrap();
    });
    drop(writer);
    std::io::read_to_string(reader).unwrap()
}

fn attrs(set: u64, clear: u64) -> MountAttrs {
    MountAttrs { set, clear }
}

#[test]
fn attributes_of_new_file_systems() {
    alone(|| {
        for (set, expected) in [
            (0, "rw,relatime"),
            (MountAttrs::NOATIME, "rw,noatime"),
            (MountAttrs::STRICTATIME, "rw"),
            (MountAttrs::NODIRATIME, "rw,nodiratime,relatime"),
            (MountAttrs::NOSYMFOLLOW, "rw,relatime,nosymfollow"),
            (MountAttrs::RDONLY, "ro,relatime"),
            (
                MountAttrs::NOSUID | MountAttrs::NODEV | MountAttrs::NOEXEC,
                "rw,nosuid,nodev,noexec,relatime",
            ),
        ] {
            let options = options_of(vec![fs("/tmp", "tmpfs", &["size=1m"], set)], "/tmp");
            assert!(
                options.starts_with(&format!("{expected} ")),
                "{set:#x}: {options}"
            );
            assert!(options.contains("size=1024k"), "{options}");
        }
    });
}

#[test]
fn superblock_flags() {
    alone(|| {
        let mut mount = fs("/tmp", "tmpfs", &[], 0);
        mount.superblock = SuperblockFlags {
            sync: true,
            dirsync: true,
            lazytime: true,
            ..SuperblockFlags::default()
        };
        let options = options_of(vec![mount.clone()], "/tmp");
        for word in ["sync", "dirsync", "lazytime"] {
            assert!(
                options.split([',', ' ']).any(|o| o == word),
                "{word}: {options}"
            );
        }
        // Only mount(2) has these two.
        mount.superblock.silent = true;
        mount.superblock.iversion = true;
        let options = options_of(vec![mount], "/tmp");
        assert!(options.contains("dirsync"), "{options}");
    });
}

#[test]
fn bind_attributes_change_only_what_is_said() {
    alone(|| {
        let source = || {
            fs(
                "/etc",
                "tmpfs",
                &[],
                MountAttrs::NOSUID | MountAttrs::NOATIME,
            )
        };
        for (change, expected) in [
            (attrs(0, 0), "rw,nosuid,noatime"),
            (attrs(MountAttrs::RDONLY, 0), "ro,nosuid,noatime"),
            (attrs(0, MountAttrs::NOSUID), "rw,noatime"),
            (attrs(MountAttrs::STRICTATIME, 0), "rw,nosuid"),
            (attrs(0, MountAttrs::ATIME_MASK), "rw,nosuid,relatime"),
        ] {
            let again = MountPlan {
                remount: true,
                attrs: change,
                ..bind(Path::new("/"), "/etc", 0)
            };
            let options = options_of(vec![source(), again], "/etc");
            assert!(
                options.starts_with(&format!("{expected} ")),
                "{change:?}: {options}"
            );
        }
    });
}

#[test]
fn remount_of_a_file_system() {
    alone(|| {
        let again = MountPlan {
            remount: true,
            ..fs("/tmp", "tmpfs", &["size=2m"], MountAttrs::RDONLY)
        };
        let options = options_of(vec![fs("/tmp", "tmpfs", &["size=1m"], 0), again], "/tmp");
        assert!(options.starts_with("ro,relatime"), "{options}");
        assert!(options.contains("size=2048k"), "{options}");
    });
}

#[test]
fn mode_of_a_new_tmpfs() {
    alone(|| {
        let root = image();
        let etc = root.path().join("etc");
        std::fs::set_permissions(&etc, std::fs::Permissions::from_mode(0o711)).unwrap();
        let mut plan = bare(root.path());
        plan.mounts = vec![
            fs("/etc", "tmpfs", &[], 0),
            fs("/new", "tmpfs", &[], 0),
            fs("/tmp", "tmpfs", &["mode=700"], 0),
        ];
        contained(&plan, |plan, context| {
            enter(plan, context);
            for (at, expected) in [("/etc", 0o711), ("/new", 0o1777), ("/tmp", 0o700)] {
                let mode = std::fs::metadata(at).unwrap().mode() & 0o7777;
                assert_eq!(mode, expected, "{at}");
            }
        });
    });
}

#[test]
fn recursive_attributes() {
    alone(|| {
        let tree = || {
            let mut sub = bind(Path::new("/dev/shm"), "/mnt/sub", 0);
            sub.kind = MountKind::Filesystem {
                fstype: "tmpfs".to_owned(),
                source: "tmpfs".to_owned(),
                data: Vec::new(),
            };
            vec![fs("/mnt", "tmpfs", &[], 0), sub]
        };
        let again = |top, recursive| MountPlan {
            remount: true,
            attrs: attrs(top, 0),
            recursive_attrs: attrs(recursive, 0),
            ..bind(Path::new("/"), "/mnt", 0)
        };
        let both = |change: MountPlan| {
            let list = || [tree(), vec![change.clone()]].concat();
            (options_of(list(), "/mnt"), options_of(list(), "/mnt/sub"))
        };
        let (top, sub) = both(again(MountAttrs::RDONLY, 0));
        assert!(
            top.starts_with("ro") && sub.starts_with("rw"),
            "{top} {sub}"
        );
        let (top, sub) = both(again(0, MountAttrs::RDONLY | MountAttrs::NOEXEC));
        assert!(
            top.starts_with("ro,noexec") && sub.starts_with("ro,noexec"),
            "{top} {sub}"
        );
    });
}

#[test]
fn propagation_of_a_mount() {
    alone(|| {
        for (kind, expected) in [
            (PropagationKind::Shared, "shared:"),
            (PropagationKind::Private, "  "),
            (PropagationKind::Unbindable, "unbindable"),
        ] {
            let mut mount = fs("/tmp", "tmpfs", &[], 0);
            mount.propagation = Some(Propagation {
                kind,
                recursive: true,
            });
            let options = options_of(vec![mount], "/tmp");
            assert!(options.contains(expected), "{kind:?}: {options}");
        }
    });
}

#[test]
fn files_and_directories_are_bound_where_nothing_is() {
    alone(|| {
        let (root, host) = (image(), image());
        std::fs::write(host.path().join("file"), "content").unwrap();
        let mut plan = bare(root.path());
        plan.mounts = vec![
            bind(&host.path().join("file"), "/a/b/file", MountAttrs::RDONLY),
            bind(host.path(), "/c/dir", 0),
        ];
        contained(&plan, |plan, context| {
            enter(plan, context);
            assert_eq!(std::fs::read("/a/b/file").unwrap(), b"content");
            assert_eq!(
                std::fs::write("/a/b/file", "").unwrap_err().raw_os_error(),
                Some(30)
            );
            std::fs::write("/c/dir/new", "").unwrap();
        });
        assert!(host.path().join("new").exists());
        assert_eq!(
            std::fs::metadata(root.path().join("a/b/file"))
                .unwrap()
                .len(),
            0
        );
        assert_eq!(
            std::fs::metadata(root.path().join("a")).unwrap().mode() & 0o7777,
            0o755
        );
        plan.mounts = vec![bind(Path::new("/no/such"), "/x", 0)];
        contained(&plan, |plan, context| {
            let error = refusal(plan, context);
            assert!(error.contains("/no/such"), "{error}");
            assert!(error.ends_with("no such file or directory"), "{error}");
        });
        plan.mounts = vec![bind(host.path(), "/a/b/file", 0)];
        contained(&plan, |plan, context| {
            let error = refusal(plan, context);
            assert!(error.ends_with("not a directory"), "{error}");
        });
    });
}

#[test]
fn copy_up() {
    alone(|| {
        let root = image();
        let etc = root.path().join("etc");
        std::fs::create_dir(etc.join("sub")).unwrap();
        std::fs::write(etc.join("sub/file"), vec![7u8; 3_000_000]).unwrap();
        std::fs::set_permissions(
            etc.join("sub/file"),
            std::fs::Permissions::from_mode(0o4711),
        )
        .unwrap();
        let empty = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(etc.join("sub/file"), "user.key", b"value", empty).unwrap();
        std::os::unix::fs::chown(etc.join("sub"), Some(12), Some(34)).unwrap();
        symlink("/outside", etc.join("link")).unwrap();
        std::fs::set_permissions(&etc, std::fs::Permissions::from_mode(0o750)).unwrap();
        let mut plan = bare(root.path());
        plan.mounts = vec![MountPlan {
            tmpcopyup: true,
            ..fs("/etc", "tmpfs", &["size=8m"], MountAttrs::RDONLY)
        }];
        contained(&plan, |plan, context| {
            enter(plan, context);
            assert_eq!(names("/etc"), ["link", "sub"]);
            assert_eq!(std::fs::metadata("/etc").unwrap().mode() & 0o7777, 0o750);
            let file = std::fs::metadata("/etc/sub/file").unwrap();
            assert_eq!((file.len(), file.mode() & 0o7777), (3_000_000, 0o4711));
            let mut value = [0u8; 16];
            match rustix::fs::getxattr("/etc/sub/file", "user.key", &mut value) {
                Ok(size) => assert_eq!(&value[..size], b"value"),
                // Before Linux 6.6 a tmpfs has none of the kind.
                Err(e) => assert_eq!(e, sys::Errno::OPNOTSUPP),
            }
            let sub = std::fs::metadata("/etc/sub").unwrap();
            assert_eq!((sub.uid(), sub.gid()), (12, 34));
            assert_eq!(
                std::fs::read_link("/etc/link").unwrap(),
                Path::new("/outside")
            );
            assert!(std::fs::write("/etc/new", "").is_err());
        });
        assert_eq!(names(&etc), ["link", "sub"]);
    });
}

#[test]
fn symlinks_at_source_and_destination() {
    alone(|| {
        let (root, host) = (image(), image());
        symlink("/tmp", root.path().join("link")).unwrap();
        std::fs::write(host.path().join("file"), "").unwrap();
        symlink("file", host.path().join("alias")).unwrap();
        let mut plan = bare(root.path());
        // Followed, inside the root.
        plan.mounts = vec![bind(host.path(), "/link/inside", 0)];
        contained(&plan, |plan, context| {
            enter(plan, context);
            assert!(Path::new("/tmp/inside/file").exists());
        });
        // Not followed: a directory cannot be mounted on a symlink.
        plan.mounts = vec![MountPlan {
            dest_nofollow: true,
            ..bind(host.path(), "/link", 0)
        }];
        contained(&plan, |plan, context| {
            let error = refusal(plan, context);
            assert!(error.contains("/link"), "{error}");
        });
        // The symlink itself is bound over a file.
        plan.mounts = vec![MountPlan {
            src_nofollow: true,
            dest_nofollow: true,
            ..bind(&host.path().join("alias"), "/etc/alias", 0)
        }];
        contained(&plan, |plan, context| {
            enter(plan, context);
            assert_eq!(std::fs::read_link("/etc/alias").unwrap(), Path::new("file"));
        });
        // Copied.
        plan.mounts = vec![MountPlan {
            copy_symlink: true,
            ..bind(&host.path().join("alias"), "/etc/deep/copied", 0)
        }];
        contained(&plan, enter);
        contained(&plan, enter);
        let copied = std::fs::read_link(root.path().join("etc/deep/copied")).unwrap();
        assert_eq!(copied, Path::new("file"));
    });
}

#[test]
fn id_mapped_mounts() {
    alone(|| {
        let (root, host) = (image(), image());
        std::fs::write(host.path().join("file"), "").unwrap();
        let map = vec![IdMapping {
            container_id: 0,
            host_id: 100_000,
            size: 65_536,
        }];
        let maps = IdMaps {
            uids: map.clone(),
            gids: map,
        };
        let mut plan = bare(root.path());
        let mapped = |maps, recursive| MountPlan {
            idmap: Some(MountIdmap { maps, recursive }),
            ..bind(host.path(), "/mnt", 0)
        };
        for recursive in [false, true] {
            plan.mounts = vec![mapped(Some(maps.clone()), recursive)];
            contained(&plan, |plan, context| {
                enter(plan, context);
                assert_eq!(std::fs::metadata("/mnt/file").unwrap().uid(), 100_000);
            });
        }
        plan.mounts = vec![mapped(None, false)];
        let error = rootfs::open_sources(&plan).unwrap_err().to_string();
        assert!(error.contains("idmap"), "{error}");
        assert_eq!(
            std::fs::metadata(host.path().join("file")).unwrap().uid(),
            0
        );
    });
}

#[test]
fn file_system_with_long_options() {
    alone(|| {
        let (root, host) = (image(), image());
        let mut lower = Vec::new();
        for n in 0..8 {
            let dir = host.path().join(format!("{n}-{}", "x".repeat(50)));
            std::fs::create_dir(&dir).unwrap();
            std::fs::write(dir.join(n.to_string()), "").unwrap();
            lower.push(dir.display().to_string());
        }
        let option = format!("lowerdir={}", lower.join(":"));
        assert!(option.len() > 256);
        let mut plan = bare(root.path());
        plan.mounts = vec![fs("/mnt", "overlay", &[&option], 0)];
        contained(&plan, |plan, context| {
            enter(plan, context);
            assert_eq!(names("/mnt").len(), 8);
        });
    });
}

#[test]
fn the_file_system_says_what_it_does_not_like() {
    alone(|| {
        let root = image();
        let mut plan = bare(root.path());
        plan.mounts = vec![fs("/tmp", "tmpfs", &["size=banana"], 0)];
        contained(&plan, |plan, context| {
            let error = prepare(plan, context).unwrap_err().to_string();
            assert!(error.starts_with("mount tmpfs on \"/tmp\": "), "{error}");
            assert!(error.contains("Bad value for 'size'"), "{error}");
            assert!(error.ends_with("invalid argument"), "{error}");
        });
        plan.mounts = vec![fs("/tmp", "nosuchfs", &[], 0)];
        contained(&plan, |plan, context| {
            let error = refusal(plan, context);
            assert!(
                error.contains("nosuchfs") && error.ends_with("no such device"),
                "{error}"
            );
        });
    });
}
