//! Pulling: documents, then layers in parallel, then one commit.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::Store;
use super::flight::{Layer, Turn};
use super::lower::Chain;
use super::record::{ImageRecord, LayerRecord, LeaseRecord, chain_ids, now};
use super::stream::Watch;
use crate::document::{Descriptor, ImageConfig, MAX_CONFIG, media_type};
use crate::layer::Limits;
use crate::transport::{RawManifest, Resolved, Source, resolve, small_blob};
use crate::{Digest, Error, Platform, Reference, Result};

/// Layers fetched at the same time.
pub const PARALLEL: usize = 3;
/// How long layers of a pull that failed are kept for the next try, seconds.
const KEEP_PARTIAL: u64 = 3600;
/// The lease that keeps them.
const PARTIAL_LEASE: &str = "partial";

/// What happens during a pull. `layer` counts from the lowest, 0.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// The image is found: these are its layers, lowest first.
    Resolved {
        /// Digest of its manifest.
        manifest: &'a Digest,
        /// Its layers.
        layers: &'a [Descriptor],
    },
    /// The store has the layer already.
    Present {
        /// Which.
        layer: usize,
    },
    /// Bytes of a layer's blob have arrived.
    Bytes {
        /// Which.
        layer: usize,
        /// How many more.
        count: u64,
    },
    /// A layer is complete.
    Complete {
        /// Which.
        layer: usize,
    },
    /// All is there and becomes durable.
    Committing,
}

/// Is told what happens; called from several threads.
pub type Progress<'a> = &'a (dyn Fn(Event<'_>) + Sync);

/// How to pull.
#[derive(Clone, Copy)]
pub struct PullOptions<'a> {
    /// Which image of an index.
    pub platform: Option<&'a Platform>,
    /// What a layer may ask for.
    pub limits: Limits,
    /// Layers at the same time.
    pub parallel: usize,
    /// Is told what happens.
    pub progress: Option<Progress<'a>>,
    /// Ends the pull soon after it becomes true.
    pub cancel: Option<&'a AtomicBool>,
    /// A lease that the image joins as it is committed.
    pub lease: Option<&'a str>,
}

impl Default for PullOptions<'_> {
    fn default() -> Self {
        Self {
            platform: None,
            limits: Limits::default(),
            parallel: PARALLEL,
            progress: None,
            cancel: None,
            lease: None,
        }
    }
}

impl std::fmt::Debug for PullOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PullOptions")
            .field("platform", &self.platform)
            .field("parallel", &self.parallel)
            .finish_non_exhaustive()
    }
}

/// An image whose documents are known and whose layers are not all there yet.
pub(crate) struct Plan {
    pub raw: RawManifest,
    pub top: RawManifest,
    pub blobs: Vec<Descriptor>,
    pub config: ImageConfig,
    pub config_bytes: Vec<u8>,
    pub id: Digest,
    pub chains: Vec<Digest>,
}

impl Plan {
    pub fn new(source: &dyn Source, platform: &Platform) -> Result<Self> {
        let Resolved { raw, manifest, top } = resolve(source, platform)?;
        let refuse = |why: String| Error::Document {
            what: "manifest",
            why: format!("{}: {why}", source.place()),
        };
        let kind = manifest.config.media_type.as_str();
        if ![media_type::OCI_CONFIG, media_type::DOCKER_CONFIG].contains(&kind) {
            return Err(refuse(format!(
                "an artifact with a configuration of type {kind:?}, not an image"
            )));
        }
        let config_bytes = small_blob(source, &manifest.config, MAX_CONFIG)?;
        let config = ImageConfig::parse(&config_bytes)?;
        let (layers, diff_ids) = (manifest.layers.len(), config.rootfs.diff_ids.len());
        if layers != diff_ids {
            return Err(refuse(format!(
                "{layers} layers, but its configuration lists {diff_ids}"
            )));
        }
        Ok(Self {
            chains: chain_ids(&config.rootfs.diff_ids),
            id: manifest.config.digest.clone(),
            blobs: manifest.layers,
            raw,
            top,
            config,
            config_bytes,
        })
    }
}

/// The layers of one pull as they become ready.
struct Ready {
    layers: Mutex<Vec<Option<(Layer, Chain)>>>,
    changed: Condvar,
    failed: AtomicBool,
    failure: Mutex<Option<Error>>,
}

impl Ready {
    fn new(count: usize) -> Self {
        Self {
            layers: Mutex::new(vec![None; count]),
            changed: Condvar::new(),
            failed: AtomicBool::new(false),
            failure: Mutex::new(None),
        }
    }

    fn set(&self, index: usize, layer: Layer, chain: Chain) {
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = layers.get_mut(index) {
            *slot = Some((layer, chain));
        }
        self.changed.notify_all();
    }

    /// The first failure counts; the others follow from it.
    fn fail(&self, error: Error) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(error);
        self.failed.store(true, Ordering::Relaxed);
        // Under the lock that the waiting ones hold while they look.
        let _layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        self.changed.notify_all();
    }

    /// The layers below `index`; `None` where the pull has failed.
    fn below(&self, index: usize) -> Option<Chain> {
        let Some(parent) = index.checked_sub(1) else {
            return Some(Chain::default());
        };
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(Some((_, chain))) = layers.get(parent) {
                return Some(chain.clone());
            }
            if self.failed.load(Ordering::Relaxed) {
                return None;
            }
            layers = self
                .changed
                .wait(layers)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Store {
    /// Pulls the image that `source` has into the store, under the name `reference`. What the
    /// store has already is not fetched.
    ///
    /// # Errors
    /// Not readable, broken, hostile or too large; nothing is in the store then that was not
    /// before, but complete layers are kept for an hour for the next try.
    pub fn pull(
        &self,
        source: &dyn Source,
        reference: &Reference,
        options: &PullOptions<'_>,
    ) -> Result<ImageRecord> {
        self.must_write()?;
        let host = Platform::host();
        let plan = Plan::new(source, options.platform.unwrap_or(&host))?;
        if let Some(progress) = options.progress {
            progress(Event::Resolved {
                manifest: &plan.raw.digest,
                layers: &plan.blobs,
            });
        }
        let _wanted = self.flights.want(&plan.chains);
        let (layers, failure) = self.pull_layers(source, &plan, options);
        if let Some(error) = failure {
            if !error.is_full_disk() {
                // The reason why nothing could be kept would hide the reason for the failure.
                let _ = self.keep_partial(&layers);
            }
            return Err(error);
        }
        if let Some(progress) = options.progress {
            progress(Event::Committing);
        }
        self.commit_image(&plan, Some(reference), &layers, options.lease)
    }

    fn pull_layers(
        &self,
        source: &dyn Source,
        plan: &Plan,
        options: &PullOptions<'_>,
    ) -> (Vec<Layer>, Option<Error>) {
        let ready = Ready::new(plan.blobs.len());
        let next = AtomicUsize::new(0);
        let workers = options.parallel.clamp(1, plan.blobs.len().max(1));
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| {
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        if index >= plan.blobs.len() || ready.failed.load(Ordering::Relaxed) {
                            break;
                        }
                        if let Err(e) = self.pull_layer(source, plan, index, options, &ready) {
                            ready.fail(e);
                        }
                    }
                });
            }
        });
        let layers = ready
            .layers
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        let layers = layers.into_iter().map_while(|l| l.map(|(layer, _)| layer));
        let failure = ready
            .failure
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        (layers.collect(), failure)
    }

    fn pull_layer(
        &self,
        source: &dyn Source,
        plan: &Plan,
        index: usize,
        options: &PullOptions<'_>,
        ready: &Ready,
    ) -> Result<()> {
        let (Some(chain), Some(blob)) = (plan.chains.get(index), plan.blobs.get(index)) else {
            return Ok(());
        };
        let tell = |event: Event<'_>| {
            if let Some(progress) = options.progress {
                progress(event);
            }
        };
        let layer = match self.flights.turn(chain) {
            Turn::There(layer) => {
                tell(Event::Present { layer: index });
                layer
            }
            Turn::Yours => {
                let layer = match self.stored(chain) {
                    Ok(Some(record)) => {
                        tell(Event::Present { layer: index });
                        Ok(Layer::Stored(Box::new(record)))
                    }
                    Ok(None) => self.make_layer(source, plan, index, blob, options, ready),
                    Err(e) => Err(e),
                };
                self.flights.land(chain, layer.as_ref().ok().cloned());
                layer?
            }
        };
        let content = match &layer {
            Layer::Stored(record) => self.content(record)?,
            Layer::Made(made) => Arc::clone(&made.content),
        };
        let Some(below) = ready.below(index) else {
            return Ok(());
        };
        ready.set(index, layer, below.on(content));
        tell(Event::Complete { layer: index });
        Ok(())
    }

    fn make_layer(
        &self,
        source: &dyn Source,
        plan: &Plan,
        index: usize,
        blob: &Descriptor,
        options: &PullOptions<'_>,
        ready: &Ready,
    ) -> Result<Layer> {
        let taken = |count| {
            if let Some(progress) = options.progress {
                progress(Event::Bytes {
                    layer: index,
                    count,
                });
            }
        };
        let cancelled = || {
            ready.failed.load(Ordering::Relaxed)
                || options.cancel.is_some_and(|c| c.load(Ordering::Relaxed))
        };
        let watch = Watch {
            taken: &taken,
            cancelled: &cancelled,
        };
        let parent = index.checked_sub(1).and_then(|p| plan.chains.get(p));
        let diff_id = plan.config.rootfs.diff_ids.get(index);
        let (Some(chain), Some(diff_id)) = (plan.chains.get(index), diff_id) else {
            return Err(Error::store("pull", "no such layer"));
        };
        let wanted = super::build::Wanted {
            chain,
            parent,
            diff_id,
            blob,
        };
        let below = || ready.below(index);
        let made = self.build(source, &wanted, options.limits, &watch, &below)?;
        Ok(Layer::Made(Arc::new(made)))
    }

    /// Makes all durable: files first, then names, then one transaction.
    pub(crate) fn commit_image(
        &self,
        plan: &Plan,
        reference: Option<&Reference>,
        layers: &[Layer],
        lease: Option<&str>,
    ) -> Result<ImageRecord> {
        let _one = self
            .committing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        self.place_layers(layers)?;
        self.db.write(|write| {
            for layer in layers {
                write.put(layer.record())?;
            }
            write.put_document(&plan.raw.digest, &plan.raw.bytes)?;
            write.put_document(&plan.id, &plan.config_bytes)?;
            let old = write.get::<ImageRecord>(&plan.id.to_string())?;
            let image = image_record(plan, reference, layers, old);
            if let Some(name) = image_name(reference) {
                super::images::take_name(write, &name, &image.id)?;
            }
            write.put(&image)?;
            if let Some(id) = lease {
                let mut lease = write
                    .get::<LeaseRecord>(id)?
                    .ok_or_else(|| Error::Missing {
                        what: format!("lease {id}"),
                        why: "it is over: take one before the pull".to_owned(),
                    })?;
                lease.images.insert(image.id.clone());
                write.put(&lease)?;
            }
            Ok(image)
        })
    }

    /// Gives complete layers their names, durably.
    fn place_layers(&self, layers: &[Layer]) -> Result<()> {
        let made: Vec<_> = layers
            .iter()
            .filter_map(|l| match l {
                Layer::Made(made) => Some(made),
                Layer::Stored(_) => None,
            })
            .collect();
        super::build::sync_directories(made.iter().map(|m| &m.record), self.place.layers())?;
        for layer in &made {
            let mut tmp = layer.tmp.lock().unwrap_or_else(PoisonError::into_inner);
            self.place.commit(&mut tmp, &layer.record.chain)?;
        }
        if !made.is_empty() {
            self.place.sync_layers()?;
        }
        Ok(())
    }

    /// Keeps the complete layers of a pull that failed.
    fn keep_partial(&self, layers: &[Layer]) -> Result<()> {
        if !layers.iter().any(|l| matches!(l, Layer::Made(_))) {
            return Ok(());
        }
        let _one = self
            .committing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        self.place_layers(layers)?;
        self.db.write(|write| {
            let old = write.get::<LeaseRecord>(PARTIAL_LEASE)?;
            let mut lease = old
                .filter(|l| !l.is_over(now()))
                .unwrap_or_else(|| LeaseRecord {
                    id: PARTIAL_LEASE.to_owned(),
                    expires: None,
                    images: Default::default(),
                    layers: Default::default(),
                });
            lease.expires = Some(now() + KEEP_PARTIAL);
            for layer in layers {
                lease.layers.insert(layer.record().chain.clone());
                write.put(layer.record())?;
            }
            write.put(&lease)
        })
    }

    pub(crate) fn stored(&self, chain: &Digest) -> Result<Option<LayerRecord>> {
        self.db.read()?.get(&chain.to_string())
    }
}

fn image_name(reference: Option<&Reference>) -> Option<String> {
    let reference = reference?;
    let tag = reference.tag()?;
    // A reference with both was checked against the digest; its tag may be elsewhere by now.
    reference
        .digest()
        .is_none()
        .then(|| format!("{}:{tag}", reference.name()))
}

fn image_record(
    plan: &Plan,
    reference: Option<&Reference>,
    layers: &[Layer],
    old: Option<ImageRecord>,
) -> ImageRecord {
    let run = plan.config.config.as_ref();
    let mut image = old.unwrap_or_else(|| ImageRecord {
        id: plan.id.clone(),
        manifest: plan.raw.digest.clone(),
        names: Default::default(),
        digests: Default::default(),
        layers: plan.chains.clone(),
        size: 0,
        pinned: false,
        used: 0,
        created: plan.config.created.clone(),
        user: run.map(|c| c.user.clone()).unwrap_or_default(),
    });
    image.manifest = plan.raw.digest.clone();
    image.size = layers.iter().map(|l| l.record().disk).sum();
    image.used = now();
    image.names.extend(image_name(reference));
    if let Some(reference) = reference {
        for digest in [&plan.top.digest, &plan.raw.digest] {
            image
                .digests
                .insert(format!("{}@{digest}", reference.name()));
        }
    }
    image
}
