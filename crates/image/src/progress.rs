//! How far a transfer is.

use crate::Digest;
use crate::document::Descriptor;

/// What became of a blob.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// Its bytes were transferred.
    Copied,
    /// It was there already.
    Present,
    /// The registry took it over from another repository of its own.
    Mounted,
    /// It was left where its maker put it.
    Foreign,
}

/// Is told how far a transfer is; from several threads.
pub trait Progress: Send + Sync {
    /// The blobs of an image: all that may come.
    fn expected(&self, _blobs: &[Descriptor]) {}

    /// A blob begins.
    fn started(&self, _blob: &Descriptor) {}

    /// So many more bytes of it have come; the source's bytes, which its size counts.
    fn advanced(&self, _blob: &Digest, _bytes: u64) {}

    /// It begins anew: what has come of it does not count.
    fn restarted(&self, _blob: &Digest) {}

    /// It is done.
    fn finished(&self, _blob: &Descriptor, _outcome: Outcome) {}
}

/// Tells nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {}
