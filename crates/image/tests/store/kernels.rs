//! The ways for kernels that lack a call: each in a process of its own, for what is faked is
//! read once.

use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use image::Reference;
use image::store::{Format, MountOptions, PullOptions, Store, StoreOptions};

use crate::archive::Archive;
use crate::basics::{check_two_layers, two_layers};
use crate::layout::{Layout, Pack};

/// Not a test by itself: pulls and mounts with whatever is faked.
#[test]
#[ignore = "run by the others"]
fn mounter() {
    for format in [Format::Directory, Format::Erofs] {
        let mut layout = Layout::new();
        layout.image("v", &two_layers(), Pack::Gzip);
        layout.image(
            "one",
            &[Archive::new().file("f", b"one").done()],
            Pack::Gzip,
        );
        let dir = tempfile::tempdir().unwrap();
        let options = StoreOptions {
            format: Some(format),
            ..StoreOptions::default()
        };
        let store = Store::open_with(dir.path(), &options).unwrap();
        let pull = |tag: &str| {
            let name = Reference::parse(&format!("x/y:{tag}")).unwrap();
            store
                .pull(&layout.source(tag), &name, &PullOptions::default())
                .unwrap()
        };
        let image = pull("v");
        let rootfs = store
            .mount(&image.id, "c", &MountOptions::default())
            .unwrap();
        check_two_layers(&rootfs.path);
        std::fs::write(rootfs.path.join("etc/mine"), "mine").unwrap();
        store.remove_rootfs("c").unwrap();
        let read_only = MountOptions {
            read_only: true,
            ..MountOptions::default()
        };
        let rootfs = store.mount(&pull("one").id, "c", &read_only).unwrap();
        assert_eq!(std::fs::read(rootfs.path.join("f")).unwrap(), b"one");
        assert!(std::fs::write(rootfs.path.join("f"), "").is_err());
        store.remove_rootfs("c").unwrap();
    }
}

/// A process in a user namespace whose root is 100000 outside.
fn in_user_namespace() -> Child {
    let mut child = Command::new("unshare")
        .args(["--user", "sh", "-c", "echo; exec sleep 60"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = [0];
    child.stdout.take().unwrap().read_exact(&mut line).unwrap();
    for map in ["uid_map", "gid_map"] {
        std::fs::write(format!("/proc/{}/{map}", child.id()), "0 100000 65536").unwrap();
    }
    child
}

/// Not a test by itself: mounts with the ids of a user namespace, with whatever is faked.
#[test]
#[ignore = "run by the others"]
fn mapper() {
    let mut child = in_user_namespace();
    let userns = std::fs::File::open(format!("/proc/{}/ns/user", child.id())).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    for format in [Format::Directory, Format::Erofs] {
        let mut layout = Layout::new();
        layout.image("v", &two_layers(), Pack::Gzip);
        let one = Archive::new().file("f", b"one").done();
        layout.image("one", &[one], Pack::Gzip);
        let dir = tempfile::tempdir().unwrap();
        let options = StoreOptions {
            format: Some(format),
            ..StoreOptions::default()
        };
        let store = Store::open_with(dir.path(), &options).unwrap();
        let mounted = |tag: &str, read_only| {
            let name = Reference::parse(&format!("x/y:{tag}")).unwrap();
            let options = MountOptions {
                user_namespace: Some(userns.as_fd()),
                read_only,
                volatile: true,
                ..MountOptions::default()
            };
            let pull = PullOptions::default();
            let image = store.pull(&layout.source(tag), &name, &pull).unwrap();
            store.mount(&image.id, "c", &options).unwrap().path
        };
        let owner = |path: &Path| std::fs::metadata(path).unwrap().uid();
        let path = mounted("v", false);
        assert_eq!(owner(&path.join("etc")), 100_005);
        std::fs::write(path.join("etc/mine"), "mine").unwrap();
        let beside = std::fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(beside, 1, "the container's mount point alone");
        store.remove_rootfs("c").unwrap();
        let path = mounted("one", true);
        assert_eq!(owner(&path.join("f")), 100_000);
        assert!(std::fs::write(path.join("f"), "").is_err());
        store.remove_rootfs("c").unwrap();
    }
}

#[test]
fn with_the_ids_of_a_user_namespace() {
    run("kernels::mapper", "");
    run("kernels::mapper", "overlay_lowerdir_add");
}

fn with(faked: &str) {
    run("kernels::mounter", faked);
}

fn run(test: &str, faked: &str) {
    let out = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", test])
        .env(sys::knob::FAKE_ENOSYS, faked)
        .output()
        .unwrap();
    assert!(
        out.status.success(),
        "{faked}: {}",
        String::from_utf8_lossy(&out.stdout)
    );
}

#[test]
fn without_images_from_files() {
    with("erofs_file");
}

#[test]
fn without_appending_lower_directories() {
    with("overlay_lowerdir_add");
}

#[test]
fn without_attributes_of_mounts() {
    with("mount_setattr");
    with("open_tree");
}

/// The format is the kernel's best, and a store of one goes on with the other.
#[test]
fn formats_live_together() {
    let mut layout = Layout::new();
    layout.image("v", &two_layers(), Pack::Gzip);
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(
        Store::open(dir.path()).unwrap().format().unwrap(),
        Format::Erofs
    );
    let open = |format| {
        let options = StoreOptions {
            format: Some(format),
            ..StoreOptions::default()
        };
        Store::open_with(dir.path(), &options).unwrap()
    };
    let name = Reference::parse("x/y:v").unwrap();
    open(Format::Directory)
        .pull(&layout.source("v"), &name, &PullOptions::default())
        .unwrap();
    let mut more = two_layers();
    more.push(
        Archive::new()
            .file("etc/third", b"3")
            .file("lib/.wh.libc.so", b"")
            .done(),
    );
    layout.image("v", &more, Pack::Zstd);
    let store = open(Format::Erofs);
    let image = store
        .pull(&layout.source("v"), &name, &PullOptions::default())
        .unwrap();
    let formats: Vec<_> = store
        .inspect(&image.id)
        .unwrap()
        .layers
        .iter()
        .map(|l| l.format)
        .collect();
    assert_eq!(
        formats,
        [Format::Directory, Format::Directory, Format::Erofs]
    );
    let rootfs = store
        .mount(&image.id, "c", &MountOptions::default())
        .unwrap();
    let third = std::fs::read(rootfs.path.join("etc/third"));
    let gone = rootfs.path.join("usr/lib/libc.so").exists();
    store.remove_rootfs("c").unwrap();
    assert_eq!((third.unwrap(), gone), (b"3".to_vec(), false));
}
