//! How much of the disk is whose.

use std::collections::HashMap;

use serde::Serialize;
use sys::Context as _;

use super::Store;
use super::db::Records as _;
use super::record::{ImageRecord, LayerRecord};
use crate::{Digest, Result};

/// What an image takes on disk.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct ImageUsage {
    /// Its id.
    pub id: Digest,
    /// Bytes of layers that no other image has: what removing it gives back.
    pub exclusive: u64,
    /// Bytes of layers that other images have too.
    pub shared: u64,
    /// Containers made from it.
    pub containers: Vec<String>,
}

/// What the store takes on disk.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Usage {
    /// Per image.
    pub images: Vec<ImageUsage>,
    /// Bytes of all layers, each counted once.
    pub layers: u64,
    /// Bytes of layers that no image has: a collection gives them back.
    pub reclaimable: u64,
    /// What containers have written: id, bytes, inodes.
    pub containers: Vec<(String, u64, u64)>,
}

/// The file system that the store is on (CRI's ImageFsInfo).
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct FsInfo {
    /// A directory on it: the store's.
    pub mountpoint: std::path::PathBuf,
    /// Bytes that images take.
    pub used_bytes: u64,
    /// Inodes that images take.
    pub used_inodes: u64,
    /// Bytes of the file system.
    pub total_bytes: u64,
    /// Bytes of it that are free for anyone.
    pub free_bytes: u64,
    /// Inodes of the file system.
    pub total_inodes: u64,
    /// Inodes of it that are free.
    pub free_inodes: u64,
}

impl Store {
    /// What images and containers take on disk.
    ///
    /// # Errors
    /// Not readable.
    pub fn df(&self) -> Result<Usage> {
        let read = self.db.read()?;
        let images: Vec<ImageRecord> = read.all()?;
        let layers: Vec<LayerRecord> = read.all()?;
        drop(read);
        let mounts = self.containers.all();
        let sizes: HashMap<&Digest, u64> = layers.iter().map(|l| (&l.chain, l.disk)).collect();
        let mut users: HashMap<&Digest, u32> = HashMap::new();
        for chain in images.iter().flat_map(|i| &i.layers) {
            *users.entry(chain).or_default() += 1;
        }
        let of = |image: &ImageRecord, shared: bool| -> u64 {
            let chains = image.layers.iter();
            let chains = chains.filter(|c| (users.get(c).copied().unwrap_or(0) > 1) == shared);
            chains.filter_map(|c| sizes.get(c)).sum()
        };
        let per_image = images.iter().map(|image| ImageUsage {
            id: image.id.clone(),
            exclusive: of(image, false),
            shared: of(image, true),
            containers: (mounts.iter().filter(|m| m.image == image.id))
                .map(|m| m.id.clone())
                .collect(),
        });
        let idle = layers.iter().filter(|l| !users.contains_key(&l.chain));
        let mut containers = Vec::new();
        for mount in &mounts {
            let (bytes, inodes) = self.usage(&mount.id)?;
            containers.push((mount.id.clone(), bytes, inodes));
        }
        Ok(Usage {
            images: per_image.collect(),
            layers: layers.iter().map(|l| l.disk).sum(),
            reclaimable: idle.map(|l| l.disk).sum(),
            containers,
        })
    }

    /// The file system that the store is on.
    ///
    /// # Errors
    /// fstatvfs(3)'s; the database is not readable.
    pub fn fs_info(&self) -> Result<FsInfo> {
        let layers: Vec<LayerRecord> = self.db.read()?.all()?;
        let fs = rustix::fs::fstatvfs(self.place.root()).context("fstatvfs", || "store")?;
        Ok(FsInfo {
            mountpoint: self.root(),
            used_bytes: layers.iter().map(|l| l.disk).sum(),
            used_inodes: layers.iter().map(|l| l.inodes).sum(),
            total_bytes: fs.f_blocks * fs.f_frsize,
            free_bytes: fs.f_bavail * fs.f_frsize,
            total_inodes: fs.f_files,
            free_inodes: fs.f_favail,
        })
    }
}
