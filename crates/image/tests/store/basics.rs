//! An image's way through the store.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use image::Reference;
use image::store::{Format, MountOptions, PullOptions, Store, StoreOptions};

use crate::archive::{Archive, Meta};
use crate::layout::{Layout, Pack};

fn name(text: &str) -> Reference {
    Reference::parse(text).unwrap()
}

/// Two layers that use every rule that works between layers.
pub fn two_layers() -> Vec<Vec<u8>> {
    let lower = Archive::new()
        .dir_with("./", &Meta::mode(0o711))
        .dir_with("etc", &Meta::mode(0o750).owner(5, 6))
        .file("etc/passwd", b"root:x:0:0::/:/bin/sh\n")
        .file("etc/gone", b"gone")
        .dir("full")
        .file("full/a", b"a")
        .file("full/b", b"b")
        .dir("usr/lib")
        .symlink("lib", "usr/lib")
        .file_with("bin/su", &[7; 5000], &Meta::mode(0o4755).owner(0, 42))
        .char_device("dev/null", 1, 3)
        .fifo("run/pipe")
        .hard_link("bin/sudo", "bin/su")
        .done();
    let upper = Archive::new()
        .file("etc/.wh.gone", b"")
        .file("etc/new", b"new")
        .file("full/.wh..wh..opq", b"")
        .file("full/c", b"c")
        .file("lib/libc.so", b"code")
        .hard_link("etc/accounts", "etc/passwd")
        .done();
    vec![lower, upper]
}

pub fn check_two_layers(root: &Path) {
    let stat = |p: &str| std::fs::symlink_metadata(root.join(p)).unwrap();
    assert_eq!(stat("").permissions().mode() & 0o7777, 0o711);
    assert_eq!(
        (
            stat("etc").mode() & 0o7777,
            stat("etc").uid(),
            stat("etc").gid()
        ),
        (0o750, 5, 6)
    );
    assert_eq!(stat("etc").mtime(), 1_700_000_000);
    assert!(!root.join("etc/gone").exists());
    assert_eq!(std::fs::read(root.join("etc/new")).unwrap(), b"new");
    let listed = |p: &str| {
        let mut all: Vec<String> = std::fs::read_dir(root.join(p))
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        all.sort();
        all
    };
    assert_eq!(listed("full"), ["c"]);
    assert_eq!(listed("etc"), ["accounts", "new", "passwd"]);
    assert!(stat("lib").file_type().is_symlink());
    assert_eq!(
        std::fs::read(root.join("usr/lib/libc.so")).unwrap(),
        b"code"
    );
    assert_eq!(
        (stat("bin/su").mode() & 0o7777, stat("bin/su").gid()),
        (0o4755, 42)
    );
    assert_eq!(stat("bin/su").size(), 5000);
    assert_eq!(stat("etc/passwd").ino(), stat("etc/accounts").ino());
    assert!(stat("dev/null").file_type().is_char_device());
    assert_eq!(stat("dev/null").rdev(), rustix::fs::makedev(1, 3));
    assert!(stat("run/pipe").file_type().is_fifo());
}

#[test]
fn pulled_mounted_and_removed() {
    for (pack, format) in [
        (Pack::Plain, Format::Directory),
        (Pack::Gzip, Format::Erofs),
        (Pack::Zstd, Format::Erofs),
    ] {
        let mut layout = Layout::new();
        layout.image("v1", &two_layers(), pack);
        let dir = tempfile::tempdir().unwrap();
        let options = StoreOptions {
            format: Some(format),
            ..StoreOptions::default()
        };
        let store = Store::open_with(dir.path(), &options).unwrap();
        let image = store
            .pull(
                &layout.source("v1"),
                &name("x/y:v1"),
                &PullOptions::default(),
            )
            .unwrap();
        assert_eq!(store.find("x/y:v1").unwrap().id, image.id);
        assert_eq!(store.find(image.id.short()).unwrap().id, image.id);
        let rootfs = store
            .mount(&image.id, "c1", &MountOptions::default())
            .unwrap();
        check_two_layers(&rootfs.path);
        std::fs::write(rootfs.path.join("etc/written"), "mine").unwrap();
        assert!(store.usage("c1").unwrap().0 >= 4096);
        assert!(
            store
                .remove(&image.id)
                .unwrap_err()
                .to_string()
                .contains("c1")
        );
        store.unmount("c1").unwrap();
        let again = store
            .mount(&image.id, "c1", &MountOptions::default())
            .unwrap();
        assert_eq!(
            std::fs::read(again.path.join("etc/written")).unwrap(),
            b"mine"
        );
        store.remove_rootfs("c1").unwrap();
        let read_only = MountOptions {
            read_only: true,
            ..MountOptions::default()
        };
        let volume = store.mount(&image.id, "c2", &read_only).unwrap();
        check_two_layers(&volume.path);
        assert!(std::fs::write(volume.path.join("etc/written"), "mine").is_err());
        store.remove_rootfs("c2").unwrap();
        assert_eq!(store.remove(&image.id).unwrap().layers.len(), 2);
        for part in [
            "layers",
            "tmp",
            "containers",
            "mnt/containers",
            "mnt/layers",
        ] {
            let left = std::fs::read_dir(dir.path().join(part)).unwrap().count();
            assert_eq!(left, 0, "{part}");
        }
    }
}

#[test]
fn the_next_one_knows_the_containers_unless_a_power_cut_took_their_records() {
    let mut layout = Layout::new();
    layout.image("v1", &two_layers(), Pack::Gzip);
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let pulled = store.pull(
        &layout.source("v1"),
        &name("x/y:v1"),
        &PullOptions::default(),
    );
    let image = pulled.unwrap().id;
    for id in ["kept", "torn", "lost"] {
        let options = MountOptions {
            volatile: id != "kept",
            ..MountOptions::default()
        };
        let root = store.mount(&image, id, &options).unwrap();
        std::fs::write(root.path.join("etc/written"), "mine").unwrap();
    }
    drop(store);
    let record = |id: &str| dir.path().join("containers").join(id).join("record");
    std::fs::write(record("torn"), "").unwrap();
    std::fs::remove_file(record("lost")).unwrap();
    let look = Store::open_read_only(dir.path()).unwrap();
    assert_eq!(look.mounts().len(), 1);
    let store = Store::open(dir.path()).unwrap();
    let ids: Vec<String> = store.mounts().into_iter().map(|m| m.id).collect();
    assert_eq!(ids, ["kept"]);
    let kept = store.mounted("kept").unwrap();
    assert_eq!(
        std::fs::read(kept.path.join("etc/written")).unwrap(),
        b"mine"
    );
    let left = std::fs::read_dir(dir.path().join("containers")).unwrap();
    assert_eq!(left.count(), 1);
    let refused = store.remove(&image).unwrap_err().to_string();
    assert!(refused.contains("container kept"), "{refused}");
    store.remove_rootfs("kept").unwrap();
    store.remove(&image).unwrap();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(dir.path().to_str().unwrap()));
}

/// What containers get mounted over is there, below the image, and nothing of it in a container's
/// own layer.
#[test]
fn mount_points_lie_below_the_image() {
    let mut layout = Layout::new();
    let archive = Archive::new()
        .dir("etc")
        .file("etc/hosts", b"the image's")
        .done();
    layout.image("v1", &[archive], Pack::Gzip);
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let source = layout.source("v1");
    let pulled = store.pull(&source, &name("x/y:v1"), &PullOptions::default());
    let image = pulled.unwrap().id;
    let options = MountOptions {
        mount_points: true,
        ..MountOptions::default()
    };
    let root = store.mount(&image, "c", &options).unwrap();
    let read = |path: &str| std::fs::read_to_string(root.path.join(path));
    assert_eq!(read("etc/hosts").unwrap(), "the image's");
    assert_eq!(read("etc/resolv.conf").unwrap(), "");
    for (path, mode) in [("proc", 0o755), ("dev", 0o755), ("etc/hostname", 0o644)] {
        let metadata = std::fs::metadata(root.path.join(path)).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o7777, mode, "{path}");
    }
    let upper = root.upper.clone().unwrap();
    assert_eq!(std::fs::read_dir(&upper).unwrap().count(), 0);
    assert!(store.changes("c").unwrap().is_empty());
    std::fs::remove_file(root.path.join("etc/hostname")).unwrap();
    assert!(read("etc/hostname").is_err());
    let plain = store.mount(&image, "d", &MountOptions::default()).unwrap();
    assert!(!plain.path.join("proc").exists());
    // One that was half made when the power went is made whole.
    std::fs::remove_file(dir.path().join("points/etc/hosts")).unwrap();
    for id in ["c", "d"] {
        store.remove_rootfs(id).unwrap();
    }
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    assert!(dir.path().join("points/etc/hosts").exists());
    drop(store);
}

/// On ext4, containers' directories do not share a place on the disk.
#[test]
fn containers_are_spread_over_the_disk() {
    use rustix::fs::{IFlags, ioctl_getflags, statfs};
    const EXT4: i64 = 0xef53;
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open(dir.path()).unwrap());
    for part in ["containers", "mnt/containers"] {
        let path = dir.path().join(part);
        let flags = ioctl_getflags(std::fs::File::open(&path).unwrap());
        let spread = flags.is_ok_and(|flags| flags.contains(IFlags::TOPDIR));
        assert_eq!(spread, statfs(&path).unwrap().f_type == EXT4, "{part}");
    }
}

/// A layer that changes its own mind keeps its last word, and can still be proven.
#[test]
fn a_layer_that_replaces_what_it_has() {
    let archive = Archive::new()
        .file("file-then-dir", b"gone")
        .file("file-then-dir/now", b"inside")
        .dir("dir-then-file")
        .file("dir-then-file/gone", b"gone too")
        .file("dir-then-file", b"a file")
        .file("twice", b"one")
        .file("twice", b"two, longer")
        .symlink("link-then-dir", "nowhere")
        .dir("link-then-dir")
        .file("link-then-dir/f", b"f");
    let lower = Archive::new()
        .symlink("lib", "usr/lib")
        .dir("usr/lib")
        .done();
    let upper = archive.file("lib/moved", b"through the link").done();
    for format in [Format::Directory, Format::Erofs] {
        let mut layout = Layout::new();
        layout.image("v1", &[lower.clone(), upper.clone()], Pack::Gzip);
        let dir = tempfile::tempdir().unwrap();
        let options = StoreOptions {
            format: Some(format),
            ..StoreOptions::default()
        };
        let store = Store::open_with(dir.path(), &options).unwrap();
        let source = layout.source("v1");
        let image = store
            .pull(&source, &name("x/y:v1"), &PullOptions::default())
            .unwrap();
        let rootfs = store
            .mount(&image.id, "c", &MountOptions::default())
            .unwrap();
        let read = |p: &str| std::fs::read_to_string(rootfs.path.join(p)).unwrap_or_default();
        let seen = [
            "file-then-dir/now",
            "dir-then-file",
            "twice",
            "link-then-dir/f",
            "usr/lib/moved",
        ]
        .map(read);
        store.remove_rootfs("c").unwrap();
        assert_eq!(
            seen,
            ["inside", "a file", "two, longer", "f", "through the link"]
        );
        let report = store.check().unwrap();
        assert!(report.broken.is_empty(), "{format:?} {report:#?}");
    }
}

/// What is damaged is found, and a pull heals it.
#[test]
fn damage_is_found_and_healed() {
    use std::os::unix::fs::FileExt as _;
    for format in [Format::Directory, Format::Erofs] {
        let mut layout = Layout::new();
        layout.image("v1", &two_layers(), Pack::Gzip);
        let dir = tempfile::tempdir().unwrap();
        let options = StoreOptions {
            format: Some(format),
            ..StoreOptions::default()
        };
        let store = Store::open_with(dir.path(), &options).unwrap();
        let source = layout.source("v1");
        let image = store
            .pull(&source, &name("x/y:v1"), &PullOptions::default())
            .unwrap();
        let layer = dir.path().join("layers").join(image.layers[0].hex());
        let (file, at) = match format {
            Format::Directory => ("tree/bin/su", 100),
            Format::Erofs => ("layer.erofs", 1100),
        };
        let file = std::fs::OpenOptions::new()
            .write(true)
            .open(layer.join(file))
            .unwrap();
        file.write_all_at(b"damage", at).unwrap();
        let report = store.check().unwrap();
        assert_eq!(report.broken.len(), 1, "{format:?} {report:#?}");
        assert_eq!(report.broken[0].digest, image.layers[0]);
        assert_eq!(report.broken[0].images, std::slice::from_ref(&image.id));
        store
            .heal(&source, &name("x/y:v1"), &PullOptions::default())
            .unwrap();
        assert!(store.check().unwrap().broken.is_empty());
        let rootfs = store
            .mount(&image.id, "c", &MountOptions::default())
            .unwrap();
        check_two_layers(&rootfs.path);
        store.remove_rootfs("c").unwrap();
    }
}

/// Two writers, and one who looks.
#[test]
fn held_by_a_lease_or_a_pin() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mut layout = Layout::new();
    layout.image("v", &two_layers(), Pack::Gzip);
    let pull = || {
        let name = name("x/held:v");
        store.pull(&layout.source("v"), &name, &PullOptions::default())
    };
    let id = pull().unwrap().id;
    let collected = || store.gc(true).unwrap().images.len();
    let info = store.fs_info().unwrap();
    assert!(info.used_bytes > 0 && info.used_bytes < info.total_bytes);
    assert!(info.used_inodes > 0 && info.free_inodes <= info.total_inodes);

    store.lease("job", None).unwrap();
    store.hold("job", &id).unwrap();
    assert_eq!(collected(), 0);
    assert!(store.remove(&id).unwrap_err().to_string().contains("job"));
    // A lease that is over holds nothing.
    store.lease("job", Some(0)).unwrap();
    assert_eq!(collected(), 1);
    assert!(store.leases().unwrap().is_empty());

    let id = pull().unwrap().id;
    store.pin(&id, true).unwrap();
    assert_eq!(collected(), 0);
    let error = store.remove(&id).unwrap_err().to_string();
    assert!(error.contains("pinned"), "{error}");
    store.pin(&id, false).unwrap();
    assert_eq!(collected(), 1);
    assert_eq!(store.fs_info().unwrap().used_bytes, 0);
}

#[test]
fn one_writes_and_others_look() {
    let mut layout = Layout::new();
    layout.image("v1", &two_layers(), Pack::Gzip);
    let dir = tempfile::tempdir().unwrap();
    assert!(Store::open_read_only(dir.path()).is_err());
    let store = Store::open(dir.path()).unwrap();
    let line = Store::open(dir.path()).unwrap_err().to_string();
    let pid = std::process::id().to_string();
    assert!(line.contains("in use") && line.contains(&pid), "{line}");
    let looker = Store::open_read_only(dir.path()).unwrap();
    assert!(looker.images().unwrap().is_empty());
    let source = layout.source("v1");
    let image = store
        .pull(&source, &name("x/y:v1"), &PullOptions::default())
        .unwrap();
    assert_eq!(looker.find("x/y:v1").unwrap().id, image.id);
    assert!(looker.remove(&image.id).is_err());
    assert!(
        looker
            .pull(&source, &name("x/y:v1"), &PullOptions::default())
            .is_err()
    );
    drop(store);
    Store::open(dir.path()).unwrap();
}
