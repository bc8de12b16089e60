//! Lookups and creation inside a root.

use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;

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
