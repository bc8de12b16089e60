//! What the store knows: one record per image, layer, lease and mount, as JSON in the database.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::document::{Descriptor, ImageConfig, Manifest};
use crate::layer::dir::Moved;
use crate::{Digest, Result};

/// How a layer is kept on disk.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A directory of files: any kernel, any user.
    Directory,
    /// One erofs image: no file is created on the host.
    Erofs,
}

/// An image in the store. Its id is the digest of its configuration.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ImageRecord {
    /// Digest of the configuration.
    pub id: Digest,
    /// Digest of the manifest that it was last pulled with.
    pub manifest: Digest,
    /// References with a tag that name it: `docker.io/library/busybox:latest`.
    pub names: BTreeSet<String>,
    /// References with a digest that it was pulled by: `docker.io/library/busybox@sha256:…`.
    pub digests: BTreeSet<String>,
    /// Chain ids of its layers, lowest first.
    pub layers: Vec<Digest>,
    /// Bytes of all its layers on disk, shared or not.
    pub size: u64,
    /// Neither removed by hand nor by garbage collection of unused images.
    pub pinned: bool,
    /// When it was last pulled, seconds since 1970.
    pub used: u64,
    /// When its configuration says that it was made, RFC 3339.
    pub created: Option<String>,
    /// What a container made from it runs as: the configuration's own word.
    pub user: String,
}

/// An image with its documents.
#[derive(Clone, Debug)]
pub struct ImageDetails {
    /// The record.
    pub record: ImageRecord,
    /// The manifest, as pulled.
    pub manifest: Manifest,
    /// The manifest's bytes.
    pub manifest_bytes: Vec<u8>,
    /// The configuration.
    pub config: ImageConfig,
    /// The configuration's bytes.
    pub config_bytes: Vec<u8>,
    /// Its layers, lowest first.
    pub layers: Vec<LayerRecord>,
}

/// A layer in the store.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct LayerRecord {
    /// Digest over it and all layers below (image-spec, config.md).
    pub chain: Digest,
    /// Chain id of the layer below.
    pub parent: Option<Digest>,
    /// Digest of its tar stream.
    pub diff_id: Digest,
    /// Bytes of its tar stream.
    pub tar_size: u64,
    /// How it is kept.
    pub format: Format,
    /// Bytes on disk.
    pub disk: u64,
    /// Inodes on disk.
    pub inodes: u64,
    /// Entries of its tar stream.
    pub entries: u64,
    /// What it came as.
    pub blob: Option<Descriptor>,
    /// Files that are elsewhere than its tar stream says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moved: Vec<Moved>,
    /// Digest of what an image of it holds beside the files' bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Digest>,
}

/// Keeps images and layers from garbage collection for a while.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct LeaseRecord {
    /// Its name.
    pub id: String,
    /// When it ends, seconds since 1970; `None` for never.
    pub expires: Option<u64>,
    /// Ids of images.
    #[serde(default)]
    pub images: BTreeSet<Digest>,
    /// Chain ids of layers.
    #[serde(default)]
    pub layers: BTreeSet<Digest>,
}

impl LeaseRecord {
    pub(crate) fn is_over(&self, now: u64) -> bool {
        self.expires.is_some_and(|at| at <= now)
    }
}

/// A root file system made from an image.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct MountRecord {
    /// The container's id.
    pub id: String,
    /// The image's id.
    pub image: Digest,
    /// Chain ids of the layers, lowest first.
    pub layers: Vec<Digest>,
    /// There is no layer of its own above them.
    pub read_only: bool,
    /// When it was made, seconds since 1970.
    pub created: u64,
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or(Duration::ZERO).as_secs()
}

/// The chain id of a layer (image-spec, config.md, "Layer ChainID").
#[must_use]
pub fn chain_id(parent: Option<&Digest>, diff_id: &Digest) -> Digest {
    match parent {
        None => diff_id.clone(),
        Some(parent) => Digest::of(format!("{parent} {diff_id}").as_bytes()),
    }
}

/// The chain ids of a list of layers, lowest first.
#[must_use]
pub fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut all: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        all.push(chain_id(all.last(), diff_id));
    }
    all
}

pub(crate) fn encode<T: Serialize>(record: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(record).map_err(|e| crate::Error::store("encode a record", e))
}

pub(crate) fn decode<T: for<'de> Deserialize<'de>>(bytes: &[u8], what: &str) -> Result<T> {
    serde_json::from_slice(bytes)
        .map_err(|e| crate::Error::store(format!("store: record of {what}"), e))
}
