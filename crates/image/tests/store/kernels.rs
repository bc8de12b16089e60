//! The ways for kernels that lack a call: each in a process of its own, for what is faked is
//! read once.

use std::process::Command;

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

fn with(faked: &str) {
    let out = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "kernels::mounter"])
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
