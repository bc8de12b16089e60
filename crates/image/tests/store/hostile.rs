//! Images that nobody honest makes: what is refused is refused in one clear line, what is not is
//! harmless, and nothing outside of the store or the bundle is ever touched.

use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use image::bundle::{UnpackOptions, unpack};
use image::layer::Limits;
use image::store::{Format, MountOptions, PullOptions, Store, StoreOptions};
use image::{Digest, Reference};

use crate::archive::{Archive, Meta};
use crate::compare::listing;
use crate::layout::{Layout, Pack};

/// A directory outside that an attacker knows the path of.
struct Canary(tempfile::TempDir);

impl Canary {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("secret"), "secret").unwrap();
        std::fs::set_permissions(
            dir.path().join("secret"),
            std::fs::Permissions::from_mode(0o600),
        )
        .unwrap();
        std::fs::create_dir(dir.path().join("dir")).unwrap();
        Self(dir)
    }

    fn path(&self) -> &str {
        self.0.path().to_str().unwrap()
    }
}

/// Small enough for a test, large enough for what is honest in it.
fn limits() -> Limits {
    Limits {
        entries: 2000,
        stored: 8 << 20,
        apparent: 1 << 30,
        ratio: 50,
        ratio_after: 1 << 20,
    }
}

fn options() -> PullOptions<'static> {
    PullOptions {
        limits: limits(),
        ..PullOptions::default()
    }
}

/// Pulls into both formats and unpacks a bundle; all must end with `wanted`, or well.
fn all_ways(what: &str, layout: &Layout, wanted: Option<&str>, look: &dyn Fn(&Path)) {
    let work = tempfile::tempdir().unwrap();
    let judge = |way: &str, result: Result<(), image::Error>| match (result, wanted) {
        (Ok(()), None) => {}
        (Err(e), Some(part)) => {
            let line = e.to_string();
            assert!(line.contains(part), "{what}, {way}: {line}");
            assert!(
                !line.contains('\n') && line.len() < 1000,
                "{what}, {way}: {line}"
            );
        }
        (Ok(()), Some(_)) => panic!("{what}, {way}: was not refused"),
        (Err(e), None) => panic!("{what}, {way}: {e}"),
    };
    let bundle = work.path().join("bundle");
    let unpacking = UnpackOptions {
        limits: limits(),
        ..UnpackOptions::default()
    };
    judge(
        "bundle",
        unpack(&layout.source("v"), &bundle, &unpacking).map(drop),
    );
    if wanted.is_none() {
        look(&bundle.join("rootfs"));
    } else {
        assert!(!bundle.join("rootfs").exists(), "{what}: rootfs is left");
    }
    for format in [Format::Directory, Format::Erofs] {
        let root = work.path().join(format!("{format:?}"));
        let store_options = StoreOptions {
            format: Some(format),
            ..StoreOptions::default()
        };
        let store = Store::open_with(&root, &store_options).unwrap();
        let name = Reference::parse("x/y:v").unwrap();
        let pulled = store.pull(&layout.source("v"), &name, &options());
        if let Ok(image) = &pulled {
            let rootfs = store
                .mount(&image.id, "c", &MountOptions::default())
                .unwrap();
            look(&rootfs.path);
            store.remove_rootfs("c").unwrap();
            assert!(store.check().unwrap().broken.is_empty(), "{what}");
        } else {
            assert_eq!(
                std::fs::read_dir(root.join("tmp")).unwrap().count(),
                0,
                "{what}"
            );
        }
        judge(&format!("{format:?}"), pulled.map(drop));
    }
}

fn attack(what: &str, layers: &[Vec<u8>], wanted: Option<&str>) {
    let mut layout = Layout::new();
    layout.image("v", layers, Pack::Gzip);
    all_ways(what, &layout, wanted, &|_| {});
}

/// Runs attacks, and looks whether the outside is as it was after each.
fn untouched(canary: &Canary, attacks: Vec<(&str, Vec<Archive>, Option<&str>)>) {
    let before = listing(canary.path().as_ref());
    for (what, layers, wanted) in attacks {
        let layers: Vec<_> = layers.into_iter().map(Archive::done).collect();
        attack(what, &layers, wanted);
        assert_eq!(listing(canary.path().as_ref()), before, "{what}");
    }
}

/// Links to the canary, absolute and by going up.
fn links(canary: &Canary) -> Archive {
    Archive::new()
        .symlink("x", canary.path())
        .symlink("up", &"../".repeat(12))
}

#[test]
fn paths_that_lead_out() {
    let canary = Canary::new();
    let secret = format!("{}/secret", canary.path());
    let a = Archive::new;
    untouched(
        &canary,
        vec![
            ("..", vec![a().file("../evil", b"")], Some("..")),
            (".. inside", vec![a().file("a/../../evil", b"")], Some("..")),
            ("an absolute path", vec![a().file(&secret, b"evil")], None),
            (
                "hard link out",
                vec![a().hard_link("h", "../../../etc/shadow")],
                Some(".."),
            ),
            (
                "hard link to an absolute path",
                vec![a().hard_link("h", &secret)],
                Some("no such file"),
            ),
            (
                "hard link to itself",
                vec![a().file("h", b"").hard_link("h", "h")],
                Some("itself"),
            ),
            (
                "hard link to a directory",
                vec![a().dir("d").hard_link("h", "d")],
                Some(""),
            ),
            (
                "links in a circle",
                vec![a().symlink("a", "b").symlink("b", "a").file("a/f", b"")],
                Some("40 symbolic links"),
            ),
        ],
    );
}

#[test]
fn links_that_lead_out() {
    let canary = Canary::new();
    let secret = format!("{}/secret", canary.path());
    let link = || links(&canary);
    let open = Meta::mode(0o777);
    let written = link().file("x/secret", b"evil").file("x/new", b"");
    let chmod = Archive::new().symlink("f", &secret);
    let owned = Meta::mode(0o1777).owner(7, 7);
    untouched(
        &canary,
        vec![
            ("through a link", vec![written], None),
            (
                "through a link upwards",
                vec![link().file(&format!("up{secret}"), b"evil")],
                None,
            ),
            (
                "mode through a link",
                vec![chmod.file_with("f", b"", &open)],
                None,
            ),
            (
                "directory over a link",
                vec![link().dir_with("x", &open).file("x/secret", b"")],
                None,
            ),
            (
                "attributes through a link",
                vec![link().dir_with("x/dir", &owned)],
                None,
            ),
            (
                "hard link through a link",
                vec![link().hard_link("h", "x/secret")],
                Some("no such file"),
            ),
        ],
    );
}

#[test]
fn links_of_a_lower_layer_that_lead_out() {
    let canary = Canary::new();
    let over = |upper: Archive| vec![links(&canary).file("keep", b""), upper];
    let a = Archive::new;
    untouched(
        &canary,
        vec![
            ("whiteout", over(a().file("x/.wh.secret", b"")), None),
            ("opaque", over(a().file("x/.wh..wh..opq", b"")), None),
            ("file", over(a().file("x/secret", b"evil")), None),
            ("device", over(a().char_device("x", 0, 0)), None),
        ],
    );
}

#[test]
fn names_that_mean_something() {
    let root_as =
        |kind: u8| Archive::new().entry("./", kind, "/etc", (0, 0), b"", &Meta::default());
    let long = "n".repeat(256);
    let deep = "d/".repeat(2100);
    let big = vec![b'x'; 70 << 10];
    for (what, layer, wanted) in [
        ("the root as a link", root_as(b'2'), Some("the root")),
        ("the root as a file", root_as(b'0'), Some("the root")),
        ("the root as a device", root_as(b'3'), Some("the root")),
        (
            "a hidden nothing",
            Archive::new().file(".wh.", b""),
            Some("whiteout of nothing"),
        ),
        (
            "a hidden root",
            Archive::new().file("a/.wh..", b""),
            Some("whiteout of nothing"),
        ),
        (
            "a hidden parent",
            Archive::new().file("a/.wh...", b""),
            Some("whiteout of nothing"),
        ),
        (
            "a whiteout with contents",
            Archive::new().file(".wh.a/b", b""),
            Some("whiteout used as a directory"),
        ),
        (
            "a name too long",
            Archive::new().file(&long, b""),
            Some("255 bytes"),
        ),
        (
            "a path too long",
            Archive::new().file(&deep, b""),
            Some("4096 bytes"),
        ),
        (
            "large attributes",
            Archive::new().file_with("f", b"", &Meta::default().xattr("user.x", &big)),
            Some("64 KiB"),
        ),
        (
            "an owner of -1",
            Archive::new().file_with("f", b"", &Meta::default().pax("uid", b"4294967295")),
            Some("uid"),
        ),
        (
            "a size of -1",
            Archive::new().file_with("f", b"", &Meta::default().pax("size", b"-1")),
            Some("malformed"),
        ),
    ] {
        attack(what, &[layer.done()], wanted);
    }
}

#[test]
fn bombs() {
    let many = (0..2100).fold(Archive::new(), |a, i| a.file(&format!("f{i}"), b""));
    attack("many entries", &[many.done()], Some("entries"));
    attack(
        "zeros",
        &[Archive::new().file("f", &vec![0; 4 << 20]).done()],
        Some("times its compressed size"),
    );
    let noise: Vec<u8> = (0..9u32 << 20)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0])
        .collect();
    attack(
        "too much",
        &[Archive::new().file("f", &noise).done()],
        Some("bytes"),
    );
    let huge = |size: u64| Archive::new().sparse("f", size, &[(0, b"x")]).done();
    attack("a large hole", &[huge(1 << 40)], Some("bytes of files"));
    attack("the largest hole", &[huge(u64::MAX)], Some(""));
    let runs: Vec<(u64, &[u8])> = vec![(9, b"a"), (3, b"b")];
    attack(
        "runs backwards",
        &[Archive::new().sparse("f", 99, &runs).done()],
        Some("backwards"),
    );
    let data: &[u8] = &[b'x'; 600];
    let fine: Vec<(u64, &[u8])> = vec![(4096, data), (1 << 20, b"end")];
    attack(
        "an honest hole",
        &[Archive::new().sparse("f", 8 << 20, &fine).done()],
        None,
    );
}

/// Attributes that would redirect an overlay belong to the image, not to the overlay.
#[test]
fn attributes_of_overlayfs() {
    let lower = Archive::new()
        .dir("d")
        .file("d/lower", b"lower")
        .file("f", b"data")
        .done();
    let opaque = Meta::mode(0o755).xattr("trusted.overlay.opaque", b"y");
    let redirect = Meta::mode(0o755).xattr("trusted.overlay.redirect", b"/etc");
    let meta = Meta::default().xattr("trusted.overlay.metacopy", b"");
    let upper = Archive::new()
        .dir_with("d", &opaque)
        .dir_with("e", &redirect)
        .file_with("f", b"mine", &meta)
        .done();
    let mut layout = Layout::new();
    layout.image("v", &[lower, upper], Pack::Plain);
    all_ways("overlay attributes", &layout, None, &|root| {
        assert_eq!(std::fs::read(root.join("d/lower")).unwrap(), b"lower");
        assert_eq!(std::fs::read_dir(root.join("e")).unwrap().count(), 0);
        assert_eq!(std::fs::read(root.join("f")).unwrap(), b"mine");
        let seen = &listing(root)[&b"d"[..]];
        assert!(
            seen.xattrs.contains_key("trusted.overlay.opaque"),
            "{seen:?}"
        );
    });
}

/// Blobs and documents that are not what they say.
#[test]
fn forged_and_broken() {
    let layer = Archive::new().file("f", &[7; 100_000]).done();
    let damaged = |wanted: &str, damage: &dyn Fn(&mut Layout)| {
        let mut layout = Layout::new();
        layout.image("v", std::slice::from_ref(&layer), Pack::Gzip);
        damage(&mut layout);
        all_ways(wanted, &layout, Some(wanted), &|_| {});
    };
    let blob = |layout: &Layout| {
        let (bytes, _) = crate::layout::pack_bytes(&layer, Pack::Gzip);
        layout.blob_path(&Digest::of(&bytes))
    };
    damaged("ends after", &|l| {
        let file = std::fs::OpenOptions::new()
            .write(true)
            .open(blob(l))
            .unwrap();
        file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    });
    damaged("corrupt gzip stream", &|l| {
        let file = std::fs::OpenOptions::new()
            .write(true)
            .open(blob(l))
            .unwrap();
        file.write_all_at(b"\x01", file.metadata().unwrap().len() - 6)
            .unwrap();
    });
    damaged("digest", &|l| {
        let file = std::fs::OpenOptions::new()
            .write(true)
            .open(blob(l))
            .unwrap();
        // The time in gzip's header: what comes out stays the same.
        file.write_all_at(b"\x01", 4).unwrap();
    });
    damaged("more than", &|l| {
        let mut bytes = std::fs::read(blob(l)).unwrap();
        bytes.extend(b"tail");
        std::fs::write(blob(l), bytes).unwrap();
    });
    damaged("forged", &|l| {
        let other = Digest::of(b"other");
        let config = format!(
            r#"{{"os":"linux","architecture":"amd64","rootfs":{{"type":"layers","diff_ids":["{other}"]}}}}"#
        );
        let (bytes, _) = crate::layout::pack_bytes(&layer, Pack::Gzip);
        let descriptor = l.blob(&bytes, "application/vnd.oci.image.layer.v1.tar+gzip");
        l.raw_image("v", config.as_bytes(), vec![descriptor]);
    });
    damaged("its configuration lists 0", &|l| {
        let descriptor = l.blob(&layer, "application/vnd.oci.image.layer.v1.tar");
        l.raw_image(
            "v",
            br#"{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]}}"#,
            vec![descriptor],
        );
    });
    damaged("tar header", &|l| {
        let noise = vec![b'x'; 4096];
        l.image("v", &[noise], Pack::Plain);
    });
    damaged("ends early", &|l| {
        l.image("v", &[layer[..50_000].to_vec()], Pack::Zstd);
    });
}

/// Another tree in the store's place cannot be made to lead out of it: ids are one component.
#[test]
fn ids_are_names() {
    let dir = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mut layout = Layout::new();
    layout.image("v", &[Archive::new().file("f", b"").done()], Pack::Plain);
    let name = Reference::parse("x/y:v").unwrap();
    let image = store.pull(&layout.source("v"), &name, &options()).unwrap();
    symlink(outside.path(), dir.path().join("containers/link")).unwrap();
    for id in ["", ".", "..", "../x", "a/b", "a\0b", &"x".repeat(200)] {
        assert!(
            store
                .mount(&image.id, id, &MountOptions::default())
                .is_err(),
            "{id:?}"
        );
        assert!(store.remove_rootfs(id).is_err(), "{id:?}");
    }
    std::fs::write(outside.path().join("keep"), "").unwrap();
    store.remove_rootfs("link").unwrap();
    assert!(outside.path().join("keep").exists());
}
