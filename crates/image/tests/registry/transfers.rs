//! Copies to and from a real registry; skopeo sees the same.

use std::sync::Mutex;

use image::copy::{Compression, Format, Layers, Which};
use image::document::{Descriptor, Document, media_type};
use image::progress::{Outcome, Progress};
use image::transport::{
    DirectoryDestination, LayoutDestination, LayoutSource, Name, PutAs, RawManifest, Source as _,
    TransportRef, resolve,
};
use image::{Digest, Platform};

use crate::support::*;

fn tree(dir: &std::path::Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = std::fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .map(|p| {
            (
                p.file_name().unwrap().to_string_lossy().into_owned(),
                std::fs::read(p).unwrap(),
            )
        })
        .collect();
    files.sort();
    files
}

#[test]
fn there_and_back_as_skopeo_does() {
    let registry = Registry::plain();
    let access = insecure();
    let dir = tempfile::tempdir().unwrap();
    let made = make_image(
        "amd64",
        &[noise(1, 300_000), noise(2, 10), noise(3, 2_000_000)],
    );
    let source = layout(&dir.path().join("in"), &made);
    let name = registry.name("a/b:1");
    let to = name.destination(&access).unwrap();
    let copied = transfer(&source, to.as_ref()).unwrap();
    assert_eq!(copied.digest, made.manifest.digest);
    let sizes: u64 = made.blobs.iter().map(|(d, _)| d.size).sum();
    assert_eq!(copied.bytes, sizes);

    let back = dir.path().join("back");
    let from = name.source(&access).unwrap();
    let to = LayoutDestination::open(&back, &Name::Only).unwrap();
    transfer(from.as_ref(), &to).unwrap();
    assert!(has_all(&back, &made));

    let (ours, theirs) = (dir.path().join("ours"), dir.path().join("theirs"));
    transfer(from.as_ref(), &DirectoryDestination::open(&ours).unwrap()).unwrap();
    let place = format!("dir:{}", theirs.display());
    run(
        "skopeo",
        &[
            "copy",
            "-q",
            "--src-tls-verify=false",
            &name.to_string(),
            &place,
        ],
    );
    assert_eq!(tree(&ours), tree(&theirs));

    // What skopeo pushes, hull reads; a second push transfers nothing.
    let again = registry.name("a/b:2");
    run(
        "skopeo",
        &[
            "copy",
            "-q",
            "--dest-tls-verify=false",
            &place,
            &again.to_string(),
        ],
    );
    let from = again.source(&access).unwrap();
    assert_eq!(from.manifest(None).unwrap().digest, made.manifest.digest);
    let copied = transfer(
        &source,
        registry
            .name("a/b:3")
            .destination(&access)
            .unwrap()
            .as_ref(),
    );
    assert_eq!(copied.unwrap().bytes, 0);

    tags_and_deletion(&registry, &access, &made);
}

fn tags_and_deletion(registry: &Registry, access: &image::registry::Access, made: &Made) {
    let TransportRef::Registry(reference) = registry.name("a/b") else {
        panic!()
    };
    let mut tags = access.tags(&reference).unwrap();
    tags.sort();
    assert_eq!(tags, ["1", "2", "3"]);
    let TransportRef::Registry(first) = registry.name("a/b:1") else {
        panic!()
    };
    assert_eq!(access.digest_of(&first).unwrap(), made.manifest.digest);
    assert_eq!(access.delete(&first).unwrap(), made.manifest.digest);
    assert!(access.digest_of(&first).unwrap_err().is_missing());
    let from = access.source(&first).unwrap();
    assert!(from.manifest(None).unwrap_err().is_missing());
}

#[test]
fn all_images_of_an_index() {
    let registry = Registry::plain();
    let access = insecure();
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (
        make_image("amd64", &[noise(1, 5000)]),
        make_image("arm64", &[noise(2, 5000)]),
    );
    let at = Name::Tag("i".to_owned());
    let layout_dir = dir.path().join("in");
    let to = LayoutDestination::open(&layout_dir, &at).unwrap();
    let index = put_index(&to, &[("amd64", &one), ("arm64", &two)]);
    let source = LayoutSource::open(&layout_dir, &at).unwrap();

    let name = registry.name("multi:1");
    let to = name.destination(&access).unwrap();
    let all = transfer_with(&source, to.as_ref(), |o| o.which = Which::All).unwrap();
    assert_eq!(all.digest, index.digest);
    let from = name.source(&access).unwrap();
    for (platform, made) in [("linux/amd64", &one), ("linux/arm64/v8", &two)] {
        let found = resolve(from.as_ref(), &Platform::parse(platform).unwrap()).unwrap();
        assert_eq!(found.raw.digest, made.manifest.digest);
        assert_eq!(found.top.digest, index.digest);
    }
    let error = resolve(from.as_ref(), &Platform::parse("riscv64").unwrap()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("there is: linux/amd64, linux/arm64"),
        "{error}"
    );

    // In Docker's format everything changes but the layers.
    let docker = registry.name("multi:docker");
    let to = docker.destination(&access).unwrap();
    let copied = transfer_with(&source, to.as_ref(), |o| {
        o.which = Which::All;
        o.format = Some(Format::Docker);
    });
    assert_eq!(copied.unwrap().media_type, media_type::DOCKER_LIST);
    let from = docker.source(&access).unwrap();
    let found = resolve(from.as_ref(), &Platform::parse("arm64").unwrap()).unwrap();
    assert_eq!(found.manifest.media_type, media_type::DOCKER_MANIFEST);
    assert_eq!(
        found.manifest.layers[0].media_type,
        media_type::DOCKER_LAYER_GZIP
    );
    assert_eq!(found.manifest.layers[0].digest, two.blobs[1].0.digest);
    let kept = transfer_with(&source, to.as_ref(), |o| {
        o.which = Which::All;
        o.format = Some(Format::Docker);
        o.preserve_digests = true;
    });
    assert!(kept.unwrap_err().to_string().contains("--preserve-digests"));
    run(
        "skopeo",
        &["inspect", "--tls-verify=false", &docker.to_string()],
    );
}

/// Remembers what became of each blob.
#[derive(Default)]
struct Outcomes(Mutex<Vec<Outcome>>);

impl Progress for Outcomes {
    fn finished(&self, _blob: &Descriptor, outcome: Outcome) {
        self.0.lock().unwrap().push(outcome);
    }
}

#[test]
fn blobs_are_mounted_from_another_repository() {
    let registry = Registry::plain();
    let access = insecure();
    let dir = tempfile::tempdir().unwrap();
    let made = make_image("amd64", &[noise(1, 5000)]);
    let first = registry.name("one:1");
    let to = first.destination(&access).unwrap();
    transfer(&layout(dir.path(), &made), to.as_ref()).unwrap();
    let outcomes = Outcomes::default();
    let from = first.source(&access).unwrap();
    let to = registry.name("two:1").destination(&access).unwrap();
    let copied = transfer_with(from.as_ref(), to.as_ref(), |o| o.progress = &outcomes).unwrap();
    assert_eq!(copied.bytes, 0);
    assert_eq!(
        outcomes.0.into_inner().unwrap(),
        [Outcome::Mounted, Outcome::Mounted]
    );
}

#[test]
fn layers_are_compressed_anew() {
    let registry = Registry::plain();
    let access = insecure();
    let dir = tempfile::tempdir().unwrap();
    // More than one part of a chunked upload.
    let made = make_image("amd64", &[noise(1, 20 << 20), noise(2, 100)]);
    let source = layout(&dir.path().join("in"), &made);
    let name = registry.name("zstd:1");
    let to = name.destination(&access).unwrap();
    let zstd = Layers::Compressed(Compression::Zstd, Some(1));
    transfer_with(&source, to.as_ref(), |o| o.layers = zstd).unwrap();
    let from = name.source(&access).unwrap();
    let Document::Manifest(manifest) = from.manifest(None).unwrap().parse().unwrap() else {
        panic!()
    };
    for layer in &manifest.layers {
        assert_eq!(layer.media_type, format!("{}+zstd", media_type::OCI_LAYER));
    }
    let plain = dir.path().join("plain");
    let to = LayoutDestination::open(&plain, &Name::Only).unwrap();
    transfer_with(from.as_ref(), &to, |o| o.layers = Layers::Uncompressed).unwrap();
    let diff_id = Digest::of(&tar("file", &noise(1, 20 << 20)));
    assert!(plain.join("blobs/sha256").join(diff_id.hex()).exists());

    // A configuration that names another layer is found out when the layer is inflated.
    let mut lying = make_image("amd64", &[noise(5, 100)]);
    let other = make_image("amd64", &[noise(6, 100)]);
    let text = String::from_utf8(lying.manifest.bytes).unwrap();
    let (own, theirs) = (&lying.blobs[0].0, &other.blobs[0].0);
    let text = text.replace(own.digest.hex(), theirs.digest.hex());
    lying.manifest = RawManifest::new(text.into_bytes(), media_type::OCI_MANIFEST);
    lying.blobs[0] = other.blobs[0].clone();
    let source = layout(&dir.path().join("lying"), &lying);
    let error = transfer_with(&source, &to, |o| o.layers = Layers::Uncompressed).unwrap_err();
    assert!(
        error.to_string().contains("the configuration says"),
        "{error}"
    );
}

#[test]
fn artifacts_and_their_referrers() {
    let registry = Registry::plain();
    let access = insecure();
    let dir = tempfile::tempdir().unwrap();
    let made = make_image("amd64", &[noise(1, 100)]);
    let name = registry.name("art:1");
    let to = name.destination(&access).unwrap();
    transfer(&layout(&dir.path().join("in"), &made), to.as_ref()).unwrap();
    let empty = Descriptor::of(b"{}", media_type::OCI_EMPTY);
    let note = Descriptor::of(b"a note", "text/plain");
    to.put_blob(Some(&empty), &mut &b"{}"[..]).unwrap();
    to.put_blob(Some(&note), &mut &b"a note"[..]).unwrap();
    let subject = Descriptor::of(&made.manifest.bytes, media_type::OCI_MANIFEST);
    let artifact = serde_json::json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
        "artifactType": "application/x-note", "config": empty, "layers": [note],
        "subject": subject,
    });
    let raw = RawManifest::new(artifact.to_string().into_bytes(), media_type::OCI_MANIFEST);
    for _ in 0..2 {
        to.put_manifest(&raw, PutAs::Digest).unwrap();
    }
    let from = name.source(&access).unwrap();
    let found = from.referrers(&made.manifest.digest).unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].digest, raw.digest);
    assert_eq!(
        found[0].artifact_type.as_deref(),
        Some("application/x-note")
    );
    assert!(from.referrers(&raw.digest).unwrap().is_empty());

    // An artifact is copied as it is, whatever is asked of images.
    let TransportRef::Registry(reference) = &name else {
        panic!()
    };
    let by_digest = format!("docker://{}@{}", reference.name(), raw.digest);
    let from = TransportRef::parse(&by_digest)
        .unwrap()
        .source(&access)
        .unwrap();
    let to = registry.name("art2:note").destination(&access).unwrap();
    let copied = transfer_with(from.as_ref(), to.as_ref(), |o| {
        o.layers = Layers::Compressed(Compression::Zstd, None);
        o.format = Some(Format::Docker);
    });
    assert_eq!(copied.unwrap().digest, raw.digest);
}

#[test]
fn archives_are_those_of_skopeo_and_docker() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let made = make_image("amd64", &[noise(1, 5000), noise(2, 70_000)]);
    let source = layout(&dir.path().join("in"), &made);
    let access = access();
    let place = |text: String| TransportRef::parse(&text).unwrap();
    let archive = format!("oci-archive:{}:x", at("a.tar"));
    let docker = format!("docker-archive:{}:app:1", at("d.tar"));
    for name in [&archive, &docker] {
        let to = place(name.clone()).destination(&access).unwrap();
        let tags = |o: &mut image::copy::Options<'_>| o.additional_tags = vec!["app:2".to_owned()];
        transfer_with(&source, to.as_ref(), tags).unwrap();
    }
    for (ours, theirs) in [(&archive, "oci-archive:"), (&docker, "docker-archive:")] {
        let (back, file) = (
            at(&format!("{}dir", theirs.len())),
            at(&format!("{}.tar", theirs.len())),
        );
        run("skopeo", &["copy", "-q", ours, &format!("dir:{back}")]);
        run(
            "skopeo",
            &[
                "copy",
                "-q",
                &format!("dir:{back}"),
                &format!("{theirs}{file}:app:1"),
            ],
        );
        let from = place(format!("{theirs}{file}:app:1"))
            .source(&access)
            .unwrap();
        let to = dir.path().join(format!("{}out", theirs.len()));
        transfer(
            from.as_ref(),
            &LayoutDestination::open(&to, &Name::Only).unwrap(),
        )
        .unwrap();
        let config = &made.blobs[0].0;
        assert!(
            to.join("blobs/sha256").join(config.digest.hex()).exists(),
            "{theirs}"
        );
    }
    let second = place(format!("docker-archive:{}:app:2", at("d.tar")))
        .source(&access)
        .unwrap();
    resolve(second.as_ref(), &Platform::host()).unwrap();
    let error = place(format!("docker-archive:{}:app:3", at("d.tar"))).source(&access);
    let error = error.err().unwrap().to_string();
    assert!(
        error.contains("docker.io/library/app:2, docker.io/library/app:1"),
        "{error}"
    );
    // Nothing is left beside the archives.
    let hidden = std::fs::read_dir(dir.path()).unwrap().flatten();
    assert_eq!(
        hidden
            .filter(|e| e.file_name().to_string_lossy().starts_with('.'))
            .count(),
        0
    );
}
