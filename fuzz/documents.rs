//! What must hold for any bytes that pretend to be a reference or an image's document. The fuzz
//! targets call these, and so do the ordinary tests of the crate `image`, for every seed of the
//! corpus and for mutations of the seeds.

#![allow(dead_code, reason = "each target calls one of them")]
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use image::config::Scope;
use image::document::{Document, ImageConfig};
use image::transport::{RawManifest, TransportRef};
use image::{Digest, Error, Reference};

/// A reference is refused in one line, or is the same after being written and read.
pub fn reference(bytes: &[u8]) -> Option<Reference> {
    let text = std::str::from_utf8(bytes).ok()?;
    if let Some(place) = accept(TransportRef::parse(text)) {
        let scope = Scope::of(&place);
        assert!(!scope.keys.is_empty());
    }
    let reference = accept(Reference::parse(text))?;
    assert_eq!(Reference::parse(&reference.to_string()).unwrap(), reference);
    // Its parts become parts of URLs and of paths.
    for part in [
        reference.host(),
        reference.path(),
        reference.tag().unwrap_or("x"),
    ] {
        assert!(
            !part.is_empty()
                && part
                    .split('/')
                    .all(|c| c != ".." && c != "." && !c.is_empty())
        );
        assert!(
            part.bytes()
                .all(|b| b.is_ascii_graphic() && !b"?#%&\\\"'<>".contains(&b))
        );
    }
    Some(reference)
}

/// A document is refused in one line, or is of one kind, and what it points to can be named.
pub fn manifest(bytes: &[u8]) -> Option<Document> {
    let _ = accept(ImageConfig::parse(bytes));
    let raw = RawManifest::new(bytes.to_vec(), "");
    assert_eq!(raw.digest, Digest::of(bytes));
    let document = accept(raw.parse())?;
    let kind = raw.own_media_type().unwrap();
    let again = RawManifest::new(bytes.to_vec(), kind.clone());
    assert!(
        again.parse().is_ok(),
        "{kind} describes what it was read from"
    );
    let (pointers, key) = match &document {
        Document::Index(index) => (index.manifests.clone(), "manifests"),
        Document::Manifest(manifest) => {
            let mut all = manifest.layers.clone();
            all.push(manifest.config.clone());
            (all, "layers")
        }
    };
    let value: serde_json::Value = serde_json::from_slice(bytes).unwrap();
    for other in ["manifests", "layers"] {
        assert!(other == key || value.get(other).is_none_or(serde_json::Value::is_null));
    }
    for pointer in pointers {
        let hex = pointer.digest.hex();
        assert!(hex.len() >= 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()));
    }
    Some(document)
}

fn accept<T>(result: Result<T, Error>) -> Option<T> {
    result
        .map_err(|e| assert!(!e.to_string().contains('\n'), "{e:?} is one line"))
        .ok()
}
