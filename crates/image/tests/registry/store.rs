//! Images that went through the store, which keeps no compressed blobs.

use image::copy::Format;
use image::document::{Descriptor, Document, media_type};
use image::registry::Access;
use image::store::{PullOptions, Store};
use image::transport::{PutAs, RawManifest, TransportRef};
use image::{Platform, Reference};

use crate::support::*;

fn reference(place: &TransportRef) -> Reference {
    let TransportRef::Registry(reference) = place else {
        panic!()
    };
    reference.clone()
}

/// Pulls the image at `place` into a store.
fn pulled(dir: &std::path::Path, place: &TransportRef, access: &Access) -> Store {
    let store = Store::open(dir).unwrap();
    let amd64 = Platform::parse("linux/amd64").unwrap();
    let options = PullOptions {
        platform: Some(&amd64),
        ..PullOptions::default()
    };
    let source = place.source(access).unwrap();
    store
        .pull(source.as_ref(), &reference(place), &options)
        .unwrap();
    store
}

/// An image in Docker's format: the store's own would be an OCI one.
fn docker_image(seed: u64) -> Made {
    let made = make_image("amd64", &[noise(seed, 90_000), noise(seed + 1, 400)]);
    let kinds = [media_type::DOCKER_CONFIG, media_type::DOCKER_LAYER_GZIP];
    let blobs: Vec<(Descriptor, Vec<u8>)> = made
        .blobs
        .into_iter()
        .enumerate()
        .map(|(n, (_, bytes))| (Descriptor::of(&bytes, kinds[n.min(1)]), bytes))
        .collect();
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": media_type::DOCKER_MANIFEST,
        "config": blobs[0].0,
        "layers": blobs[1..].iter().map(|(d, _)| d).collect::<Vec<_>>(),
    });
    let bytes = manifest.to_string().into_bytes();
    Made {
        manifest: RawManifest::new(bytes, media_type::DOCKER_MANIFEST),
        blobs,
    }
}

#[test]
fn an_image_goes_back_with_its_digest() {
    let (registry, access) = (Registry::plain(), insecure());
    let made = docker_image(1);
    let first = registry.name("one/app:1");
    made.put(
        first.destination(&access).unwrap().as_ref(),
        PutAs::Tag("1"),
    );
    let dir = tempfile::tempdir().unwrap();
    let store = pulled(dir.path(), &first, &access);
    let image = store.find(&reference(&first).to_string()).unwrap();
    let source = store.export(&image.id).unwrap();

    // The same repository has the blobs, another one gets them from there.
    for name in ["one/app:2", "two/app:1"] {
        let place = registry.name(name);
        let to = place.destination(&access).unwrap();
        let copied = transfer_with(&source, to.as_ref(), |o| o.preserve_digests = true).unwrap();
        assert_eq!(copied.digest, made.manifest.digest, "{name}");
        let back = place.source(&access).unwrap();
        assert_eq!(back.manifest(None).unwrap().bytes, made.manifest.bytes);
        let config = made.blobs[0].0.size;
        assert!(copied.bytes <= config, "{name}: {} sent", copied.bytes);
    }

    // In another format the manifest is another, and the layers are still those.
    let place = registry.name("three/app:1");
    let to = place.destination(&access).unwrap();
    let copied = transfer_with(&source, to.as_ref(), |o| o.format = Some(Format::Oci)).unwrap();
    assert_eq!(copied.media_type, media_type::OCI_MANIFEST);
    let there = place.source(&access).unwrap().manifest(None).unwrap();
    let Document::Manifest(there) = there.parse().unwrap() else {
        panic!()
    };
    for (layer, (blob, _)) in there.layers.iter().zip(&made.blobs[1..]) {
        assert_eq!(layer.digest, blob.digest);
    }

    // A registry that has none of it gets the image compressed anew, or an error.
    let strange = Registry::plain();
    let place = strange.name("app:1");
    let to = place.destination(&access).unwrap();
    let kept = transfer_with(&source, to.as_ref(), |o| o.preserve_digests = true);
    let error = kept.unwrap_err().to_string();
    assert!(error.contains("lacks layers"), "{error}");
    let copied = transfer(&source, to.as_ref()).unwrap();
    assert_ne!(copied.digest, made.manifest.digest);
    let again = tempfile::tempdir().unwrap();
    let id = pulled(again.path(), &place, &access).images().unwrap()[0]
        .id
        .clone();
    assert_eq!(id, image.id, "the configuration is the same");
}

#[test]
fn layers_that_are_there_are_not_sent() {
    let (registry, access) = (Registry::plain(), insecure());
    let base = docker_image(7);
    let first = registry.name("base:1");
    base.put(
        first.destination(&access).unwrap().as_ref(),
        PutAs::Tag("1"),
    );
    let dir = tempfile::tempdir().unwrap();
    let store = pulled(dir.path(), &first, &access);
    let id = store.find(&reference(&first).to_string()).unwrap().id;
    // A container's layer on top.
    let rootfs = store.mount(&id, "box", &Default::default()).unwrap();
    std::fs::write(rootfs.path.join("new"), "x").unwrap();
    let own = registry.name("own:1");
    let made = store
        .commit("box", &reference(&own), &Default::default())
        .unwrap();
    store.remove_rootfs("box").unwrap();
    let source = store.export(&made.id).unwrap();
    let to = own.destination(&access).unwrap();
    transfer(&source, to.as_ref()).unwrap();
    let there = own.source(&access).unwrap().manifest(None).unwrap();
    let Document::Manifest(there) = there.parse().unwrap() else {
        panic!()
    };
    let layers: Vec<_> = there.layers.iter().map(|l| l.digest.clone()).collect();
    assert_eq!(layers.len(), 3);
    for (blob, _) in &base.blobs[1..] {
        assert!(layers.contains(&blob.digest));
    }
    let again = tempfile::tempdir().unwrap();
    assert_eq!(
        pulled(again.path(), &own, &access).images().unwrap()[0].id,
        made.id
    );
}
