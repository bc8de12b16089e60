//! Images and neighbours that try to get out. The classes are those of past CVEs.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rootfs::{Procfs, prepare};
use rustix::fs::{CWD, OFlags, RenameFlags, renameat_with};
use spec::Plan;
use spec::plan::{MountAttrs, NamespaceKind};
use sys::Errno;
use sys::process::{CloneArgs, Cloned, clone3};

use crate::support::{
    alone, alone_without, bare, bind, contained, enter, fs, image, mounts, names, paths, refusal,
    usual,
};

/// Replaces a directory of the image by a symlink.
fn replace(root: &Path, name: &str, to: &Path) {
    let at = root.join(name);
    std::fs::remove_dir(&at).unwrap();
    symlink(to, at).unwrap();
}

/// CVE-2019-19921, CVE-2023-27561, CVE-2023-28642.
#[test]
fn proc_and_sys_that_are_symlinks() {
    for name in ["proc", "sys"] {
        alone(|| {
            let (root, host) = (image(), image());
            replace(root.path(), name, host.path());
            contained(&usual(root.path()), |plan, context| {
                let error = refusal(plan, context);
                assert!(error.contains("ordinary directory"), "{error}");
            });
            replace_link(root.path(), name, Path::new("etc"));
            contained(&usual(root.path()), |plan, context| {
                let error = refusal(plan, context);
                assert!(error.contains("ordinary directory"), "{error}");
            });
        });
    }
}

fn replace_link(root: &Path, name: &str, to: &Path) {
    std::fs::remove_file(root.join(name)).unwrap();
    symlink(to, root.join(name)).unwrap();
}

/// CVE-2026-41579: `/dev` of the image points to a directory of the host.
fn dev_that_is_a_symlink() {
    let (root, host) = (image(), image());
    let before = names(host.path());
    replace(root.path(), "dev", host.path());
    // With a tmpfs there, and without: then nodes and links go to the image itself.
    let mut plan = usual(root.path());
    contained(&plan, |plan, context| {
        enter(plan, context);
        std::fs::write("/dev/null", "x").unwrap();
    });
    plan.mounts.retain(|m| !m.destination.starts_with("/dev"));
    contained(&plan, enter);
    assert_eq!(names(host.path()), before, "the host's directory changed");
    let inside = root.path().join(host.path().strip_prefix("/").unwrap());
    assert!(
        names(inside).contains(&"null".to_owned()),
        "inside the root instead"
    );
}

#[test]
fn symlinked_dev() {
    alone(dev_that_is_a_symlink);
}

#[test]
fn symlinked_dev_on_an_old_kernel() {
    alone_without(
        "openat2,open_tree,fsopen,mount_setattr",
        dev_that_is_a_symlink,
    );
}

#[test]
fn mount_targets_that_point_outside() {
    alone(|| {
        let (root, host, volume) = (image(), image(), image());
        let before = names(host.path());
        let up: PathBuf = std::iter::repeat_n("..", 20).collect();
        for (n, to) in [
            host.path().to_owned(),
            up.join(host.path().strip_prefix("/").unwrap()),
        ]
        .into_iter()
        .enumerate()
        {
            symlink(to, root.path().join(format!("link{n}"))).unwrap();
        }
        let mut plan = bare(root.path());
        plan.mounts = vec![
            bind(volume.path(), "/link0/new", 0),
            bind(volume.path(), "/link1/new2", 0),
            fs("/link1/tmpfs", "tmpfs", &[], 0),
        ];
        contained(&plan, enter);
        assert_eq!(names(host.path()), before);
    });
}

/// CVE-2019-16884: a volume over a part of procfs.
#[test]
fn mounts_over_procfs() {
    alone(|| {
        let (root, host) = (image(), image());
        symlink("/proc", root.path().join("alias")).unwrap();
        std::fs::write(host.path().join("cpuinfo"), "fake").unwrap();
        let attempt = |mount| {
            let mut plan = usual(root.path());
            plan.mounts.push(mount);
            plan
        };
        for at in [
            "/proc",
            "/proc/self/attr",
            "/proc/sys/kernel",
            "/alias/sys",
            "/proc/1",
        ] {
            for mount in [bind(host.path(), at, 0), fs(at, "tmpfs", &[], 0)] {
                contained(&attempt(mount), |plan, context| {
                    let error = refusal(plan, context);
                    assert!(error.contains("cannot be mounted"), "{at}: {error}");
                });
            }
        }
        let allowed = bind(&host.path().join("cpuinfo"), "/proc/cpuinfo", 0);
        contained(&attempt(allowed), |plan, context| {
            enter(plan, context);
            assert_eq!(std::fs::read("/proc/cpuinfo").unwrap(), b"fake");
        });
        let mut plan = usual(root.path());
        plan.mounts[0] = bind(Path::new("/proc"), "/proc", 0);
        contained(&plan, enter);
    });
}

/// CVE-2025-31133: what covers masked files is not the null device.
#[test]
fn a_null_device_that_is_none() {
    alone(|| {
        let (root, dev) = (image(), image());
        let mut plan = bare(root.path());
        plan.mounts = vec![fs("/proc", "proc", &[], 0), bind(dev.path(), "/dev", 0)];
        plan.masked_paths = paths(&["/proc/keys"]);
        let null = dev.path().join("null");
        let fakes: [&dyn Fn(); 4] = [
            &|| symlink("/proc/sys/kernel/core_pattern", &null).unwrap(),
            &|| std::fs::write(&null, "").unwrap(),
            &|| std::fs::create_dir(&null).unwrap(),
            &|| {
                let kind = rustix::fs::FileType::CharacterDevice;
                let number = rustix::fs::makedev(1, 5);
                rustix::fs::mknodat(CWD, &null, kind, 0o666.into(), number).unwrap();
            },
        ];
        for fake in fakes {
            fake();
            contained(&plan, |plan, context| {
                let prepared = prepare(plan, context).unwrap();
                prepared.pivot(false).unwrap();
                let error = prepared.finish().unwrap_err().to_string();
                assert!(error.contains("/dev/null"), "{error}");
                assert!(!mounts().contains_key("/proc/keys"));
            });
            let _ = std::fs::remove_file(&null).or_else(|_| std::fs::remove_dir(&null));
        }
    });
}

/// CVE-2025-52881: a write for procfs is led elsewhere.
#[test]
fn a_procfs_that_is_none() {
    for without in ["", "openat2", "fsopen", "fsopen,open_tree,openat2"] {
        alone_without(without, || {
            let root = image();
            let etc = root.path().join("etc");
            for dir in ["sys/net/ipv4", "self/attr", "self/fd"] {
                std::fs::create_dir_all(etc.join(dir)).unwrap();
            }
            std::fs::write(etc.join("self/attr/exec"), "").unwrap();
            let mut plan = bare(root.path());
            plan.mounts = vec![fs("/proc", "proc", &[], 0), bind(&etc, "/fake", 0)];
            contained(&plan, |plan, context| {
                enter(plan, context);
                let error = Procfs::from_fd(std::fs::File::open("/fake").unwrap()).unwrap_err();
                assert_eq!(error.errno, Errno::NODEV, "{error}");
                let error =
                    Procfs::from_fd(std::fs::File::open("/proc/self").unwrap()).unwrap_err();
                assert_eq!(error.errno, Errno::NODEV, "{error}");
                covered_procfs();
            });
        });
    }
}

/// Covers a file of `/proc` as a hostile mount would, and the whole.
fn covered_procfs() {
    let name = Path::new("self/comm");
    let whole = Procfs::from_fd(std::fs::File::open("/proc").unwrap()).unwrap();
    whole.write(name, b"mine").unwrap();
    assert_eq!(std::fs::read("/proc/self/comm").unwrap(), b"mine\n");
    let me = std::fs::read_link("/proc/self").unwrap();
    let comm = Path::new("/proc").join(me).join("comm");
    rustix::mount::mount_bind("/fake/self/attr/exec", &comm).unwrap();
    let error = whole.write(name, b"stolen").unwrap_err();
    assert_eq!(error.errno, Errno::XDEV, "{error}");
    // A private instance is not covered; where the kernel cannot give one, nothing is written.
    if let Err(error) = Procfs::processes().unwrap().write(name, b"private") {
        assert_eq!(error.errno, Errno::XDEV, "{error}");
    }
    assert_eq!(std::fs::read("/fake/self/attr/exec").unwrap(), b"");
    for out in ["self/cwd/etc", "self/root", "../etc", "self/fd/0"] {
        assert!(whole.open(Path::new(out), OFlags::RDONLY).is_err(), "{out}");
    }
}

/// CVE-2021-30465, CVE-2024-45310: a neighbour on a shared volume swaps a directory of the mount
/// point for a symlink to the host while the mount is made.
fn swapped_while_mounting() {
    let (root, host, volume) = (image(), image(), image());
    let before = names(host.path());
    let a = root.path().join("tmp/a");
    let b = root.path().join("tmp/b");
    std::fs::create_dir(&a).unwrap();
    symlink(host.path(), &b).unwrap();
    let (stop, stopper) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).unwrap();
    let racer = match clone3(&CloneArgs::default()).unwrap() {
        Cloned::Child => {
            drop(stopper);
            while rustix::io::read(&stop, &mut [0u8; 1]) == Err(Errno::AGAIN) {
                let _ = renameat_with(CWD, &a, CWD, &b, RenameFlags::EXCHANGE);
            }
            sys::process::exit_now(0)
        }
        Cloned::Parent { pidfd, .. } => pidfd,
    };
    assert!(
        naive_escapes(&a.join("x"), &host.path().join("x")),
        "the race is too slow to show anything"
    );
    let mut plan = bare(root.path());
    plan.mounts = vec![
        bind(volume.path(), "/tmp/a/x/dir", MountAttrs::RDONLY),
        bind(&volume.path().join("etc"), "/tmp/a/y", 0),
    ];
    contained(&plan, |plan, _| mount_many_times(plan));
    drop(stopper);
    use std::os::fd::AsFd as _;
    let id = rustix::process::WaitId::PidFd(racer.as_fd());
    rustix::process::waitid(id, rustix::process::WaitIdOptions::EXITED).unwrap();
    assert_eq!(names(host.path()), before, "something was made on the host");
}

/// Whether a path joined to the root leads outside at least once: the attack works on that.
fn naive_escapes(path: &Path, outside: &Path) -> bool {
    let end = Instant::now() + Duration::from_secs(10);
    while Instant::now() < end {
        let _ = std::fs::create_dir(path);
        if std::fs::remove_dir(outside).is_ok() {
            return true;
        }
    }
    false
}

fn mount_many_times(plan: &Plan) {
    let host_mounts = |root: &Path| {
        let root = root.display().to_string();
        mounts()
            .into_keys()
            .filter(|at| !at.starts_with(&root))
            .count()
    };
    let before = host_mounts(&plan.root.path);
    let end = Instant::now() + Duration::from_secs(4);
    let (mut rounds, mut made) = (0u32, 0u32);
    while Instant::now() < end && rounds < 20_000 {
        sys::namespace::unshare(NamespaceKind::Mount.clone_flag()).unwrap();
        made += u32::from(prepare(plan, rootfs::Context::default()).is_ok());
        rustix::process::chdir("/").unwrap();
        if rounds % 100 == 0 {
            assert_eq!(
                host_mounts(&plan.root.path),
                before,
                "a mount outside the root"
            );
        }
        let root = rustix::mount::unmount(&plan.root.path, rustix::mount::UnmountFlags::DETACH);
        root.unwrap();
        // Begin anew, so that directories have to be made again.
        for dir in ["a", "b"] {
            let _ = std::fs::remove_dir_all(plan.root.path.join("tmp").join(dir).join("x"));
        }
        rounds += 1;
    }
    println!("{rounds} rounds, {made} mounted");
    assert!(rounds > 100 && made > 0, "{rounds} rounds, {made} mounted");
}

#[test]
fn racing_neighbour() {
    alone(swapped_while_mounting);
}

#[test]
fn racing_neighbour_on_an_old_kernel() {
    alone_without(
        "openat2,open_tree,fsopen,mount_setattr",
        swapped_while_mounting,
    );
}
