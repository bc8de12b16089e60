//! From the name of a place to the place.

use super::{
    Destination, DirectoryDestination, DirectorySource, DockerArchiveDestination,
    DockerArchiveSource, LayoutArchiveDestination, LayoutArchiveSource, LayoutDestination,
    LayoutSource, Source, TransportRef,
};
use crate::registry::Access;
use crate::{Error, Result};

impl TransportRef {
    /// Opens the place to read from. The local store is opened by its own module.
    ///
    /// # Errors
    /// Not there or not readable.
    pub fn source(&self, access: &Access) -> Result<Box<dyn Source>> {
        Ok(match self {
            Self::Registry(reference) => Box::new(access.source(reference)?),
            Self::Layout(dir, name) => Box::new(LayoutSource::open(dir, name)?),
            Self::LayoutArchive(file, name) => Box::new(LayoutArchiveSource::open(file, name)?),
            Self::DockerArchive(file, name) => {
                Box::new(DockerArchiveSource::open(file, name.as_ref())?)
            }
            Self::Dir(dir) => Box::new(DirectorySource::open(dir)?),
            Self::Store(_) => return Err(self.not_here()),
        })
    }

    /// Opens the place to write to. The local store is opened by its own module.
    ///
    /// # Errors
    /// It cannot be written to.
    pub fn destination(&self, access: &Access) -> Result<Box<dyn Destination>> {
        Ok(match self {
            Self::Registry(reference) => Box::new(access.destination(reference)?),
            Self::Layout(dir, name) => Box::new(LayoutDestination::open(dir, name)?),
            Self::LayoutArchive(file, name) => {
                Box::new(LayoutArchiveDestination::open(file, name)?)
            }
            Self::DockerArchive(file, name) => {
                Box::new(DockerArchiveDestination::open(file, name.as_ref())?)
            }
            Self::Dir(dir) => Box::new(DirectoryDestination::open(dir)?),
            Self::Store(_) => return Err(self.not_here()),
        })
    }

    fn not_here(&self) -> Error {
        Error::Refused {
            what: self.to_string(),
            why: "the local store is not a transport of its own here".to_owned(),
        }
    }
}
