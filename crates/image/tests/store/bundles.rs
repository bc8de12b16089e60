//! Bundles: unpacked, changed, repacked; a container's changes committed.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use image::Reference;
use image::bundle::{ChangeKind, Origin, RepackOptions, UnpackOptions, repack, unpack};
use image::document::{History, RunConfig};
use image::layer::{IdMap, Ownership};
use image::store::{CommitOptions, Format, MountOptions, PullOptions, Store, StoreOptions};
use image::transport::{LayoutDestination, LayoutSource, Name};

use crate::archive::{Archive, Meta};
use crate::basics::two_layers;
use crate::compare::{Allow, listing, same};
use crate::layout::{Layout, Pack};

fn run_config() -> RunConfig {
    RunConfig {
        user: "root".to_owned(),
        env: vec!["PATH=/bin".to_owned()],
        cmd: vec!["/bin/su".to_owned()],
        working_dir: "/etc".to_owned(),
        volumes: [("/data".to_owned(), serde_json::json!({}))].into(),
        ..RunConfig::default()
    }
}

/// Changes of every kind.
fn change(root: &Path) {
    std::fs::write(root.join("etc/passwd"), "root:x:0:0::/:\n").unwrap();
    std::fs::remove_file(root.join("etc/new")).unwrap();
    std::fs::remove_dir_all(root.join("full")).unwrap();
    std::fs::create_dir_all(root.join("added/deep")).unwrap();
    std::fs::write(root.join("added/deep/file"), vec![3; 10_000]).unwrap();
    std::fs::hard_link(root.join("added/deep/file"), root.join("added/link")).unwrap();
    symlink("nowhere", root.join("added/dangling")).unwrap();
    let mode = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(root.join("run"), mode).unwrap();
}

#[test]
fn unpacked_changed_and_repacked() {
    let mut layout = Layout::new();
    layout.image_with("v", &two_layers(), Pack::Gzip, run_config());
    let work = tempfile::tempdir().unwrap();
    let bundle = work.path().join("bundle");
    let source = layout.source("v");
    unpack(&source, &bundle, &UnpackOptions::default()).unwrap();
    let config: spec::oci::Spec =
        serde_json::from_slice(&std::fs::read(bundle.join("config.json")).unwrap()).unwrap();
    let process = config.process.unwrap();
    assert_eq!(
        (process.cwd.as_str(), process.args),
        ("/etc", vec!["/bin/su".to_owned()])
    );
    assert!(config.mounts.iter().any(|m| m.destination == "/data"));
    assert!(
        unpack(&source, &bundle, &UnpackOptions::default())
            .unwrap_err()
            .to_string()
            .contains("there already")
    );

    change(&bundle.join("rootfs"));
    let options = RepackOptions {
        history: History {
            created_by: "test".to_owned(),
            ..History::default()
        },
        ..RepackOptions::default()
    };
    let tag = Name::Tag("next".to_owned());
    let destination = LayoutDestination::open(layout.path(), &tag).unwrap();
    let digest = repack(&bundle, &source, &destination, &options).unwrap();
    assert_eq!(Origin::read(&bundle).unwrap().manifest_digest, digest);
    let again = work.path().join("again");
    let next = LayoutSource::open(layout.path(), &tag).unwrap();
    unpack(&next, &again, &UnpackOptions::default()).unwrap();
    same(
        "repacked",
        &bundle.join("rootfs"),
        &again.join("rootfs"),
        Allow::default(),
    );
    let config = Origin::read(&again).unwrap().config;
    assert_eq!(config.history.last().unwrap().created_by, "test");
    assert_eq!(config.rootfs.diff_ids.len(), 3);
}

#[test]
fn a_container_is_committed() {
    for format in [Format::Directory, Format::Erofs] {
        let mut layout = Layout::new();
        layout.image_with("v", &two_layers(), Pack::Gzip, run_config());
        let work = tempfile::tempdir().unwrap();
        let options = StoreOptions {
            format: Some(format),
            ..StoreOptions::default()
        };
        let store = Store::open_with(work.path(), &options).unwrap();
        let name = |text: &str| Reference::parse(text).unwrap();
        let image = store
            .pull(&layout.source("v"), &name("x:1"), &PullOptions::default())
            .unwrap();
        let one = store
            .mount(&image.id, "one", &MountOptions::default())
            .unwrap();
        change(&one.path);
        let changes = store.changes("one").unwrap();
        let kind = |path: &str| {
            changes
                .iter()
                .find(|c| c.path.to_string() == path)
                .map(|c| c.kind)
        };
        assert_eq!(kind("/etc/passwd"), Some(ChangeKind::Modified));
        assert_eq!(kind("/full"), Some(ChangeKind::Deleted));
        assert_eq!(kind("/etc/new"), Some(ChangeKind::Deleted));
        assert_eq!(kind("/added/deep/file"), Some(ChangeKind::Added));
        assert_eq!(kind("/bin"), None);
        let made = store
            .commit("one", &name("x:2"), &CommitOptions::default())
            .unwrap();
        assert_eq!(made.layers.len(), 3);
        let two = store
            .mount(&made.id, "two", &MountOptions::default())
            .unwrap();
        same("committed", &one.path, &two.path, Allow::default());
        let usage = store.df().unwrap();
        let of = |id| usage.images.iter().find(|u| u.id == id).unwrap();
        assert_eq!(of(image.id.clone()).exclusive, 0);
        assert!(of(made.id.clone()).exclusive > 0 && of(made.id.clone()).shared > 0);
        for id in ["one", "two"] {
            store.remove_rootfs(id).unwrap();
        }
        assert!(store.check().unwrap().broken.is_empty());
        // What comes out of the store is the same image.
        let exported = store.export(&made.id).unwrap();
        let bundle = work.path().join("bundle");
        unpack(&exported, &bundle, &UnpackOptions::default()).unwrap();
        let rootfs = store
            .mount(&made.id, "three", &MountOptions::default())
            .unwrap();
        same(
            "exported",
            &rootfs.path,
            &bundle.join("rootfs"),
            Allow::default(),
        );
        store.remove_rootfs("three").unwrap();
    }
}

/// Owners through maps, and owners that are only written down.
#[test]
fn owners() {
    let layer = Archive::new()
        .dir_with("d", &Meta::mode(0o555).owner(5, 6))
        .file_with("d/f", b"f", &Meta::mode(0o600).owner(5, 6))
        .char_device("null", 1, 3)
        .done();
    let mut layout = Layout::new();
    layout.image("v", &[layer], Pack::Gzip);
    let work = tempfile::tempdir().unwrap();
    let map = |host| {
        vec![IdMap {
            container: 0,
            host,
            count: 6,
        }]
    };
    let outside = Ownership::Mapped {
        uids: map(100_000),
        gids: map(200_000),
    };
    let unpack_as = |name: &str, ownership: &Ownership| {
        let options = UnpackOptions {
            ownership: Some(ownership),
            ..UnpackOptions::default()
        };
        let bundle = work.path().join(name);
        unpack(&layout.source("v"), &bundle, &options).map(|_| bundle.join("rootfs"))
    };
    let line = unpack_as("few", &outside).unwrap_err().to_string();
    assert!(
        line.contains("group 6") && line.contains("map more ids"),
        "{line}"
    );
    let Ownership::Mapped { uids, mut gids } = outside else {
        unreachable!()
    };
    gids[0].count = 7;
    let root = unpack_as("enough", &Ownership::Mapped { uids, gids }).unwrap();
    let stat = std::fs::metadata(root.join("d/f")).unwrap();
    assert_eq!((stat.uid(), stat.gid()), (100_005, 200_006));

    let root = unpack_as("rootless", &Ownership::Rootless).unwrap();
    let stat = std::fs::metadata(root.join("d/f")).unwrap();
    let own = rustix::process::geteuid().as_raw();
    assert_eq!((stat.uid(), stat.mode() & 0o7777), (own, 0o600));
    let seen = &listing(&root)[&b"d/f"[..]];
    assert_eq!(seen.xattrs["user.rootlesscontainers"], b"\x08\x05\x10\x06");
    assert!(
        std::fs::symlink_metadata(root.join("null"))
            .unwrap()
            .is_file()
    );
    // Going back, the image's own owner is found.
    let destination =
        LayoutDestination::open(layout.path(), &Name::Tag("next".to_owned())).unwrap();
    std::fs::write(root.join("d/f"), "changed").unwrap();
    repack(
        &work.path().join("rootless"),
        &layout.source("v"),
        &destination,
        &RepackOptions::default(),
    )
    .unwrap();
    let next = layout.path();
    let next = LayoutSource::open(next, &Name::Tag("next".to_owned())).unwrap();
    let bundle = work.path().join("back");
    unpack(&next, &bundle, &UnpackOptions::default()).unwrap();
    let stat = std::fs::metadata(bundle.join("rootfs/d/f")).unwrap();
    assert_eq!((stat.uid(), stat.gid(), stat.len()), (5, 6, 7));
}

/// Not a test by itself: what a user without any rights can do with a store of his own.
#[test]
#[ignore = "run by another, as a user"]
fn as_a_user() {
    let Ok(root) = std::env::var("HULL_TEST_STORE") else {
        return;
    };
    let layout = std::env::var("HULL_TEST_LAYOUT").unwrap();
    let source = LayoutSource::open(layout.as_ref(), &Name::Only).unwrap();
    let options = StoreOptions {
        rootless: true,
        ..StoreOptions::default()
    };
    let store = Store::open_with(root.as_ref(), &options).unwrap();
    assert_eq!(store.format().unwrap(), Format::Directory);
    let name = Reference::parse("x/y:v").unwrap();
    let image = store.pull(&source, &name, &PullOptions::default()).unwrap();
    assert!(store.check().unwrap().broken.is_empty());
    let ownership = Ownership::Rootless;
    let unpacking = UnpackOptions {
        ownership: Some(&ownership),
        ..UnpackOptions::default()
    };
    let bundle = Path::new(&root).join("bundle");
    unpack(&source, &bundle, &unpacking).unwrap();
    let run = std::fs::symlink_metadata(bundle.join("rootfs/run")).unwrap();
    assert_eq!(run.uid(), rustix::process::geteuid().as_raw());
    assert_eq!(store.remove(&image.id).unwrap().layers.len(), 2);
}

#[test]
fn a_user_without_rights() {
    let mut layout = Layout::new();
    let mut layers = two_layers();
    layers[0] = [
        &Archive::new()
            .dir_with("locked", &Meta::mode(0o500))
            .file_with("locked/f", b"f", &Meta::mode(0))
            .done()[..1536],
        &layers[0],
    ]
    .concat();
    layout.image("v", &layers, Pack::Gzip);
    let work = tempfile::tempdir().unwrap();
    let home = work.path().join("home");
    std::fs::create_dir(&home).unwrap();
    std::os::unix::fs::chown(&home, Some(1234), Some(1234)).unwrap();
    for dir in [work.path(), layout.path()] {
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    // The test program itself may be where the user cannot reach it.
    let program = work.path().join("test");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let out = std::process::Command::new("setpriv")
        .args(["--reuid=1234", "--regid=1234", "--clear-groups"])
        .arg(&program)
        .args(["--ignored", "--exact", "bundles::as_a_user"])
        .env("HULL_TEST_STORE", home.join("store"))
        .env("HULL_TEST_LAYOUT", layout.path())
        .env("TMPDIR", &home)
        .current_dir("/")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success() && said.contains("1 passed"), "{said}");
}
