//! Blobs that the source does not have any more and the destination still has.

use super::{Job, Layers};
use crate::document::Descriptor;
use crate::transport::{Original, RawManifest};
use crate::{Error, Result};

/// What need not be sent.
#[derive(Debug, Default)]
pub(super) struct TakenOver {
    /// For each layer what it came as, if the destination has that.
    pub layers: Vec<Option<Descriptor>>,
    /// The manifest that the image came with, where the destination has all of its layers.
    pub same: Option<RawManifest>,
}

impl Job<'_> {
    /// Finds out which of the layers the destination has in the form that they came in.
    pub(super) fn taken_over(&self) -> Result<TakenOver> {
        let as_it_is = matches!(self.options.layers, Layers::Usual | Layers::AsTheyAre);
        let Some(original) = self.source.original().filter(|_| as_it_is) else {
            return Ok(TakenOver::default());
        };
        if self.to.wants_uncompressed() {
            return Ok(TakenOver::default());
        }
        let mut layers = Vec::new();
        for layer in &original.layers {
            layers.push(self.is_there(layer, original)?.then(|| layer.clone()));
        }
        let all = layers.iter().all(Option::is_some);
        let same = (all && self.takes(&original.manifest)?).then(|| original.manifest.clone());
        if same.is_none() && self.options.preserve_digests {
            return Err(Error::Refused {
                what: format!("copy to {}", self.to.place()),
                why: format!(
                    "it lacks layers of {}, and the store has them no longer as they came: copy the image from the registry that it came from",
                    original.manifest.digest
                ),
            });
        }
        Ok(TakenOver { layers, same })
    }

    fn is_there(&self, layer: &Descriptor, original: &Original) -> Result<bool> {
        if super::convert::is_foreign(layer) || self.to.has_blob(layer)? {
            return Ok(true);
        }
        for repository in &original.repositories {
            if self.to.mount_blob(layer, repository)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether the manifest may be written as it is.
    fn takes(&self, manifest: &RawManifest) -> Result<bool> {
        let asked = self.options.format;
        Ok(self.to.accepts(&manifest.own_media_type()?)
            && asked.is_none_or(|format| {
                super::convert::format_of(manifest).is_ok_and(|own| own == format)
            }))
    }
}
