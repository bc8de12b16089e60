//! Where images come from and go to.
//!
//! A [`TransportRef`] names a place; [`Source`] reads one image there and [`Destination`] writes
//! one. The bytes that a source hands out are not yet believed: [`Source::manifest`] checks the
//! digest where one was asked for, and blobs go through [`Verified`].

mod archive;
mod directory;
pub(crate) mod files;
mod layout;
mod many;
mod open;
mod pinned;
mod place;
mod tarfile;
mod verified;

use std::io::Read;

pub use archive::{
    DockerArchiveDestination, DockerArchiveSource, LayoutArchiveDestination, LayoutArchiveSource,
};
pub use directory::{DirectoryDestination, DirectorySource};
pub use layout::{LayoutDestination, LayoutSource, REF_NAME};
pub use many::{Archive, Contents};
pub use pinned::Pinned;
pub use place::{Name, TransportRef};
pub use verified::Verified;

use crate::document::{Descriptor, Document, MAX_MANIFEST, Manifest};
use crate::{Digest, Error, Platform, Reference, Result};

/// An index or a manifest as it was stored: its digest is over exactly these bytes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RawManifest {
    /// The document.
    pub bytes: Vec<u8>,
    /// The media type that the place declared; empty where it declares none.
    pub media_type: String,
    /// Digest of the bytes, computed.
    pub digest: Digest,
}

impl RawManifest {
    /// Takes a document whose digest nobody has promised.
    #[must_use]
    pub fn new(bytes: Vec<u8>, media_type: impl Into<String>) -> Self {
        let digest = Digest::of(&bytes);
        Self {
            bytes,
            media_type: media_type.into(),
            digest,
        }
    }

    /// Takes a document that must have the digest `expected`.
    ///
    /// # Errors
    /// It has another.
    pub fn checked(
        bytes: Vec<u8>,
        media_type: impl Into<String>,
        expected: &Digest,
    ) -> Result<Self> {
        let mut hasher = crate::Hasher::new(expected.algorithm());
        hasher.update(&bytes);
        let digest = hasher.finish();
        if digest != *expected {
            return Err(Error::Document {
                what: "manifest",
                why: format!("asked for {expected}, its digest is {digest}"),
            });
        }
        Ok(Self {
            bytes,
            media_type: media_type.into(),
            digest,
        })
    }

    /// Reads it as an index or a manifest.
    ///
    /// # Errors
    /// Those of [`Document::parse`].
    pub fn parse(&self) -> Result<Document> {
        Document::parse(&self.bytes, &self.media_type)
    }

    /// Its media type: the document's own, else the declared one.
    ///
    /// # Errors
    /// Those of [`Document::parse`].
    pub fn own_media_type(&self) -> Result<String> {
        use crate::document::media_type::{OCI_INDEX, OCI_MANIFEST};
        let (own, plain) = match self.parse()? {
            Document::Index(i) => (i.media_type, OCI_INDEX),
            Document::Manifest(m) => (m.media_type, OCI_MANIFEST),
        };
        Ok(if !own.is_empty() {
            own
        } else if self.media_type.is_empty() || self.media_type == "application/json" {
            plain.to_owned()
        } else {
            self.media_type.clone()
        })
    }
}

/// One image, or one index of images, to read.
pub trait Source: Send + Sync {
    /// The place, as an error names it.
    fn place(&self) -> String;

    /// The document that the reference names, or the one with a digest, which is checked.
    ///
    /// # Errors
    /// Not there, not readable, too large, or of another digest.
    fn manifest(&self, by: Option<&Digest>) -> Result<RawManifest>;

    /// Begins to read a blob. The bytes are not checked: wrap the reader in [`Verified`].
    ///
    /// # Errors
    /// Not there or not readable.
    fn blob(&self, blob: &Descriptor) -> Result<Box<dyn Read + Send>>;

    /// Documents that say `subject: digest` (signatures, bills of materials), where the place
    /// keeps such.
    ///
    /// # Errors
    /// Not readable.
    fn referrers(&self, _to: &Digest) -> Result<Vec<Descriptor>> {
        Ok(Vec::new())
    }

    /// Simple-signing signatures of a manifest, where the place keeps such.
    ///
    /// # Errors
    /// Not readable.
    fn signatures(&self, _of: &Digest) -> Result<Vec<Vec<u8>>> {
        Ok(Vec::new())
    }

    /// A document of the same repository under another tag; `None` if it is not there or the
    /// place has no other tags.
    ///
    /// # Errors
    /// Not readable.
    fn sibling(&self, _tag: &str) -> Result<Option<RawManifest>> {
        Ok(None)
    }

    /// The repository, where it is a registry's: what a destination may mount blobs from.
    fn repository(&self) -> Option<&Reference> {
        None
    }

    /// What the image came as, where the source no longer has that: a destination that has the
    /// layers already gets the very same image.
    fn original(&self) -> Option<&Original> {
        None
    }
}

/// What an image came as, for a source that keeps its layers in another form.
#[derive(Clone, Debug)]
pub struct Original {
    /// Its manifest.
    pub manifest: RawManifest,
    /// Its layers, in the order of those that the source has in their place.
    pub layers: Vec<Descriptor>,
    /// Repositories that have had these layers.
    pub repositories: Vec<Reference>,
}

/// Under which name a manifest is put.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PutAs<'a> {
    /// The name of the destination: the image or the index itself.
    Top,
    /// Only its digest: an entry of an index.
    Digest,
    /// Another tag of the same repository.
    Tag(&'a str),
}

/// A place that takes one image, or one index of images. Blobs come first, manifests after what
/// they point to, the top one last; then [`Destination::finish`].
pub trait Destination: Send + Sync {
    /// The place, as an error names it.
    fn place(&self) -> String;

    /// Whether it has the blob already.
    ///
    /// # Errors
    /// It could not be found out.
    fn has_blob(&self, blob: &Descriptor) -> Result<bool>;

    /// Takes the blob over from another repository of the same registry; `false` where that
    /// cannot be done.
    ///
    /// # Errors
    /// The connection failed.
    fn mount_blob(&self, _blob: &Descriptor, _from: &Reference) -> Result<bool> {
        Ok(false)
    }

    /// Writes a blob; with `expected`, its digest and size are checked before it counts as
    /// written. Returns the digest and the size of what was written.
    ///
    /// # Errors
    /// Not written, or other bytes than expected.
    fn put_blob(&self, expected: Option<&Descriptor>, data: &mut dyn Read)
    -> Result<(Digest, u64)>;

    /// Writes a document.
    ///
    /// # Errors
    /// Not written.
    fn put_manifest(&self, manifest: &RawManifest, name: PutAs<'_>) -> Result<()>;

    /// Whether it takes manifests of this media type.
    fn accepts(&self, _media_type: &str) -> bool {
        true
    }

    /// Whether layers that are not compressed get compressed on their way.
    fn wants_compressed(&self) -> bool {
        false
    }

    /// Whether its layers must not be compressed.
    fn wants_uncompressed(&self) -> bool {
        false
    }

    /// Makes the image visible under its name, where that is a step of its own.
    ///
    /// # Errors
    /// Not written.
    fn finish(&self) -> Result<()> {
        Ok(())
    }
}

/// One image's manifest and the indexes that led to it.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The manifest as stored.
    pub raw: RawManifest,
    /// The manifest read.
    pub manifest: Manifest,
    /// What the reference itself named: the outermost index, or the same as `raw`.
    pub top: RawManifest,
}

/// Deepest nesting of indexes.
const MAX_NESTING: usize = 4;

/// Finds the image for `platform`, through indexes of indexes.
///
/// # Errors
/// Not readable, no image for the platform, or nested too deeply.
pub fn resolve(source: &dyn Source, platform: &Platform) -> Result<Resolved> {
    let top = source.manifest(None)?;
    let mut raw = top.clone();
    for _ in 0..=MAX_NESTING {
        match raw.parse()? {
            Document::Manifest(manifest) => {
                return Ok(Resolved {
                    raw,
                    manifest: *manifest,
                    top,
                });
            }
            Document::Index(index) => {
                let chosen = platform.choose(&index)?;
                raw = fetch(source, chosen)?;
            }
        }
    }
    Err(Error::Document {
        what: "index",
        why: format!(
            "{}: indexes nested more than {MAX_NESTING} deep",
            source.place()
        ),
    })
}

/// Reads the manifest that an index entry points to; digest, size and media type are checked.
///
/// # Errors
/// Not readable or not what the entry says.
pub fn fetch(source: &dyn Source, entry: &Descriptor) -> Result<RawManifest> {
    if entry.size > MAX_MANIFEST {
        return Err(Error::Document {
            what: "index",
            why: format!(
                "an entry of {} bytes; {MAX_MANIFEST} are allowed",
                entry.size
            ),
        });
    }
    let raw = match embedded(entry)? {
        Some(bytes) => RawManifest::checked(bytes, entry.media_type.clone(), &entry.digest)?,
        None => source.manifest(Some(&entry.digest))?,
    };
    if raw.bytes.len() as u64 != entry.size {
        return Err(Error::Document {
            what: "manifest",
            why: format!(
                "{} has {} bytes, the index says {}",
                entry.digest,
                raw.bytes.len(),
                entry.size
            ),
        });
    }
    // The entry is covered by a digest that was checked; the place's own word is not.
    Ok(RawManifest {
        media_type: entry.media_type.clone(),
        ..raw
    })
}

/// Reads a small blob whole (a configuration), checked.
///
/// # Errors
/// Larger than `limit`, not readable, or other bytes than the descriptor says.
pub fn small_blob(source: &dyn Source, blob: &Descriptor, limit: u64) -> Result<Vec<u8>> {
    if blob.size > limit {
        return Err(Error::Document {
            what: "blob",
            why: format!(
                "{} has {} bytes; {limit} are allowed",
                blob.digest, blob.size
            ),
        });
    }
    let mut bytes = Vec::new();
    let mut reader: Box<dyn Read + Send> = match embedded(blob)? {
        Some(data) => Box::new(std::io::Cursor::new(data)),
        None => source.blob(blob)?,
    };
    let mut checked = Verified::new(&mut reader, blob);
    checked
        .read_to_end(&mut bytes)
        .map_err(|source_error| Error::Io {
            what: format!("{}: read blob {}", source.place(), blob.digest),
            source: source_error,
        })?;
    Ok(bytes)
}

/// The content that a descriptor carries itself.
fn embedded(descriptor: &Descriptor) -> Result<Option<Vec<u8>>> {
    use base64::Engine as _;
    let Some(text) = &descriptor.data else {
        return Ok(None);
    };
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .map(Some)
        .map_err(|e| Error::Document {
            what: "descriptor",
            why: format!("{}: its `data` is not base64: {e}", descriptor.digest),
        })
}

/// `subject` of a document of any kind.
pub(crate) fn subject_of(bytes: &[u8]) -> Option<Descriptor> {
    #[derive(serde::Deserialize)]
    struct Subject {
        subject: Option<Descriptor>,
    }
    serde_json::from_slice::<Subject>(bytes).ok()?.subject
}
