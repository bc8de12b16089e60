//! One image: its blobs in parallel, then its manifest.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::convert::{self, Compression, Format, compression_of};
use super::{Job, Layers};
use crate::document::{Descriptor, Document, ImageConfig, MAX_CONFIG, Manifest, media_type};
use crate::transport::{RawManifest, small_blob};
use crate::{Digest, Error, Result};

/// What happens to a blob.
#[derive(Clone, Debug)]
pub(super) struct Task {
    /// At the source.
    pub blob: Descriptor,
    /// Its compression there; `None`: it is not a layer and stays as it is.
    pub from: Option<Compression>,
    /// Its compression at the destination.
    pub to: Option<Compression>,
    /// Digest of it inflated, where the configuration says.
    pub diff_id: Option<Digest>,
    /// Level of the compression.
    pub level: Option<i32>,
}

impl Job<'_> {
    /// Copies what a manifest points to and returns the manifest for the destination, which is
    /// not written yet.
    pub(super) fn image(&self, raw: &RawManifest) -> Result<RawManifest> {
        let Document::Manifest(manifest) = raw.parse()? else {
            return Err(Error::Document {
                what: "manifest",
                why: format!("{}: an index where an image was expected", raw.digest),
            });
        };
        let is_image = matches!(
            manifest.config.media_type.as_str(),
            media_type::OCI_CONFIG | media_type::DOCKER_CONFIG
        );
        let asked = self.options.format.filter(|_| is_image);
        let mut format = convert::target_format(raw, self.to, asked)?;
        let diff_ids = if is_image {
            self.diff_ids(&manifest)?
        } else {
            Vec::new()
        };
        let there = self.taken_over()?;
        let mut tasks = Vec::new();
        for (n, layer) in manifest.layers.iter().enumerate() {
            let known = there.layers.get(n).cloned().flatten();
            let layer = known.as_ref().unwrap_or(layer);
            tasks.push(self.plan(layer, is_image, diff_ids.get(n)));
        }
        let zstd = tasks.iter().any(|t| t.to == Some(Compression::Zstd));
        if zstd && asked.is_none() && format == Format::Docker {
            // Docker's format has no zstd.
            format = Format::Oci;
        }
        let mut all = tasks.clone();
        all.push(Task {
            blob: manifest.config.clone(),
            from: None,
            to: None,
            diff_id: None,
            level: None,
        });
        let blobs: Vec<Descriptor> = all.iter().map(|t| t.blob.clone()).collect();
        self.options.progress.expected(&blobs);
        let written = self.blobs(&all)?;
        if let Some(same) = there.same {
            return Ok(same);
        }
        let mut layers = Vec::new();
        for task in &tasks {
            let done = written.get(&task.blob.digest);
            let (digest, size) = done
                .cloned()
                .unwrap_or_else(|| (task.blob.digest.clone(), task.blob.size));
            let media_type = match task.to {
                Some(compression) => {
                    convert::layer_type(&task.blob.media_type, format, compression)?
                }
                None => task.blob.media_type.clone(),
            };
            layers.push(Descriptor {
                media_type,
                digest,
                size,
                ..task.blob.clone()
            });
        }
        let changed = convert::manifest(raw, &layers, format)?;
        self.allow_change(raw, changed)
    }

    fn diff_ids(&self, manifest: &Manifest) -> Result<Vec<Digest>> {
        let bytes = small_blob(self.source, &manifest.config, MAX_CONFIG)?;
        Ok(ImageConfig::parse(&bytes)?.rootfs.diff_ids)
    }

    fn plan(&self, layer: &Descriptor, is_image: bool, diff_id: Option<&Digest>) -> Task {
        let from = compression_of(&layer.media_type).filter(|_| is_image);
        let fixed = self.options.preserve_digests || convert::is_foreign(layer);
        let (wanted, level) = match self.options.layers {
            _ if self.to.wants_uncompressed() => (Some(Compression::None), None),
            _ if fixed => (from, None),
            Layers::AsTheyAre => (from, None),
            Layers::Usual if self.to.wants_compressed() && from == Some(Compression::None) => {
                (Some(Compression::Gzip), None)
            }
            Layers::Usual => (from, None),
            Layers::Compressed(compression, level) => (Some(compression), level),
            Layers::Uncompressed => (Some(Compression::None), None),
        };
        Task {
            blob: layer.clone(),
            from,
            to: from.and(wanted),
            diff_id: diff_id.cloned(),
            level,
        }
    }

    /// Copies all blobs, some at once; the first error ends it.
    fn blobs(&self, tasks: &[Task]) -> Result<HashMap<Digest, (Digest, u64)>> {
        let mut unique: Vec<&Task> = Vec::new();
        for task in tasks {
            if unique.iter().all(|t| t.blob.digest != task.blob.digest) {
                unique.push(task);
            }
        }
        let next = AtomicUsize::new(0);
        let stop = AtomicBool::new(false);
        let done = Mutex::new(HashMap::new());
        let failed = Mutex::new(None);
        let work = || {
            while !stop.load(Ordering::Relaxed) {
                let Some(task) = unique.get(next.fetch_add(1, Ordering::Relaxed)) else {
                    return;
                };
                match self.blob(task) {
                    Ok(written) => {
                        let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                        done.insert(task.blob.digest.clone(), written);
                    }
                    Err(e) => {
                        stop.store(true, Ordering::Relaxed);
                        let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                        failed.get_or_insert(e);
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..self.options.parallel.clamp(1, unique.len().max(1)) {
                scope.spawn(work);
            }
        });
        match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(done.into_inner().unwrap_or_else(PoisonError::into_inner)),
        }
    }
}
