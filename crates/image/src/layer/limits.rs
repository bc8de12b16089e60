//! How much a layer may ask for.

use crate::{Error, Result};

/// Limits of one layer. What an honest image needs is far below them; what is above them is
/// refused before the disk is full.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Entries.
    pub entries: u64,
    /// Bytes of the tar stream.
    pub stored: u64,
    /// Sizes of all files, holes included.
    pub apparent: u64,
    /// Bytes out for a byte in, after the first [`Limits::ratio_after`] bytes out.
    pub ratio: u64,
    /// Below this size no ratio is too good.
    pub ratio_after: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 4_000_000,
            stored: 256 << 30,
            apparent: 8 << 40,
            // Deflate reaches 1032 on zeros, zstd much more; real layers stay below 20.
            ratio: 200,
            ratio_after: 256 << 20,
        }
    }
}

/// Counts what a layer has asked for so far.
#[derive(Debug)]
pub struct Meter {
    limits: Limits,
    entries: u64,
    apparent: u64,
}

impl Meter {
    /// Nothing so far.
    #[must_use]
    pub const fn new(limits: Limits) -> Self {
        Self {
            limits,
            entries: 0,
            apparent: 0,
        }
    }

    /// Counts an entry of `size` bytes.
    ///
    /// # Errors
    /// Too many, or too large.
    pub fn entry(&mut self, size: u64) -> Result<()> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(over("entries", self.limits.entries));
        }
        self.apparent = self.apparent.saturating_add(size);
        if self.apparent > self.limits.apparent {
            return Err(over("bytes of files", self.limits.apparent));
        }
        Ok(())
    }
}

impl Limits {
    /// Checks the bytes that came out of a decompressor.
    ///
    /// # Errors
    /// Too many, or too many for what went in.
    pub fn inflated(&self, taken: u64, given: u64) -> Result<()> {
        if given > self.stored {
            return Err(over("bytes", self.stored));
        }
        if given > self.ratio_after && given / self.ratio > taken {
            return Err(over("times its compressed size", self.ratio));
        }
        Ok(())
    }
}

fn over(what: &str, limit: u64) -> Error {
    Error::store(
        "layer",
        format!("more than {limit} {what}: refused as a bomb"),
    )
}
