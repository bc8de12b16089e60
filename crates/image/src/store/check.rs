//! Proving that what is in the store is what was pulled, and healing what is not.

use std::collections::HashSet;

use serde::Serialize;

use super::Store;
use super::db::Records as _;
use super::pull::PullOptions;
use super::reassemble::LayerTar;
use super::record::{ImageRecord, LayerRecord};
use crate::transport::Source;
use crate::{Digest, Hasher, Reference, Result};

/// Something that is not as it was pulled.
#[derive(Clone, Debug, Serialize)]
pub struct Broken {
    /// Chain id of a layer, or digest of a document.
    pub digest: Digest,
    /// Ids of the images that have it.
    pub images: Vec<Digest>,
    /// What is wrong.
    pub why: String,
}

/// What a check found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CheckReport {
    /// Layers whose digests were computed.
    pub layers: usize,
    /// Bytes that were read for that.
    pub bytes: u64,
    /// What is broken.
    pub broken: Vec<Broken>,
}

impl Store {
    /// Computes the digests of all layers and documents again from what is on disk.
    ///
    /// # Errors
    /// The database is not readable. What is broken is no error but in the report.
    pub fn check(&self) -> Result<CheckReport> {
        let read = self.db.read()?;
        let images: Vec<ImageRecord> = read.all()?;
        let layers: Vec<LayerRecord> = read.all()?;
        let mut report = CheckReport::default();
        let with = |what: &Digest| -> Vec<Digest> {
            let has =
                |i: &&ImageRecord| i.layers.contains(what) || i.id == *what || i.manifest == *what;
            images.iter().filter(has).map(|i| i.id.clone()).collect()
        };
        let mut documents = HashSet::new();
        for image in &images {
            documents.extend([&image.id, &image.manifest]);
        }
        for digest in documents {
            let why = match read.document(digest) {
                Err(e) => Some(e.to_string()),
                Ok(bytes) => {
                    let mut hasher = Hasher::new(digest.algorithm());
                    hasher.update(&bytes);
                    let found = hasher.finish();
                    (found != *digest).then(|| format!("it has the digest {found}"))
                }
            };
            if let Some(why) = why {
                report.broken.push(Broken {
                    digest: digest.clone(),
                    images: with(digest),
                    why,
                });
            }
        }
        let known: HashSet<&Digest> = layers.iter().map(|l| &l.chain).collect();
        let lost: HashSet<&Digest> = (images.iter().flat_map(|i| &i.layers))
            .filter(|c| !known.contains(c))
            .collect();
        for chain in lost {
            let why = "it is not in the store".to_owned();
            report.broken.push(Broken {
                digest: chain.clone(),
                images: with(chain),
                why,
            });
        }
        for layer in &layers {
            report.layers += 1;
            report.bytes += layer.tar_size;
            if let Err(e) = self.check_layer(layer) {
                let images = with(&layer.chain);
                report.broken.push(Broken {
                    digest: layer.chain.clone(),
                    images,
                    why: e.to_string(),
                });
            }
        }
        Ok(report)
    }

    fn check_layer(&self, layer: &LayerRecord) -> Result<()> {
        LayerTar::new(self.place.open_layer(&layer.chain)?, layer.clone())?.verify()
    }

    /// Pulls an image again of which something is broken: what is whole stays, what is broken is
    /// fetched. Containers that run on broken layers keep them until they are mounted again.
    ///
    /// # Errors
    /// Those of [`Store::pull`].
    pub fn heal(
        &self,
        source: &dyn Source,
        reference: &Reference,
        options: &PullOptions<'_>,
    ) -> Result<ImageRecord> {
        self.must_write()?;
        let layers: Vec<LayerRecord> = self.db.read()?.all()?;
        let broken: Vec<Digest> = layers
            .into_iter()
            .filter(|l| self.check_layer(l).is_err())
            .map(|l| l.chain)
            .collect();
        self.db.write(|write| {
            (broken.iter()).try_for_each(|c| write.remove::<LayerRecord>(&c.to_string()))
        })?;
        for chain in &broken {
            self.place.remove_layer(chain)?;
        }
        self.forget_layer_mounts(&broken)?;
        self.pull(source, reference, options)
    }
}
