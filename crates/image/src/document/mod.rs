//! Index, manifest and configuration, in OCI's form and in Docker's schema 2.
//!
//! A document is read in three steps that cannot be skipped: its size is limited, its bytes have
//! been checked against the digest asked for, and its kind is settled by [`Document::parse`],
//! which refuses a document that could be read as two kinds (CVE-2021-41190).

mod config;
mod manifest;

use serde::Deserialize;

pub use config::{Healthcheck, History, ImageConfig, RootFs, RunConfig};
pub use manifest::{Descriptor, Index, Manifest, PlatformSpec};

use crate::{Error, Result};

/// Largest index or manifest that is read: distribution's own limit.
pub const MAX_MANIFEST: u64 = 4 << 20;
/// Largest image configuration that is read.
pub const MAX_CONFIG: u64 = 8 << 20;

/// Media types.
pub mod media_type {
    /// OCI index.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// OCI manifest.
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// OCI configuration.
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// OCI layer; `+gzip` and `+zstd` may follow.
    pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// OCI layer that must not be pushed elsewhere; deprecated.
    pub const OCI_LAYER_FOREIGN: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar";
    /// The empty JSON object that artifacts have for a configuration.
    pub const OCI_EMPTY: &str = "application/vnd.oci.empty.v1+json";
    /// Docker manifest list.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker manifest, schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker configuration.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// Docker layer, gzip.
    pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    /// Docker layer, not compressed.
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
    /// Docker layer fetched from elsewhere.
    pub const DOCKER_LAYER_FOREIGN: &str =
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
}

/// A document that a reference or an index entry points to.
#[derive(Clone, Debug)]
pub enum Document {
    /// Several images to choose from.
    Index(Box<Index>),
    /// One image, or an artifact.
    Manifest(Box<Manifest>),
}

/// The fields that tell the kinds apart.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    schema_version: Option<u32>,
    media_type: Option<String>,
    manifests: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
    config: Option<serde::de::IgnoredAny>,
    fs_layers: Option<serde::de::IgnoredAny>,
}

impl Document {
    /// Reads a document whose digest has been checked. `declared` is the media type that the
    /// descriptor or the registry's `Content-Type` gave; empty where nothing did.
    ///
    /// # Errors
    /// Too large, not JSON, of no kind or of two, or of another kind than declared.
    pub fn parse(bytes: &[u8], declared: &str) -> Result<Self> {
        let refuse = |why: String| Error::Document {
            what: "manifest",
            why,
        };
        if bytes.len() as u64 > MAX_MANIFEST {
            return Err(refuse(format!("larger than {MAX_MANIFEST} bytes")));
        }
        let bad_json = |e: serde_json::Error| refuse(e.to_string());
        // What is passed over is not decoded, and others would read it in their own way.
        std::str::from_utf8(bytes).map_err(|e| refuse(format!("not UTF-8: {e}")))?;
        let shape: Shape = serde_json::from_slice(bytes).map_err(bad_json)?;
        let kind = kind_of(&shape, declared).map_err(refuse)?;
        match kind {
            Kind::Index => {
                let index: Box<Index> = serde_json::from_slice(bytes).map_err(bad_json)?;
                Ok(Self::Index(index))
            }
            Kind::Manifest => {
                let manifest: Box<Manifest> = serde_json::from_slice(bytes).map_err(bad_json)?;
                Ok(Self::Manifest(manifest))
            }
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Index,
    Manifest,
}

fn kind_of_media_type(text: &str) -> Option<Kind> {
    match text.split(';').next().unwrap_or(text).trim() {
        media_type::OCI_INDEX | media_type::DOCKER_LIST => Some(Kind::Index),
        media_type::OCI_MANIFEST | media_type::DOCKER_MANIFEST => Some(Kind::Manifest),
        _ => None,
    }
}

fn kind_of(shape: &Shape, declared: &str) -> std::result::Result<Kind, String> {
    if shape.schema_version == Some(1) || shape.fs_layers.is_some() {
        return Err("Docker schema 1: push the image again with a tool of this decade".to_owned());
    }
    if shape.schema_version != Some(2) {
        return Err("schemaVersion is not 2".to_owned());
    }
    let by_shape = match (&shape.manifests, &shape.layers, &shape.config) {
        (Some(_), None, None) => Kind::Index,
        (None, Some(_), Some(_)) => Kind::Manifest,
        (Some(_), _, _) => return Err("has both `manifests` and `layers` or `config`".to_owned()),
        (None, _, _) => return Err("neither an index nor a manifest".to_owned()),
    };
    for text in [shape.media_type.as_deref().unwrap_or(""), declared] {
        match kind_of_media_type(text) {
            Some(kind) if kind != by_shape => {
                return Err(format!("media type {text:?} does not fit its content"));
            }
            // Registries serve manifests as JSON or as plain bytes; those words say nothing.
            None if text.starts_with("application/vnd.") => {
                return Err(format!(
                    "media type {text:?}: not an image index or manifest"
                ));
            }
            _ => {}
        }
    }
    Ok(by_shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn descriptor(size: i64) -> String {
        format!(r#"{{"mediaType":"application/x","digest":"sha256:{HEX}","size":{size}}}"#)
    }

    fn manifest(extra: &str) -> String {
        let d = descriptor(0);
        format!(r#"{{"schemaVersion":2,"config":{d},"layers":[{d}]{extra}}}"#)
    }

    #[test]
    fn kinds_by_shape() {
        let parsed = Document::parse(manifest("").as_bytes(), "").unwrap();
        assert!(matches!(parsed, Document::Manifest(m) if m.layers.len() == 1));
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, descriptor(5));
        let parsed = Document::parse(index.as_bytes(), media_type::DOCKER_LIST).unwrap();
        assert!(matches!(parsed, Document::Index(i) if i.manifests[0].size == 5));
    }

    #[test]
    fn refuses_confusion() {
        let both = manifest(r#","manifests":[]"#);
        let wrong = manifest(&format!(r#","mediaType":"{}""#, media_type::OCI_INDEX));
        for (text, declared) in [
            (both.as_str(), ""),
            (wrong.as_str(), ""),
            (manifest("").as_str(), media_type::OCI_INDEX),
            (manifest("").as_str(), media_type::OCI_CONFIG),
            (r#"{"schemaVersion":1,"fsLayers":[]}"#, ""),
            (r#"{"schemaVersion":2}"#, ""),
            (r#"{"manifests":[]}"#, ""),
            ("[]", ""),
            ("", ""),
        ] {
            assert!(
                Document::parse(text.as_bytes(), declared).is_err(),
                "{text} {declared}"
            );
        }
        let negative = manifest("").replace("\"size\":0", "\"size\":-1");
        assert!(Document::parse(negative.as_bytes(), "").is_err());
    }
}
