//! The same images through skopeo and umoci, and through hull: the trees are the same in every
//! attribute.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use image::Reference;
use image::bundle::{UnpackOptions, unpack};
use image::store::{Format, MountOptions, PullOptions, Store, StoreOptions};

use crate::archive::{Archive, Meta};
use crate::basics::two_layers;
use crate::compare::{Allow, same};
use crate::layout::{Layout, Pack};

pub fn run(program: &str, args: &[&str]) -> Vec<u8> {
    let out = Command::new(program).args(args).output().unwrap();
    let error = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{program} {args:?}: {error}");
    out.stdout
}

/// A tree as a tar stream, by GNU tar.
fn tar_of(dir: &Path) -> Vec<u8> {
    let dir = dir.to_str().unwrap();
    run(
        "tar",
        &[
            "--create",
            "--format=pax",
            "--pax-option=delete=atime,delete=ctime",
            "--xattrs",
            "--numeric-owner",
            "--sort=name",
            "-C",
            dir,
            ".",
        ],
    )
}

fn seconds_now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap()
}

/// Compares what umoci unpacks with hull's bundle, and with both formats of the store.
pub fn compare(layers: &[Vec<u8>], pack: Pack) {
    let mut layout = Layout::new();
    layout.image("v", layers, pack);
    let work = tempfile::tempdir().unwrap();
    let at = |name: &str| work.path().join(name);
    let before = seconds_now();
    let copy = at("copy");
    let source = format!("oci:{}:v", layout.path().display());
    let target = format!("oci:{}:v", copy.display());
    run(
        "skopeo",
        &["--insecure-policy", "copy", "-q", &source, &target],
    );
    let image = format!("{}:v", copy.display());
    let theirs = at("theirs");
    run(
        "umoci",
        &["unpack", "--image", &image, theirs.to_str().unwrap()],
    );
    let allow = Allow {
        younger_than: before,
    };
    let theirs = theirs.join("rootfs");

    let ours = at("ours");
    unpack(&layout.source("v"), &ours, &UnpackOptions::default()).unwrap();
    same("bundle", &theirs, &ours.join("rootfs"), allow);

    for format in [Format::Directory, Format::Erofs] {
        let options = StoreOptions {
            format: Some(format),
            ..StoreOptions::default()
        };
        let root = at(&format!("{format:?}"));
        let store = Store::open_with(&root, &options).unwrap();
        let name = Reference::parse("x/y:v").unwrap();
        let image = store
            .pull(&layout.source("v"), &name, &PullOptions::default())
            .unwrap();
        let rootfs = store
            .mount(&image.id, "c", &MountOptions::default())
            .unwrap();
        let undo = Unmount(&store);
        same(&format!("{format:?}"), &theirs, &rootfs.path, allow);
        check_images(&root);
        drop(undo);
        let report = store.check().unwrap();
        assert!(report.broken.is_empty(), "{report:#?}");
        assert_eq!(report.layers, layers.len());
    }
}

/// Leaves no mount, also when a comparison fails.
struct Unmount<'a>(&'a Store);

impl Drop for Unmount<'_> {
    fn drop(&mut self) {
        let _ = self.0.remove_rootfs("c");
    }
}

/// erofs-utils' own opinion of our images.
fn check_images(root: &Path) {
    for layer in std::fs::read_dir(root.join("layers")).unwrap() {
        let image = layer.unwrap().path().join("layer.erofs");
        if image.exists() {
            run("fsck.erofs", &[image.to_str().unwrap()]);
        }
    }
}

#[test]
fn every_rule_between_layers() {
    compare(&two_layers(), Pack::Gzip);
}

/// Busybox with an applet as a hard link and one as a symbolic link each.
#[test]
fn busybox() {
    let dir = tempfile::tempdir().unwrap();
    let bin = dir.path().join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    std::fs::copy("/bin/busybox", bin.join("busybox")).unwrap();
    let applets = run("/bin/busybox", &["--list"]);
    for (i, applet) in String::from_utf8(applets).unwrap().lines().enumerate() {
        if applet == "busybox" {
            continue;
        }
        if i % 2 == 0 {
            std::fs::hard_link(bin.join("busybox"), bin.join(applet)).unwrap();
        } else {
            std::os::unix::fs::symlink("busybox", bin.join(applet)).unwrap();
        }
    }
    compare(&[tar_of(dir.path())], Pack::Plain);
}

/// Debian's smallest system, made once and kept beside what is built.
fn debian() -> Vec<u8> {
    let cache = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("debian-minimal.tar");
    if !cache.exists() {
        let fresh = cache.with_extension(format!("{}.tar", std::process::id()));
        run(
            "mmdebstrap",
            &[
                "--quiet",
                "--variant=minbase",
                "bookworm",
                fresh.to_str().unwrap(),
            ],
        );
        std::fs::rename(&fresh, &cache).unwrap();
    }
    std::fs::read(cache).unwrap()
}

/// A system, a program on top with its configuration, and a layer that cleans up.
#[test]
fn debian_and_layers_on_it() {
    let server = Archive::new()
        .dir("etc")
        .dir("etc/nginx")
        .file("etc/nginx/nginx.conf", b"events {}\n")
        .dir("usr/share/nginx")
        .file("usr/share/nginx/index.html", b"<html>\n")
        .file_with("usr/sbin/nginx", &vec![0x7f; 1_300_001], &Meta::mode(0o755))
        .dir_with("var/lib/nginx", &Meta::mode(0o700).owner(33, 33))
        .symlink("var/log/nginx/access.log", "/dev/stdout")
        // Through the merged /usr of the layer below.
        .file("lib/nginx-modules/one.so", b"module")
        .done();
    let clean = Archive::new()
        .file("usr/share/doc/.wh..wh..opq", b"")
        .file("var/lib/apt/.wh.lists", b"")
        .file("etc/.wh.motd", b"")
        .file(
            "etc/nginx/nginx.conf",
            b"events { worker_connections 5; }\n",
        )
        .done();
    compare(&[debian(), server, clean], Pack::Gzip);
}

#[test]
fn sixty_layers() {
    let layer = |i: u32| {
        let mut archive = Archive::new().dir(&format!("d{}", i % 7));
        for file in 0..30 {
            let name = format!("d{}/f{}", i % 7, (i * 13 + file) % 90);
            archive = archive.file(&name, format!("{i} {file}").repeat(50).as_bytes());
        }
        if i % 5 == 4 {
            archive = archive.file(&format!("d{}/.wh.f{}", (i + 3) % 7, i), b"");
        }
        if i % 11 == 10 {
            archive = archive.file(&format!("d{}/.wh..wh..opq", (i + 1) % 7), b"");
        }
        archive.done()
    };
    let layers: Vec<_> = (0..60).map(layer).collect();
    compare(&layers, Pack::Gzip);
}
