//! The default configuration.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use rootfs::prepare;
use rustix::fs::makedev;
use spec::plan::{DeviceKind, DevicePlan, MountAttrs};

use crate::support::{
    alone, bare, bind, contained, device, enter, fs, image, mounts, names, paths, usual,
};

/// What the container must see after [`usual`], by whatever calls it was made.
pub fn check() {
    let all = mounts();
    let expected = [
        ("/proc", "proc", "rw,relatime"),
        ("/dev", "tmpfs", "rw,nosuid"),
        ("/dev/pts", "devpts", "rw,nosuid,noexec,relatime"),
        ("/dev/shm", "tmpfs", "rw,nosuid,nodev,noexec,relatime"),
        ("/dev/mqueue", "mqueue", "rw,nosuid,nodev,noexec,relatime"),
        ("/sys", "sysfs", "ro,nosuid,nodev,noexec,relatime"),
        ("/proc/acpi", "tmpfs", "ro,nosuid,nodev,noexec,relatime"),
        ("/sys/firmware", "tmpfs", "ro,nosuid,nodev,noexec,relatime"),
        ("/proc/bus", "proc", "ro,relatime"),
        ("/proc/sys", "proc", "ro,relatime"),
        ("/proc/sysrq-trigger", "proc", "ro,relatime"),
    ];
    for (at, fstype, options) in expected {
        if let Some(m) = all.get(at) {
            assert_eq!(
                (m.fstype.as_str(), m.options.as_str()),
                (fstype, options),
                "{at}"
            );
            assert_eq!(m.optional, "", "{at} is private");
        } else {
            assert!(!Path::new(at).exists(), "{at} exists and is not mounted");
        }
    }
    assert_eq!(all["/proc/keys"].root, "/null");
    assert_eq!(std::fs::read("/proc/keys").unwrap(), b"");
    assert_eq!(names("/sys/firmware"), [""; 0]);
    assert!(all["/dev/shm"].superblock.contains("size=65536k"));
    assert_eq!(
        std::fs::metadata("/dev/shm").unwrap().mode() & 0o7777,
        0o1777
    );
    assert!(all["/dev/pts"].superblock.contains("ptmxmode=666"));
    check_dev();
    let error = std::fs::write("/proc/sys/kernel/domainname", "x").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(30), "EROFS: {error}");
    assert!(
        !Path::new("/sys/kernel/notes").exists() || std::fs::write("/sys/power/state", "").is_err()
    );
}

fn check_dev() {
    for (name, major, minor) in [
        ("null", 1, 3),
        ("zero", 1, 5),
        ("full", 1, 7),
        ("random", 1, 8),
        ("urandom", 1, 9),
        ("tty", 5, 0),
    ] {
        let meta = std::fs::metadata(Path::new("/dev").join(name)).unwrap();
        assert!(meta.file_type().is_char_device(), "{name}");
        assert_eq!(meta.rdev(), makedev(major, minor), "{name}");
        assert_eq!(meta.mode() & 0o7777, 0o666, "{name}");
    }
    std::fs::write("/dev/null", "x").unwrap();
    for (name, to) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ] {
        let link = std::fs::read_link(Path::new("/dev").join(name)).unwrap();
        assert_eq!(link, Path::new(to), "{name}");
    }
}

#[test]
fn default_configuration() {
    alone(|| {
        let root = image();
        let before = names(root.path());
        contained(&usual(root.path()), |plan, context| {
            enter(plan, context);
            check();
            assert_eq!(std::env::current_dir().unwrap(), Path::new("/"));
        });
        assert_eq!(names(root.path()), before);
        assert_eq!(names(root.path().join("dev")), [""; 0]);
    });
}

#[test]
fn default_configuration_without_pivot() {
    alone(|| {
        let root = image();
        contained(&usual(root.path()), |plan, context| {
            let prepared = prepare(plan, context).unwrap();
            prepared.pivot(true).unwrap();
            prepared.finish().unwrap();
            check();
            assert_eq!(std::env::current_dir().unwrap(), Path::new("/"));
            let all = crate::support::mountinfo();
            assert_eq!(
                all.matches(" / /proc ").count(),
                1,
                "the host's proc is gone: {all}"
            );
        });
    });
}

#[test]
fn read_only_root_and_dev() {
    alone(|| {
        let root = image();
        let mut plan = usual(root.path());
        plan.root.readonly = true;
        plan.mounts[1].attrs.set |= MountAttrs::RDONLY;
        plan.mounts[1].superblock.ro = true;
        contained(&plan, |plan, context| {
            enter(plan, context);
            for path in ["/x", "/dev/x"] {
                let error = std::fs::write(path, "").unwrap_err();
                assert_eq!(error.raw_os_error(), Some(30), "{path}: {error}");
            }
            std::fs::write("/dev/shm/x", "").unwrap();
            std::fs::write("/dev/null", "x").unwrap();
        });
    });
}

#[test]
fn missing_root() {
    alone(|| {
        let root = image();
        let plan = bare(&root.path().join("none"));
        contained(&plan, |plan, context| {
            let error = prepare(plan, context).unwrap_err();
            assert_eq!(error.kind(), rootfs::ErrorKind::System(sys::Errno::NOENT));
            assert!(
                error.to_string().ends_with("no such file or directory"),
                "{error}"
            );
        });
    });
}

#[test]
fn configured_devices() {
    alone(|| {
        let root = image();
        let mut plan = bare(root.path());
        plan.mounts = vec![fs("/dev", "tmpfs", &[], 0)];
        plan.devices = vec![
            DevicePlan {
                mode: 0o640,
                uid: 1000,
                gid: 7,
                ..device("/dev/sub/dir/fuse", 10, 229)
            },
            DevicePlan {
                kind: DeviceKind::Block { major: 7, minor: 0 },
                ..device("/dev/loop0", 0, 0)
            },
            DevicePlan {
                kind: DeviceKind::Fifo,
                mode: 0o600,
                ..device("/etc/pipe", 0, 0)
            },
        ];
        contained(&plan, |plan, context| {
            enter(plan, context);
            let fuse = std::fs::metadata("/dev/sub/dir/fuse").unwrap();
            assert_eq!(
                (fuse.uid(), fuse.gid(), fuse.mode() & 0o777),
                (1000, 7, 0o640)
            );
            assert_eq!(fuse.rdev(), makedev(10, 229));
            assert!(
                std::fs::metadata("/dev/loop0")
                    .unwrap()
                    .file_type()
                    .is_block_device()
            );
            assert!(
                std::fs::metadata("/etc/pipe")
                    .unwrap()
                    .file_type()
                    .is_fifo()
            );
        });
    });
}

#[test]
fn existing_devices() {
    alone(|| {
        let root = image();
        let dev = root.path().join("dev");
        let node = |name: &str, minor| {
            let mode = rustix::fs::Mode::from_raw_mode(0o600);
            let kind = rustix::fs::FileType::CharacterDevice;
            rustix::fs::mknodat(
                rustix::fs::CWD,
                dev.join(name),
                kind,
                mode,
                makedev(1, minor),
            )
            .unwrap();
        };
        node("null", 3);
        node("zero", 3);
        let mut plan = bare(root.path());
        plan.devices = vec![device("/dev/null", 1, 3)];
        contained(&plan, enter);
        plan.devices = vec![device("/dev/zero", 1, 5)];
        contained(&plan, |plan, context| {
            let error = prepare(plan, context).unwrap_err().to_string();
            assert!(
                error.contains("/dev/zero") && error.contains("not"),
                "{error}"
            );
        });
    });
}

#[test]
fn bound_dev_is_left_alone() {
    alone(|| {
        let (root, dev) = (image(), image());
        let mut plan = usual(root.path());
        plan.mounts = vec![bind(dev.path(), "/dev", 0)];
        plan.masked_paths.clear();
        plan.readonly_paths.clear();
        let before = names(dev.path());
        contained(&plan, enter);
        assert_eq!(names(dev.path()), before);
    });
}

#[test]
fn kernel_parameters() {
    alone(|| {
        let root = image();
        let mut plan = usual(root.path());
        plan.sysctl = vec![
            (
                "net/ipv4/ip_unprivileged_port_start".to_owned(),
                "123".to_owned(),
            ),
            ("kernel/shmmni".to_owned(), "99".to_owned()),
        ];
        contained(&plan, |plan, context| {
            enter(plan, context);
            let read =
                |key: &str| std::fs::read_to_string(Path::new("/proc/sys").join(key)).unwrap();
            assert_eq!(read("net/ipv4/ip_unprivileged_port_start"), "123\n");
            assert_eq!(read("kernel/shmmni"), "99\n");
        });
        // Without a procfs in the container a private one serves.
        plan.mounts.clear();
        plan.masked_paths = paths(&["/etc"]);
        plan.sysctl[0].1 = "200".to_owned();
        contained(&plan, |plan, context| {
            enter(plan, context);
            assert_eq!(names("/proc"), [""; 0]);
            let procfs = rootfs::Procfs::whole().unwrap();
            let path = Path::new("sys/net/ipv4/ip_unprivileged_port_start");
            let fd = procfs.open(path, rustix::fs::OFlags::RDONLY).unwrap();
            assert_eq!(
                std::io::read_to_string(std::fs::File::from(fd)).unwrap(),
                "200\n"
            );
        });
        plan.sysctl = vec![("kernel/no_such_thing".to_owned(), "1".to_owned())];
        contained(&plan, |plan, context| {
            let prepared = prepare(plan, context).unwrap();
            prepared.pivot(false).unwrap();
            let error = prepared.finish().unwrap_err().to_string();
            assert!(
                error.starts_with("kernel parameter kernel/no_such_thing: "),
                "{error}"
            );
            assert!(error.ends_with("no such file or directory"), "{error}");
        });
    });
}

#[test]
fn in_a_joined_mount_namespace() {
    use spec::plan::{NamespaceKind, NamespaceMode};
    alone(|| {
        let root = image();
        let mut plan = usual(root.path());
        let kind = NamespaceKind::Mount.clone_flag();
        let path = std::path::PathBuf::from("/proc/self/ns/mnt");
        plan.namespaces
            .set(NamespaceKind::Mount, NamespaceMode::Join(path));
        contained(&plan, |plan, context| {
            sys::namespace::unshare(kind).unwrap();
            enter(plan, context);
            check();
        });
    });
}

#[test]
fn a_mount_over_the_root() {
    alone(|| {
        let root = image();
        let mut plan = usual(root.path());
        plan.mounts.insert(0, fs("/", "tmpfs", &["size=1m"], 0));
        plan.root.readonly = true;
        for no_pivot in [false, true] {
            contained(&plan, |plan, context| {
                let prepared = prepare(plan, context).unwrap();
                prepared.pivot(no_pivot).unwrap();
                prepared.finish().unwrap();
                check();
                assert_eq!(names("/"), ["dev", "proc", "sys"]);
                assert!(mounts()["/"].options.starts_with("ro"));
            });
        }
        assert_eq!(names(root.path()).len(), 6);
    });
}

#[test]
fn without_a_mount_namespace_only_the_root_changes() {
    use spec::plan::{NamespaceKind, NamespaceMode};
    alone(|| {
        let root = image();
        let mut plan = bare(root.path());
        plan.namespaces
            .set(NamespaceKind::Mount, NamespaceMode::Inherit);
        contained(&plan, |plan, context| {
            enter(plan, context);
            assert!(names("/").contains(&"rootfs".to_owned()));
        });
        plan.masked_paths = paths(&["/etc"]);
        contained(&plan, |plan, context| {
            let error = prepare(plan, context).unwrap_err();
            assert_eq!(error.kind(), rootfs::ErrorKind::Refused, "{error}");
        });
    });
}
