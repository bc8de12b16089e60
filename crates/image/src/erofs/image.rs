//! The image file as it grows: blocks of data one after the other, and between them clusters of
//! blocks that hold inodes with small data behind them.

use std::os::fd::{AsFd as _, OwnedFd};

use sys::Context as _;

use super::format::{BLOCK, BLOCK_LEN, SLOT};
use crate::{Error, Result};

/// Data is written in pieces of this size.
const BUFFER: usize = 1 << 20;
/// Blocks of a cluster.
const CLUSTER: u64 = 16;
/// How much is written before the disk is told to begin with it.
const WRITEBACK: u64 = 8 << 20;
/// Blocks that the format can number.
const MAX_BLOCKS: u64 = u32::MAX as u64;

/// The image file.
#[derive(Debug)]
pub(crate) struct Image {
    file: OwnedFd,
    /// Next byte of data; the buffer holds what ends there.
    end: u64,
    buffer: Vec<u8>,
    /// The open cluster: where it begins, and its bytes.
    cluster_at: u64,
    cluster: Vec<u8>,
    cluster_len: usize,
    /// Written clusters: where, and how many bytes.
    clusters: Vec<(u64, u64)>,
    synced: u64,
}

impl Image {
    /// An empty image; block 0 is left for the superblock.
    pub fn new(file: OwnedFd) -> Self {
        Self {
            file,
            end: BLOCK,
            buffer: Vec::with_capacity(BUFFER),
            cluster_at: 0,
            cluster: Vec::new(),
            cluster_len: 0,
            clusters: Vec::new(),
            synced: 0,
        }
    }

    fn pwrite(&self, mut bytes: &[u8], mut at: u64) -> Result<()> {
        while !bytes.is_empty() {
            let n = rustix::io::pwrite(&self.file, bytes, at).context("pwrite", || {
                format!("layer.erofs, {} bytes at {at}", bytes.len())
            })?;
            bytes = bytes.get(n..).unwrap_or_default();
            at += n as u64;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        if !self.buffer.is_empty() {
            self.pwrite(&self.buffer, self.end - self.buffer.len() as u64)?;
            self.buffer.clear();
        }
        if self.end.saturating_sub(self.synced) >= WRITEBACK {
            // Only a hint: what is on its way now need not be waited for at the end.
            sys::file::start_writeback(self.file.as_fd(), self.synced, self.end - self.synced);
            self.synced = self.end;
        }
        Ok(())
    }

    /// Where the next data goes: the beginning of a block.
    pub const fn position(&self) -> u64 {
        self.end
    }

    /// Appends data.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        if self.buffer.len() + bytes.len() > BUFFER {
            self.flush()?;
        }
        if bytes.len() >= BUFFER / 8 && self.buffer.is_empty() {
            self.pwrite(bytes, self.end)?;
        } else {
            self.buffer.extend_from_slice(bytes);
        }
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// Ends a file's data: zeros to the end of the block.
    pub fn align(&mut self) -> Result<()> {
        let pad = self.end.next_multiple_of(BLOCK) - self.end;
        let zeros = [0u8; BLOCK_LEN];
        self.append(
            zeros
                .get(..usize::try_from(pad).unwrap_or(0))
                .unwrap_or_default(),
        )
    }

    /// Leaves a hole of whole blocks, for a file that has holes itself.
    pub fn skip(&mut self, bytes: u64) -> Result<u64> {
        self.flush()?;
        let at = self.end;
        self.end = bytes
            .checked_next_multiple_of(BLOCK)
            .and_then(|len| at.checked_add(len))
            .filter(|end| end / BLOCK < MAX_BLOCKS)
            .ok_or_else(too_large)?;
        self.synced = self.end;
        Ok(at)
    }

    /// Writes into a hole.
    pub fn write_at(&self, bytes: &[u8], at: u64) -> Result<()> {
        self.pwrite(bytes, at)
    }

    /// Puts an inode with what is behind it into a cluster; returns where.
    pub fn put(&mut self, item: &[u8]) -> Result<u64> {
        let at = place_item(self.cluster.len() as u64, item.len() as u64);
        if at + item.len() as u64 > self.cluster_len as u64 {
            self.close_cluster()?;
            let blocks = (item.len() as u64).div_ceil(BLOCK).max(CLUSTER);
            self.flush()?;
            self.cluster_at = self.end;
            self.end += blocks * BLOCK;
            self.cluster_len = usize::try_from(blocks * BLOCK).unwrap_or(0);
            return self.put(item);
        }
        self.cluster.resize(usize::try_from(at).unwrap_or(0), 0);
        self.cluster.extend_from_slice(item);
        Ok(self.cluster_at + at)
    }

    fn close_cluster(&mut self) -> Result<()> {
        if !self.cluster.is_empty() {
            self.pwrite(&self.cluster, self.cluster_at)?;
            self.clusters
                .push((self.cluster_at, self.cluster.len() as u64));
            self.cluster.clear();
        }
        self.cluster_len = 0;
        Ok(())
    }

    /// Ends with clusters; what comes now is written by its place.
    pub fn close(&mut self) -> Result<()> {
        // A cluster at the very end gives back what it does not need.
        if self.cluster_len > 0 && self.cluster_at + self.cluster_len as u64 == self.end {
            self.end = (self.cluster_at + self.cluster.len() as u64).next_multiple_of(BLOCK);
        }
        self.close_cluster()?;
        self.flush()
    }

    /// Notes bytes that are no file's.
    pub fn note_metadata(&mut self, at: u64, len: u64) {
        self.clusters.push((at, len));
    }

    /// All that is no file's bytes.
    pub fn metadata(&self) -> &[(u64, u64)] {
        &self.clusters
    }

    /// Ends the file; returns the number of its blocks.
    pub fn finish(&mut self) -> Result<u32> {
        self.align()?;
        self.flush()?;
        rustix::fs::ftruncate(&self.file, self.end).context("ftruncate", || "layer.erofs")?;
        u32::try_from(self.end / BLOCK).map_err(|_| too_large())
    }

    pub const fn file(&self) -> &OwnedFd {
        &self.file
    }
}

/// Where an item goes behind `used` bytes: on a slot, and within one block unless it is larger
/// than one, for data behind an inode must not cross into the next.
pub(crate) fn place_item(used: u64, len: u64) -> u64 {
    let at = used.next_multiple_of(SLOT);
    if at % BLOCK + len > BLOCK {
        at.next_multiple_of(BLOCK)
    } else {
        at
    }
}

fn too_large() -> Error {
    Error::Layer {
        what: "the layer".to_owned(),
        why: "larger than 16 TiB",
    }
}
