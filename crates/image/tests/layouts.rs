//! OCI layouts: what was put is found again, and nothing is believed.

#![allow(clippy::unwrap_used)]

use std::io::Read as _;
use std::path::Path;

use image::document::{Descriptor, media_type};
use image::transport::{
    Destination, LayoutDestination, LayoutSource, Name, PutAs, RawManifest, Source, fetch, resolve,
};
use image::{Digest, Platform};

/// Puts a small image and returns its manifest.
fn put_image(to: &dyn Destination, layer: &[u8], name: PutAs<'_>) -> RawManifest {
    let diff_id = Digest::of(layer);
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#
    );
    let config_entry = Descriptor::of(config.as_bytes(), media_type::OCI_CONFIG);
    let layer_entry = Descriptor::of(layer, media_type::OCI_LAYER);
    to.put_blob(Some(&config_entry), &mut config.as_bytes())
        .unwrap();
    to.put_blob(Some(&layer_entry), &mut &layer[..]).unwrap();
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "config": config_entry,
        "layers": [layer_entry],
    });
    let raw = RawManifest::new(manifest.to_string().into_bytes(), media_type::OCI_MANIFEST);
    to.put_manifest(&raw, name).unwrap();
    raw
}

#[test]
fn what_was_put_is_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    let name = Name::Tag("one".to_owned());
    let to = LayoutDestination::open(path, &name).unwrap();
    let one = put_image(&to, b"first", PutAs::Top);
    let two = put_image(&to, b"second", PutAs::Tag("two"));
    assert_eq!(LayoutSource::names(path).unwrap(), ["one", "two"]);

    let from = LayoutSource::open(path, &name).unwrap();
    let found = resolve(&from, &Platform::host()).unwrap();
    assert_eq!(found.raw.digest, one.digest);
    let mut bytes = Vec::new();
    from.blob(&found.manifest.layers[0])
        .unwrap()
        .read_to_end(&mut bytes)
        .unwrap();
    assert_eq!(bytes, b"first");
    assert_eq!(from.sibling("two").unwrap().unwrap().digest, two.digest);
    assert!(from.sibling("three").unwrap().is_none());

    let error = LayoutSource::open(path, &Name::Only)
        .unwrap_err()
        .to_string();
    assert!(error.contains("one, two"), "{error}");
    let by_digest = LayoutSource::open(path, &Name::Digest(two.digest.clone())).unwrap();
    assert_eq!(by_digest.manifest(None).unwrap().digest, two.digest);

    // A second image under the same name takes it over.
    let three = put_image(&to, b"third", PutAs::Top);
    let from = LayoutSource::open(path, &name).unwrap();
    assert_eq!(from.manifest(None).unwrap().digest, three.digest);
    assert_eq!(leftovers(path), 0);
}

fn leftovers(dir: &Path) -> usize {
    ["", "blobs", "blobs/sha256"]
        .iter()
        .flat_map(|sub| std::fs::read_dir(dir.join(sub)).unwrap())
        .filter(|e| {
            e.as_ref()
                .unwrap()
                .file_name()
                .to_string_lossy()
                .contains(".part")
        })
        .count()
}

#[test]
fn nothing_is_believed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    let to = LayoutDestination::open(path, &Name::Only).unwrap();
    let good = Descriptor::of(b"good", "x");
    for bad in [&b"evil"[..], b"go", b"good!"] {
        let mut data = bad;
        assert!(to.put_blob(Some(&good), &mut data).is_err());
        assert!(!to.has_blob(&good).unwrap());
    }
    assert_eq!(leftovers(path), 0);

    let raw = put_image(&to, b"layer", PutAs::Top);
    let from = LayoutSource::open(path, &Name::Only).unwrap();
    let mut entry = Descriptor::of(&raw.bytes, media_type::OCI_MANIFEST);
    assert!(fetch(&from, &entry).is_ok());
    entry.size += 1;
    assert!(
        fetch(&from, &entry)
            .unwrap_err()
            .to_string()
            .contains("the index says")
    );
    entry.size = 5 << 20;
    assert!(fetch(&from, &entry).is_err());
    let file = path.join("blobs/sha256").join(raw.digest.hex());
    std::fs::write(&file, b"{}").unwrap();
    let error = from.manifest(None).unwrap_err().to_string();
    assert!(error.contains("its digest is"), "{error}");
}
