//! Lookups and creation inside a root.

use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;

use proptest::prelude::*;
use rootfs::{Last, Root, Want};
use rustix::fs::{CWD, Mode, OFlags, openat};
use sys::Errno;

use crate::support::{alone, alone_without, image, names};

fn root_of(path: &Path) -> Root {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Root::from_fd(openat(CWD, path, flags, Mode::empty()).unwrap())
}

/// Device and inode of what was placed.
fn id(fd: &std::os::fd::OwnedFd) -> (u64, u64) {
    let stat = rustix::fs::statat(fd, c"", rustix::fs::AtFlags::EMPTY_PATH).unwrap();
    (stat.st_dev, stat.st_ino)
}

fn id_of(path: &Path) -> (u64, u64) {
    let meta = std::fs::symlink_metadata(path).unwrap();
    (meta.dev(), meta.ino())
}

fn places() {
    let dir = image();
    let at = |p: &str| dir.path().join("rootfs").join(p);
    let root = root_of(&at(""));
    std::fs::create_dir_all(at("run")).unwrap();
    for (link, to) in [
        ("abs", "/run/made"),
        ("up", "../../../../run"),
        ("resolv.conf", "../run/systemd/stub.conf"),
        ("chain", "abs"),
        ("loop", "loop"),
        ("loop2", "/loop2/x"),
    ] {
        symlink(to, at(link)).unwrap();
    }
    for (path, want, expected) in [
        ("/new/deep/dir", Want::Directory, "new/deep/dir"),
        ("/new/deep/file", Want::File, "new/deep/file"),
        ("/up/sub", Want::Directory, "run/sub"),
        ("/chain/below", Want::File, "run/made/below"),
        ("/resolv.conf", Want::File, "run/systemd/stub.conf"),
        ("/../../../run/dots", Want::Directory, "run/dots"),
        ("/", Want::Directory, ""),
    ] {
        for round in ["made", "found"] {
            let fd = root.place(Path::new(path), want, Last::Follow).unwrap();
            assert_eq!(id(&fd), id_of(&at(expected)), "{path} {round}");
        }
        let meta = std::fs::metadata(at(expected)).unwrap();
        assert_eq!(meta.is_dir(), want == Want::Directory, "{path}");
    }
    for (path, errno) in [
        ("/loop/x", Errno::LOOP),
        ("/loop2", Errno::LOOP),
        ("/new/deep/file/below", Errno::NOTDIR),
    ] {
        let error = root
            .place(Path::new(path), Want::Directory, Last::Follow)
            .unwrap_err();
        assert_eq!(error.errno, errno, "{path}");
    }
    let link = (root.place(Path::new("/abs"), Want::File, Last::Nofollow)).unwrap();
    assert_eq!(id(&link), id_of(&at("abs")));
    assert_eq!(
        names(dir.path()),
        ["dev", "etc", "proc", "rootfs", "sys", "tmp"]
    );
}

#[test]
fn inside_the_root() {
    alone(places);
}

#[test]
fn inside_the_root_on_an_old_kernel() {
    alone_without("openat2", places);
}

/// A tree of directories and symlinks, and where to place something in it.
fn trees() -> impl Strategy<Value = (Vec<(String, Option<String>)>, String)> {
    let word = prop::sample::select(vec!["a", "b", "c", "..", "."]);
    let path = prop::collection::vec(word, 1..6).prop_map(|words| words.join("/"));
    let link = prop_oneof![
        path.clone(),
        path.clone().prop_map(|p| format!("/{p}")),
        Just("/OUTSIDE".to_owned()),
        Just("../../../../OUTSIDE".to_owned()),
    ];
    let entry = (path.clone(), prop::option::of(link));
    (prop::collection::vec(entry, 0..12), path)
}

fn stays_inside((entries, path): (Vec<(String, Option<String>)>, String)) {
    let dir = image();
    let (top, outside) = (dir.path().join("rootfs"), dir.path().join("tmp"));
    for (at, link) in entries {
        // Only what earlier links do not lead outside; some cannot be made, which does not matter.
        let at = top.join(at.replace("..", "d").replace("./", "").replace("/.", ""));
        let existing = at.ancestors().skip(1).find_map(|p| p.canonicalize().ok());
        if !existing.is_some_and(|p| p.starts_with(&top)) || at.is_symlink() {
            continue;
        }
        let _ = match link {
            Some(to) => symlink(to.replace("/OUTSIDE", &outside.display().to_string()), at),
            None => std::fs::create_dir_all(at),
        };
    }
    let before = below(&outside);
    let root = root_of(&top);
    for want in [Want::Directory, Want::File] {
        if let Ok(fd) = root.place(&Path::new("/").join(&path), want, Last::Follow) {
            use std::os::fd::AsRawFd as _;
            let real = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap();
            assert!(real.starts_with(&top), "{path} led to {real:?}");
        }
    }
    assert_eq!(below(&outside), before, "{path}");
    assert_eq!(names(dir.path()).len(), 6, "{path}");
}

/// Everything below a directory.
fn below(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut all = Vec::new();
    for name in names(dir) {
        let path = dir.join(name);
        if path.is_dir() && !path.is_symlink() {
            all.extend(below(&path));
        }
        all.push(path);
    }
    all
}

fn any_tree() {
    let config = ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(300)
    };
    proptest!(config, |(tree in trees())| stays_inside(tree));
}

#[test]
fn any_tree_keeps_everything_inside() {
    alone(any_tree);
}

#[test]
fn any_tree_keeps_everything_inside_on_an_old_kernel() {
    alone_without("openat2", any_tree);
}

#[test]
fn magic_links_are_refused() {
    alone(|| {
        let root = Root::current().unwrap();
        for path in ["/proc/self/cwd", "/proc/self/fd/0", "/proc/self/root/etc"] {
            let error = root.directory(Path::new(path)).unwrap_err();
            assert_eq!(error.errno, Errno::LOOP, "{path}: {error}");
        }
        assert!(root.directory(Path::new("/proc/self")).is_ok());
    });
}

#[test]
fn working_directory() {
    alone(|| {
        let dir = image();
        let root = root_of(dir.path());
        let fd = root.directory(Path::new("/srv/app")).unwrap();
        assert_eq!(id(&fd), id_of(&dir.path().join("srv/app")));
        std::fs::write(dir.path().join("etc/passwd"), "").unwrap();
        let error = root.directory(Path::new("/etc/passwd")).unwrap_err();
        assert_eq!(error.errno, Errno::NOTDIR);
    });
}
