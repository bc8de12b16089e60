//! Images by their names.

use super::Store;
use super::db::{Records as _, Write};
use super::record::{ImageDetails, ImageRecord, LayerRecord};
use crate::document::{Document, ImageConfig};
use crate::{Digest, Error, Reference, Result};

/// Fewest digits of an id that are taken for one.
const SHORTEST_ID: usize = 3;

impl Store {
    /// All images.
    ///
    /// # Errors
    /// The database is not readable.
    pub fn images(&self) -> Result<Vec<ImageRecord>> {
        self.db.read()?.all()
    }

    /// The image that `name` names: a reference (with the usual defaults), a reference with a
    /// digest, an id or a unique prefix of it, with or without `sha256:`.
    ///
    /// # Errors
    /// [`Error::Missing`]; a prefix of several; the database is not readable.
    pub fn find(&self, name: &str) -> Result<ImageRecord> {
        let images = self.images()?;
        if let Some(image) = by_reference(&images, name) {
            return Ok(image.clone());
        }
        let hex = name.strip_prefix("sha256:").unwrap_or(name);
        let is_hex = hex.len() >= SHORTEST_ID && hex.bytes().all(|b| b.is_ascii_hexdigit());
        let mut found = images
            .iter()
            .filter(|i| is_hex && (i.id.hex().starts_with(hex) || i.manifest.hex() == hex));
        match (found.next(), found.next()) {
            (Some(image), None) => Ok(image.clone()),
            (Some(_), Some(_)) => Err(Error::store(
                format!("image {name:?}"),
                "the beginning of several ids: give more of it",
            )),
            (None, _) => Err(Error::not_stored(format!("image {name:?}"))),
        }
    }

    /// The image with this id.
    ///
    /// # Errors
    /// [`Error::Missing`]; the database is not readable.
    pub fn image(&self, id: &Digest) -> Result<ImageRecord> {
        let found = self.db.read()?.get(&id.to_string())?;
        found.ok_or_else(|| Error::not_stored(format!("image {id}")))
    }

    /// An image with its documents and layers.
    ///
    /// # Errors
    /// [`Error::Missing`]; the database is not readable.
    pub fn inspect(&self, id: &Digest) -> Result<ImageDetails> {
        let read = self.db.read()?;
        let record: Option<ImageRecord> = read.get(&id.to_string())?;
        let record = record.ok_or_else(|| Error::not_stored(format!("image {id}")))?;
        let manifest_bytes = read.document(&record.manifest)?;
        let config_bytes = read.document(&record.id)?;
        let Document::Manifest(manifest) = Document::parse(&manifest_bytes, "")? else {
            return Err(Error::store(
                format!("image {id}"),
                "its manifest is an index",
            ));
        };
        let layers = record.layers.iter().map(|chain| {
            let layer: Option<LayerRecord> = read.get(&chain.to_string())?;
            layer.ok_or_else(|| {
                Error::store(
                    format!("image {id}"),
                    format!("layer {chain} is lost: pull it again"),
                )
            })
        });
        let layers = layers.collect::<Result<_>>()?;
        Ok(ImageDetails {
            config: ImageConfig::parse(&config_bytes)?,
            manifest: *manifest,
            record,
            manifest_bytes,
            config_bytes,
            layers,
        })
    }

    /// Gives an image one more name; an image that had it loses it.
    ///
    /// # Errors
    /// [`Error::Missing`]; a reference without a tag; not written.
    pub fn tag(&self, id: &Digest, reference: &Reference) -> Result<ImageRecord> {
        let tag = match (reference.tag(), reference.digest()) {
            (Some(tag), None) => tag,
            _ => {
                return Err(Error::store(
                    format!("tag {reference}"),
                    "a name with a tag and without a digest is needed",
                ));
            }
        };
        let name = format!("{}:{tag}", reference.name());
        self.change(id, |write, image| {
            take_name(write, &name, &image.id)?;
            image.names.insert(name.clone());
            Ok(())
        })
    }

    /// Takes a name from an image; an image without names and digests goes. Returns it as it is
    /// afterwards, `None` where it is gone.
    ///
    /// # Errors
    /// [`Error::Missing`]; [`Error::Busy`] where a container still uses it; not written.
    pub fn untag(&self, reference: &Reference) -> Result<Option<ImageRecord>> {
        let image = self.find(&reference.to_string())?;
        let repository = reference.name();
        let mut left = image.clone();
        match (reference.tag(), reference.digest()) {
            (_, Some(digest)) => {
                left.digests.remove(&format!("{repository}@{digest}"));
            }
            (tag, None) => {
                left.names
                    .remove(&format!("{repository}:{}", tag.unwrap_or_default()));
            }
        }
        // Digests of a repository of which no tag is left were only the tag's other side.
        let is_of = |n: &String, mark: &str| {
            n.strip_prefix(repository.as_str())
                .is_some_and(|r| r.starts_with(mark))
        };
        if reference.digest().is_none() && !left.names.iter().any(|n| is_of(n, ":")) {
            left.digests.retain(|d| !is_of(d, "@"));
        }
        if left.names.is_empty() && left.digests.is_empty() {
            self.remove(&image.id)?;
            return Ok(None);
        }
        self.change(&image.id, |_, image| {
            image.names.clone_from(&left.names);
            image.digests.clone_from(&left.digests);
            Ok(())
        })
        .map(Some)
    }

    /// Pins an image or takes the pin away.
    ///
    /// # Errors
    /// [`Error::Missing`]; not written.
    pub fn pin(&self, id: &Digest, pinned: bool) -> Result<ImageRecord> {
        self.change(id, |_, image| {
            image.pinned = pinned;
            Ok(())
        })
    }

    fn change(
        &self,
        id: &Digest,
        change: impl FnOnce(&Write, &mut ImageRecord) -> Result<()>,
    ) -> Result<ImageRecord> {
        self.db.write(|write| {
            let image = write.get::<ImageRecord>(&id.to_string())?;
            let mut image = image.ok_or_else(|| Error::not_stored(format!("image {id}")))?;
            change(write, &mut image)?;
            write.put(&image)?;
            Ok(image)
        })
    }
}

/// Takes a name away from all images but one.
pub(crate) fn take_name(write: &Write, name: &str, keeper: &Digest) -> Result<()> {
    for mut other in write.all::<ImageRecord>()? {
        if other.id != *keeper && other.names.remove(name) {
            write.put(&other)?;
        }
    }
    Ok(())
}

fn by_reference<'a>(images: &'a [ImageRecord], name: &str) -> Option<&'a ImageRecord> {
    let reference = Reference::parse(name).ok()?;
    let repository = reference.name();
    if let Some(digest) = reference.digest() {
        let wanted = format!("{repository}@{digest}");
        return images.iter().find(|i| i.digests.contains(&wanted));
    }
    let wanted = format!("{repository}:{}", reference.tag().unwrap_or_default());
    images.iter().find(|i| i.names.contains(&wanted))
}
