//! Copies images between any two places.
//!
//! What a source says is checked before it counts: manifests and blobs against their digests and
//! sizes, a layer that is inflated on its way against the configuration's `diff_ids`. A source that
//! keeps layers in another form than they came in names the blobs that they came as; what the
//! destination has of these is not sent.

mod blob;
mod convert;
mod from_tar;
mod image;
mod original;

use std::time::Duration;

pub use convert::{Compression, Format};
pub use from_tar::FromTar;

use crate::config::{Policy, Scope};
use crate::document::{Descriptor, Document, Index};
use crate::policy;
use crate::registry::Retry;
use crate::transport::{Destination, PutAs, RawManifest, Source, fetch, resolve};
use crate::{Digest, Error, Platform, Progress, Reference, Result};

/// Which images of an index are copied.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Which {
    /// The one for the platform; the result is that image, not an index.
    #[default]
    Platform,
    /// All, and the index.
    All,
    /// The index alone: its images must be there or follow.
    IndexOnly,
}

/// How layers are written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Layers {
    /// As the destination likes it: registries get uncompressed layers compressed.
    #[default]
    Usual,
    /// As they are, even uncompressed.
    AsTheyAre,
    /// Compressed in this way, those that are compressed otherwise included.
    Compressed(Compression, Option<i32>),
    /// Not compressed.
    Uncompressed,
}

/// How to copy.
pub struct Options<'a> {
    /// Which images.
    pub which: Which,
    /// For which machine.
    pub platform: Platform,
    /// Manifests in this format; `None`: as they are, if the destination takes them.
    pub format: Option<Format>,
    /// How layers are written.
    pub layers: Layers,
    /// Rather fail than change a manifest.
    pub preserve_digests: bool,
    /// Further names at the destination.
    pub additional_tags: Vec<String>,
    /// Blobs that are copied at once.
    pub parallel: usize,
    /// How often a blob is begun anew.
    pub retry: Retry,
    /// What is accepted at all, and under which of its scopes this source falls.
    pub policy: (&'a Policy, Scope),
    /// Who is told how far it is.
    pub progress: &'a dyn Progress,
}

impl std::fmt::Debug for Options<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("which", &self.which)
            .field("platform", &self.platform)
            .field("format", &self.format)
            .field("layers", &self.layers)
            .finish_non_exhaustive()
    }
}

/// What was copied.
#[derive(Clone, Debug)]
pub struct Copied {
    /// Digest of what the destination's name means now.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Bytes of blobs that were read.
    pub bytes: u64,
}

/// Deepest nesting of indexes that is copied.
const MAX_NESTING: usize = 4;
/// Most images of an index.
const MAX_IMAGES: usize = 1000;

/// Copies.
///
/// # Errors
/// The first that happened; the destination's name then means what it meant before.
pub fn copy(source: &dyn Source, to: &dyn Destination, options: &Options<'_>) -> Result<Copied> {
    let top = source.manifest(None)?;
    let job = Job {
        source,
        to,
        options,
        bytes: std::sync::atomic::AtomicU64::new(0),
    };
    let written = match (top.parse()?, options.which) {
        (Document::Manifest(_), _) => {
            job.check_policy(&[&top])?;
            job.image(&top)?
        }
        (Document::Index(_), Which::Platform) => {
            let found = resolve(source, &options.platform)?;
            job.check_policy(&[&found.top, &found.raw])?;
            job.image(&found.raw)?
        }
        (Document::Index(index), Which::All | Which::IndexOnly) => {
            job.check_policy(&[&top])?;
            job.index(&top, &index, 0)?
        }
    };
    for tag in &options.additional_tags {
        to.put_manifest(&written, PutAs::Tag(tag))?;
    }
    to.put_manifest(&written, PutAs::Top)?;
    to.finish()?;
    Ok(Copied {
        digest: written.digest.clone(),
        media_type: written.own_media_type()?,
        bytes: job.bytes.into_inner(),
    })
}

pub(crate) struct Job<'a> {
    source: &'a dyn Source,
    to: &'a dyn Destination,
    options: &'a Options<'a>,
    bytes: std::sync::atomic::AtomicU64,
}

impl Job<'_> {
    /// One of the documents must be accepted: an accepted index vouches for what it lists.
    fn check_policy(&self, documents: &[&RawManifest]) -> Result<()> {
        let (rules, scope) = &self.options.policy;
        policy::check(rules, scope, self.source, documents)
    }

    /// Copies the images of an index and returns the index for the destination.
    fn index(&self, raw: &RawManifest, index: &Index, depth: usize) -> Result<RawManifest> {
        if depth > MAX_NESTING || index.manifests.len() > MAX_IMAGES {
            return Err(Error::Document {
                what: "index",
                why: format!(
                    "{}: {} images, nested {depth} deep",
                    self.source.place(),
                    index.manifests.len()
                ),
            });
        }
        let mut entries = Vec::new();
        for entry in &index.manifests {
            if self.options.which == Which::IndexOnly {
                entries.push(entry.clone());
                continue;
            }
            let from = fetch(self.source, entry)?;
            let written = match from.parse()? {
                Document::Manifest(_) => self.image(&from)?,
                Document::Index(inner) => self.index(&from, &inner, depth + 1)?,
            };
            self.to.put_manifest(&written, PutAs::Digest)?;
            entries.push(Descriptor {
                media_type: written.own_media_type()?,
                digest: written.digest.clone(),
                size: written.bytes.len() as u64,
                data: None,
                ..entry.clone()
            });
        }
        let format = convert::target_format(raw, self.to, self.options.format)?;
        let changed = convert::index(raw, &entries, format)?;
        self.allow_change(raw, changed)
    }

    /// Lets a changed manifest pass, unless nothing may be changed.
    fn allow_change(&self, before: &RawManifest, after: RawManifest) -> Result<RawManifest> {
        if self.options.preserve_digests && before.digest != after.digest {
            return Err(Error::Refused {
                what: format!("copy to {}", self.to.place()),
                why: format!(
                    "manifest {} would have to be changed, and --preserve-digests forbids that",
                    before.digest
                ),
            });
        }
        Ok(after)
    }

    /// Whether another repository of the same registry may already have the blobs.
    fn origin(&self) -> Option<&Reference> {
        self.source.repository()
    }

    /// Repeats an upload that broke off. Everything else has been repeated where it happened.
    fn repeat<T>(&self, restart: impl Fn(), attempt: impl Fn() -> Result<T>) -> Result<T> {
        let mut n = 0;
        loop {
            let error = match attempt() {
                Err(e @ Error::Interrupted { .. }) => e,
                other => return other,
            };
            let pause: Option<Duration> = self.options.retry.pause(n, None);
            let Some(pause) = pause else {
                return Err(error);
            };
            n += 1;
            std::thread::sleep(pause);
            restart();
        }
    }
}
