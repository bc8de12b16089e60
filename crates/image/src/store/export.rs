//! The store as a source: to push, copy and save what is in it.

use std::io::{Cursor, Read};
use std::os::fd::OwnedFd;

use super::Store;
use super::reassemble::LayerTar;
use super::record::{ImageRecord, LayerRecord};
use crate::document::{Descriptor, Manifest, media_type};
use crate::transport::{Original, RawManifest, Source};
use crate::{Digest, Error, Reference, Result};

/// An image of the store, to be read.
///
/// The store does not keep the compressed blobs that an image came as, only what they hold; so
/// this is the image with layers that are not compressed, and with a manifest of its own that
/// says so. Its configuration, and so its id, is the same. A destination that has the blobs gets
/// the image as it came ([`Source::original`]).
#[derive(Debug)]
pub struct StoreSource {
    name: String,
    manifest: RawManifest,
    config: Vec<u8>,
    config_digest: Digest,
    layers: Vec<(LayerRecord, OwnedFd)>,
    original: Original,
}

impl Store {
    /// The image `id` as a source. What it needs stays readable, whatever becomes of the image.
    ///
    /// # Errors
    /// [`Error::Missing`]; not readable.
    pub fn export(&self, id: &Digest) -> Result<StoreSource> {
        let details = self.inspect(id)?;
        let original = Original {
            manifest: RawManifest::new(details.manifest_bytes, details.manifest.media_type.clone()),
            layers: details.manifest.layers.clone(),
            repositories: self.repositories(&details.record)?,
        };
        let blobs = details.layers.iter().map(|layer| Descriptor {
            media_type: media_type::OCI_LAYER.to_owned(),
            digest: layer.diff_id.clone(),
            size: layer.tar_size,
            ..Descriptor::of(b"", "")
        });
        let manifest = Manifest {
            schema_version: 2,
            media_type: media_type::OCI_MANIFEST.to_owned(),
            config: Descriptor {
                digest: id.clone(),
                size: details.config_bytes.len() as u64,
                ..Descriptor::of(b"", media_type::OCI_CONFIG)
            },
            layers: blobs.collect(),
            ..details.manifest
        };
        let bytes = super::record::encode(&manifest)?;
        let layers = details.layers.into_iter().map(|layer| {
            let dir = self.place.open_layer(&layer.chain)?;
            Ok((layer, dir))
        });
        Ok(StoreSource {
            name: format!("image {}", id.short()),
            manifest: RawManifest::new(bytes, media_type::OCI_MANIFEST),
            config: details.config_bytes,
            config_digest: id.clone(),
            layers: layers.collect::<Result<_>>()?,
            original,
        })
    }

    /// Repositories that an image's layers may be in: its own, then those of images that share
    /// some of them.
    fn repositories(&self, image: &ImageRecord) -> Result<Vec<Reference>> {
        let mut all: Vec<Reference> = Vec::new();
        let mut images = self.images()?;
        images.retain(|other| other.layers.first() == image.layers.first());
        images.sort_by_key(|other| other.id != image.id);
        let names = images.iter().flat_map(|i| i.names.iter().chain(&i.digests));
        for name in names {
            if let Ok(reference) = Reference::parse(name)
                && all.iter().all(|known| known.name() != reference.name())
            {
                all.push(reference);
            }
        }
        Ok(all)
    }
}

impl Source for StoreSource {
    fn place(&self) -> String {
        self.name.clone()
    }

    fn original(&self) -> Option<&Original> {
        Some(&self.original)
    }

    fn manifest(&self, by: Option<&Digest>) -> Result<RawManifest> {
        match by {
            Some(digest) if *digest != self.manifest.digest => Err(Error::Missing {
                what: format!("manifest {digest}"),
                why: format!("{} has another", self.name),
            }),
            _ => Ok(self.manifest.clone()),
        }
    }

    fn blob(&self, blob: &Descriptor) -> Result<Box<dyn Read + Send>> {
        if blob.digest == self.config_digest {
            return Ok(Box::new(Cursor::new(self.config.clone())));
        }
        let layer = self.layers.iter().find(|(l, _)| l.diff_id == blob.digest);
        let (record, dir) = layer.ok_or_else(|| Error::Missing {
            what: format!("blob {}", blob.digest),
            why: format!("{} does not have it", self.name),
        })?;
        let dir = dir.try_clone().map_err(|e| Error::io("dup", e))?;
        Ok(Box::new(LayerTar::new(dir, record.clone())?))
    }
}
