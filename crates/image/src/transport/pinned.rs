//! A source whose name keeps its meaning.

use std::io::Read;

use super::{RawManifest, Source};
use crate::document::Descriptor;
use crate::{Digest, Reference, Result};

/// Reads the top document once: what a policy has accepted is what is pulled, even if somebody
/// moves the tag meanwhile.
pub struct Pinned<'a> {
    inner: &'a dyn Source,
    top: RawManifest,
}

impl std::fmt::Debug for Pinned<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pinned({} {})", self.inner.place(), self.top.digest)
    }
}

impl<'a> Pinned<'a> {
    /// Reads the top document of `inner`.
    ///
    /// # Errors
    /// Not readable.
    pub fn new(inner: &'a dyn Source) -> Result<Self> {
        let top = inner.manifest(None)?;
        Ok(Self { inner, top })
    }
}

impl Source for Pinned<'_> {
    fn place(&self) -> String {
        self.inner.place()
    }

    fn manifest(&self, by: Option<&Digest>) -> Result<RawManifest> {
        match by {
            None => Ok(self.top.clone()),
            Some(digest) if *digest == self.top.digest => Ok(self.top.clone()),
            by => self.inner.manifest(by),
        }
    }

    fn blob(&self, blob: &Descriptor) -> Result<Box<dyn Read + Send>> {
        self.inner.blob(blob)
    }

    fn referrers(&self, to: &Digest) -> Result<Vec<Descriptor>> {
        self.inner.referrers(to)
    }

    fn signatures(&self, of: &Digest) -> Result<Vec<Vec<u8>>> {
        self.inner.signatures(of)
    }

    fn sibling(&self, tag: &str) -> Result<Option<RawManifest>> {
        self.inner.sibling(tag)
    }

    fn repository(&self) -> Option<&Reference> {
        self.inner.repository()
    }
}
