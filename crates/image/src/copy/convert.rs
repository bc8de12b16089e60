//! Manifests in another format, layers in another compression: what changes in the documents.

use serde_json::Value;

use crate::document::{Descriptor, Document, media_type};
use crate::transport::{Destination, RawManifest};
use crate::{Error, Result};

/// Format of manifests.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// OCI image-spec 1.
    Oci,
    /// Docker schema 2.
    Docker,
}

/// Compression of layers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Compression {
    /// None.
    None,
    /// gzip.
    Gzip,
    /// zstd.
    Zstd,
}

const DOCKER_ZSTD: &str = "application/vnd.docker.image.rootfs.diff.tar.zstd";

/// Compression of a layer by its media type; `None`: not a layer of an image.
pub fn compression_of(kind: &str) -> Option<Compression> {
    match kind {
        media_type::DOCKER_LAYER => return Some(Compression::None),
        media_type::DOCKER_LAYER_GZIP | media_type::DOCKER_LAYER_FOREIGN => {
            return Some(Compression::Gzip);
        }
        DOCKER_ZSTD => return Some(Compression::Zstd),
        _ => {}
    }
    let rest = kind
        .strip_prefix(media_type::OCI_LAYER)
        .or_else(|| kind.strip_prefix(media_type::OCI_LAYER_FOREIGN))?;
    match rest {
        "" => Some(Compression::None),
        "+gzip" => Some(Compression::Gzip),
        "+zstd" => Some(Compression::Zstd),
        _ => None,
    }
}

/// Whether a layer is one that is not pushed elsewhere.
pub fn is_foreign(blob: &Descriptor) -> bool {
    !blob.urls.is_empty()
        && (blob.media_type.starts_with(media_type::OCI_LAYER_FOREIGN)
            || blob.media_type == media_type::DOCKER_LAYER_FOREIGN)
}

/// The media type of a layer in `format`.
pub fn layer_type(was: &str, format: Format, compression: Compression) -> Result<String> {
    let foreign =
        was.starts_with(media_type::OCI_LAYER_FOREIGN) || was == media_type::DOCKER_LAYER_FOREIGN;
    let base = match (format, foreign) {
        (Format::Oci, false) => media_type::OCI_LAYER,
        (Format::Oci, true) => media_type::OCI_LAYER_FOREIGN,
        (Format::Docker, true) => return Ok(media_type::DOCKER_LAYER_FOREIGN.to_owned()),
        (Format::Docker, false) => {
            return match compression {
                Compression::None => Ok(media_type::DOCKER_LAYER.to_owned()),
                Compression::Gzip => Ok(media_type::DOCKER_LAYER_GZIP.to_owned()),
                Compression::Zstd => Err(Error::Refused {
                    what: "a zstd layer in a Docker manifest".to_owned(),
                    why: "that format has none; use --format oci, or gzip".to_owned(),
                }),
            };
        }
    };
    Ok(match compression {
        Compression::None => base.to_owned(),
        Compression::Gzip => format!("{base}+gzip"),
        Compression::Zstd => format!("{base}+zstd"),
    })
}

/// The format of a document.
pub fn format_of(raw: &RawManifest) -> Result<Format> {
    Ok(match raw.own_media_type()?.as_str() {
        media_type::DOCKER_LIST | media_type::DOCKER_MANIFEST => Format::Docker,
        _ => Format::Oci,
    })
}

/// The format that a document is written in.
pub fn target_format(
    raw: &RawManifest,
    to: &dyn Destination,
    asked: Option<Format>,
) -> Result<Format> {
    let is_index = matches!(raw.parse()?, Document::Index(_));
    let takes = |format| to.accepts(document_type(format, is_index));
    let own = format_of(raw)?;
    let other = match own {
        Format::Oci => Format::Docker,
        Format::Docker => Format::Oci,
    };
    match asked {
        Some(format) if takes(format) => Ok(format),
        Some(format) => Err(Error::Refused {
            what: to.place(),
            why: format!("it does not take {}", document_type(format, is_index)),
        }),
        None if takes(own) => Ok(own),
        None if takes(other) => Ok(other),
        None => Err(Error::Refused {
            what: to.place(),
            why: format!("it does not take {}", document_type(own, is_index)),
        }),
    }
}

const fn document_type(format: Format, is_index: bool) -> &'static str {
    match (format, is_index) {
        (Format::Oci, true) => media_type::OCI_INDEX,
        (Format::Oci, false) => media_type::OCI_MANIFEST,
        (Format::Docker, true) => media_type::DOCKER_LIST,
        (Format::Docker, false) => media_type::DOCKER_MANIFEST,
    }
}

/// The manifest with these layers in this format; the same bytes where nothing changes.
pub fn manifest(raw: &RawManifest, layers: &[Descriptor], format: Format) -> Result<RawManifest> {
    let mut value = parse(raw)?;
    if format_of(raw)? != format {
        let config = match format {
            Format::Oci => media_type::OCI_CONFIG,
            Format::Docker => media_type::DOCKER_CONFIG,
        };
        set(&mut value, "/config/mediaType", config.into());
        set_kind(&mut value, document_type(format, false), format);
    }
    replace(&mut value, "layers", layers);
    written(raw, &value, document_type(format, false))
}

/// The index with these entries in this format; the same bytes where nothing changes.
pub fn index(raw: &RawManifest, entries: &[Descriptor], format: Format) -> Result<RawManifest> {
    let mut value = parse(raw)?;
    if format_of(raw)? != format {
        set_kind(&mut value, document_type(format, true), format);
    }
    replace(&mut value, "manifests", entries);
    written(raw, &value, document_type(format, true))
}

fn parse(raw: &RawManifest) -> Result<Value> {
    serde_json::from_slice(&raw.bytes).map_err(bad)
}

fn bad(error: serde_json::Error) -> Error {
    Error::Document {
        what: "manifest",
        why: error.to_string(),
    }
}

fn set(value: &mut Value, pointer: &str, to: Value) {
    if let Some(place) = value.pointer_mut(pointer) {
        *place = to;
    }
}

fn set_kind(value: &mut Value, kind: &str, format: Format) {
    if let Value::Object(fields) = value {
        fields.insert("mediaType".to_owned(), kind.into());
        if format == Format::Docker {
            // Docker's format does not have them, and Docker refuses what it does not know.
            for field in ["annotations", "subject", "artifactType"] {
                fields.remove(field);
            }
        }
    }
}

/// Puts the descriptors' type, digest and size in place; their other fields stay.
fn replace(value: &mut Value, list: &str, descriptors: &[Descriptor]) {
    let Some(Value::Array(items)) = value.get_mut(list) else {
        return;
    };
    for (item, d) in items.iter_mut().zip(descriptors) {
        let Value::Object(fields) = item else {
            continue;
        };
        let before = fields
            .get("digest")
            .and_then(Value::as_str)
            .map(str::to_owned);
        let digest = d.digest.to_string();
        if before.as_deref() != Some(&digest) {
            fields.remove("data");
        }
        fields.insert("mediaType".to_owned(), d.media_type.clone().into());
        fields.insert("digest".to_owned(), digest.into());
        fields.insert("size".to_owned(), d.size.into());
    }
}

/// The same bytes if the document says the same.
fn written(raw: &RawManifest, value: &Value, kind: &str) -> Result<RawManifest> {
    if parse(raw)? == *value {
        return Ok(RawManifest {
            media_type: raw.own_media_type()?,
            ..raw.clone()
        });
    }
    let bytes = serde_json::to_vec(value).map_err(bad)?;
    Ok(RawManifest::new(bytes, kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(kind: &str, layer: &str) -> RawManifest {
        let digest = crate::Digest::of(b"");
        let config = if kind == media_type::OCI_MANIFEST {
            media_type::OCI_CONFIG
        } else {
            media_type::DOCKER_CONFIG
        };
        let text = format!(
            r#"{{ "schemaVersion": 2, "mediaType": "{kind}", "annotations": {{"a":"b"}}, "x": 1,
            "config": {{"mediaType":"{config}","digest":"{digest}","size":0}},
            "layers": [{{"mediaType":"{layer}","digest":"{digest}","size":0,"data":"","y":2}}] }}"#
        );
        RawManifest::new(text.into_bytes(), kind)
    }

    fn layers(raw: &RawManifest) -> Vec<Descriptor> {
        match raw.parse().unwrap() {
            Document::Manifest(m) => m.layers,
            Document::Index(_) => Vec::new(),
        }
    }

    #[test]
    fn unchanged_documents_keep_their_bytes() {
        let before = raw(media_type::OCI_MANIFEST, media_type::OCI_LAYER);
        let after = manifest(&before, &layers(&before), Format::Oci).unwrap();
        assert_eq!(before, after);
    }

    #[test]
    fn formats_change_into_each_other() {
        let gzip = format!("{}+gzip", media_type::OCI_LAYER);
        let before = raw(media_type::OCI_MANIFEST, &gzip);
        let mut new = layers(&before);
        new[0].media_type = layer_type(&gzip, Format::Docker, Compression::Gzip).unwrap();
        let docker = manifest(&before, &new, Format::Docker).unwrap();
        assert_eq!(
            docker.own_media_type().unwrap(),
            media_type::DOCKER_MANIFEST
        );
        let text = String::from_utf8(docker.bytes.clone()).unwrap();
        assert!(
            !text.contains("annotations") && text.contains("\"y\":2"),
            "{text}"
        );
        assert!(text.contains(media_type::DOCKER_CONFIG), "{text}");
        new[0].media_type = layer_type(&new[0].media_type, Format::Oci, Compression::Gzip).unwrap();
        let back = manifest(&docker, &new, Format::Oci).unwrap();
        assert_eq!(layers(&back)[0].media_type, gzip);
        assert!(layer_type(&gzip, Format::Docker, Compression::Zstd).is_err());
    }

    #[test]
    fn knows_layers_by_their_types() {
        for (kind, expected) in [
            (media_type::OCI_LAYER, Some(Compression::None)),
            (
                "application/vnd.oci.image.layer.v1.tar+zstd",
                Some(Compression::Zstd),
            ),
            (media_type::DOCKER_LAYER_FOREIGN, Some(Compression::Gzip)),
            (
                "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
                None,
            ),
            ("application/vnd.cncf.helm.chart.content.v1.tar+gzip", None),
        ] {
            assert_eq!(compression_of(kind), expected, "{kind}");
        }
    }
}
