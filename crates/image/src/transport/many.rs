//! Archives with several images.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::archive::{Saved, read_saved};
use super::layout::REF_NAME;
use super::tarfile::TarFile;
use super::{
    Destination, DockerArchiveDestination, DockerArchiveSource, LayoutArchiveDestination,
    LayoutArchiveSource, Name, PutAs, RawManifest, Source, TransportRef,
};
use crate::document::{Descriptor, Index, MAX_MANIFEST};
use crate::{Digest, Error, Reference, Result};

/// containerd's annotation for an image's whole name.
const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// An archive that takes one image after the other and is written at the end.
pub struct Archive(Box<dyn Destination>);

impl std::fmt::Debug for Archive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Archive({})", self.0.place())
    }
}

impl Archive {
    /// Prepares to write `oci-archive:FILE` or `docker-archive:FILE`.
    ///
    /// # Errors
    /// Another place; its directory cannot be written to.
    pub fn create(place: &TransportRef) -> Result<Self> {
        match place {
            TransportRef::LayoutArchive(file, _) => {
                let archive = LayoutArchiveDestination::open(file, &Name::Only)?;
                Ok(Self(Box::new(archive)))
            }
            TransportRef::DockerArchive(file, _) => {
                Ok(Self(Box::new(DockerArchiveDestination::open(file, None)?)))
            }
            other => Err(Error::Refused {
                what: other.to_string(),
                why: "not an archive".to_owned(),
            }),
        }
    }

    /// Writes it.
    ///
    /// # Errors
    /// Not written.
    pub fn write(&self) -> Result<()> {
        self.0.finish()
    }
}

impl Destination for Archive {
    fn place(&self) -> String {
        self.0.place()
    }

    fn has_blob(&self, blob: &Descriptor) -> Result<bool> {
        self.0.has_blob(blob)
    }

    fn put_blob(
        &self,
        expected: Option<&Descriptor>,
        data: &mut dyn Read,
    ) -> Result<(Digest, u64)> {
        self.0.put_blob(expected, data)
    }

    fn put_manifest(&self, manifest: &RawManifest, name: PutAs<'_>) -> Result<()> {
        self.0.put_manifest(manifest, name)
    }

    fn accepts(&self, media_type: &str) -> bool {
        self.0.accepts(media_type)
    }

    fn wants_compressed(&self) -> bool {
        self.0.wants_compressed()
    }

    fn wants_uncompressed(&self) -> bool {
        self.0.wants_uncompressed()
    }
}

/// What is in an archive, of either kind.
#[derive(Debug)]
pub struct Contents {
    file: PathBuf,
    tar: Arc<TarFile>,
    images: Images,
}

#[derive(Debug)]
enum Images {
    Docker(Vec<Saved>),
    Layout(Vec<Descriptor>),
}

impl Contents {
    /// Opens an archive and finds out of which kind it is.
    ///
    /// # Errors
    /// Not readable, or of no kind.
    pub fn open(file: &Path) -> Result<Self> {
        let tar = TarFile::open(file)?;
        // New `docker save` writes both lists; the one with the names is Docker's.
        let images = if tar.find("manifest.json").is_some() {
            Images::Docker(read_saved(&tar, &file.display().to_string())?)
        } else if tar.find("index.json").is_some() {
            let bytes = tar.read("index.json", MAX_MANIFEST)?;
            let index: Index = serde_json::from_slice(&bytes).map_err(|e| Error::Document {
                what: "index.json",
                why: format!("{}: {e}", file.display()),
            })?;
            Images::Layout(index.manifests)
        } else {
            return Err(Error::Document {
                what: "archive",
                why: format!(
                    "{}: neither manifest.json nor index.json in it",
                    file.display()
                ),
            });
        };
        Ok(Self {
            file: file.to_owned(),
            tar: Arc::new(tar),
            images,
        })
    }

    /// How many images are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.images {
            Images::Docker(all) => all.len(),
            Images::Layout(all) => all.len(),
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The archive as a place.
    #[must_use]
    pub fn place(&self) -> TransportRef {
        match &self.images {
            Images::Docker(_) => TransportRef::DockerArchive(self.file.clone(), None),
            Images::Layout(_) => TransportRef::LayoutArchive(self.file.clone(), Name::Only),
        }
    }

    /// Image number `at` and its names.
    ///
    /// # Errors
    /// Not there or broken.
    pub fn image(&self, at: usize) -> Result<(Box<dyn Source>, Vec<String>)> {
        let place = format!("{} (image {})", self.place(), at + 1);
        let missing = || Error::Missing {
            what: place.clone(),
            why: format!("{} images here", self.len()),
        };
        match &self.images {
            Images::Docker(all) => {
                let saved = all.get(at).ok_or_else(missing)?.clone();
                let names = saved.repo_tags.clone().unwrap_or_default();
                let source = DockerArchiveSource::of(Arc::clone(&self.tar), place, saved)?;
                Ok((Box::new(source), names))
            }
            Images::Layout(all) => {
                let entry = all.get(at).ok_or_else(missing)?.clone();
                let own = |key: &str| entry.annotations.get(key).cloned();
                // A bare tag is no name.
                let named = own(REF_NAME).filter(|n| n.contains(['/', ':']));
                let name = own(CONTAINERD_NAME).or(named);
                let names = name.into_iter().filter(|n| Reference::parse(n).is_ok());
                let names = names.collect();
                let source = LayoutArchiveSource::of(Arc::clone(&self.tar), place, entry);
                Ok((Box::new(source), names))
            }
        }
    }
}
