//! Removing: images by hand, layers that nothing needs, what a crash left behind.

use std::collections::HashSet;

use super::Store;
use super::containers::Held;
use super::db::{Records, Write};
use super::record::{ImageRecord, LayerRecord, LeaseRecord, now};
use crate::layer::dir::{names, remove_contents, remove_tree};
use crate::{Digest, Error, Result};

/// What a collection removed.
#[derive(Clone, Debug, Default)]
pub struct Freed {
    /// Ids of images.
    pub images: Vec<Digest>,
    /// Chain ids of layers.
    pub layers: Vec<Digest>,
    /// Bytes on disk.
    pub bytes: u64,
}

impl Store {
    /// Removes an image with all its names, and the layers that nothing else needs.
    ///
    /// # Errors
    /// [`Error::Missing`]; [`Error::Busy`] where it is pinned, leased or a container's; not
    /// written.
    pub fn remove(&self, id: &Digest) -> Result<Freed> {
        let held = self.containers.hold();
        self.db.write(|write| {
            let image: Option<ImageRecord> = write.get(&id.to_string())?;
            let image = image.ok_or_else(|| Error::not_stored(format!("image {id}")))?;
            if let Some(why) = needed_by(write, &held, &image)? {
                return Err(Error::Busy {
                    what: format!("image {id}"),
                    why,
                });
            }
            forget(write, &image)
        })?;
        drop(held);
        let mut freed = self.collect_layers()?;
        freed.images.push(id.clone());
        Ok(freed)
    }

    /// Collects what nothing needs: layers without an image, leases that are over; with
    /// `unused`, images too that no container and no lease uses and that are not pinned.
    ///
    /// # Errors
    /// Not written.
    pub fn gc(&self, unused: bool) -> Result<Freed> {
        self.must_write()?;
        let mut gone = Vec::new();
        let leases: Vec<LeaseRecord> = self.db.read()?.all()?;
        if !unused && !leases.iter().any(|l| l.is_over(now())) {
            return self.collect_layers();
        }
        let held = self.containers.hold();
        self.db.write(|write| {
            for lease in write.all::<LeaseRecord>()? {
                if lease.is_over(now()) {
                    write.remove::<LeaseRecord>(&lease.id)?;
                }
            }
            if unused {
                for image in write.all::<ImageRecord>()? {
                    if needed_by(write, &held, &image)?.is_none() {
                        forget(write, &image)?;
                        gone.push(image.id);
                    }
                }
            }
            Ok(())
        })?;
        drop(held);
        let mut freed = self.collect_layers()?;
        freed.images = gone;
        Ok(freed)
    }

    /// Removes layers that no image, lease, container or running pull needs.
    pub(crate) fn collect_layers(&self) -> Result<Freed> {
        let mut freed = Freed::default();
        self.flights.with_wanted(|is_wanted| {
            let idle = |records: &dyn Fn() -> Result<(Vec<LayerRecord>, HashSet<Digest>)>| {
                let (layers, needed) = records()?;
                let is_idle = |l: &LayerRecord| !needed.contains(&l.chain) && !is_wanted(&l.chain);
                Ok::<Vec<LayerRecord>, Error>(layers.into_iter().filter(is_idle).collect())
            };
            // No container may be made of a layer that is just found idle.
            let held = self.containers.hold();
            // A commit waits for the disk; mostly there is nothing to do.
            let read = self.db.read()?;
            if idle(&|| Ok((read.all()?, needed_layers(&read, &held)?)))?.is_empty() {
                return Ok(());
            }
            drop(read);
            self.db.write(|write| {
                for layer in idle(&|| Ok((write.all()?, needed_layers(write, &held)?)))? {
                    write.remove::<LayerRecord>(&layer.chain.to_string())?;
                    freed.bytes += layer.disk;
                    freed.layers.push(layer.chain);
                }
                Ok(())
            })?;
            // Still under the lock: a pull must not find the record gone and the files there.
            for chain in &freed.layers {
                self.place.remove_layer(chain)?;
            }
            Ok::<_, Error>(())
        })?;
        Ok(freed)
    }

    /// At the start: what a crash or a reboot left.
    pub(crate) fn sweep(&self) -> Result<()> {
        remove_contents(self.place.tmp())?;
        let read = self.db.read()?;
        let known: HashSet<String> = read
            .all::<LayerRecord>()?
            .into_iter()
            .map(|l| l.chain.hex().to_owned())
            .collect();
        for name in names(self.place.layers())? {
            if !known.contains(name.to_string_lossy().as_ref()) {
                remove_tree(self.place.layers(), name.to_bytes())?;
            }
        }
        self.sweep_containers()?;
        let images: Vec<ImageRecord> = read.all()?;
        let documents: HashSet<String> = images
            .iter()
            .flat_map(|i| [i.id.to_string(), i.manifest.to_string()])
            .collect();
        let stale: Vec<String> = (read.documents()?.into_iter())
            .filter(|d| !documents.contains(d))
            .collect();
        drop(read);
        if !stale.is_empty() {
            self.db
                .write(|write| stale.iter().try_for_each(|d| write.remove_document(d)))?;
        }
        self.gc(false).map(drop)
    }
}

/// Forgets an image and its documents.
fn forget(write: &Write, image: &ImageRecord) -> Result<()> {
    write.remove::<ImageRecord>(&image.id.to_string())?;
    write.remove_document(&image.id.to_string())?;
    write.remove_document(&image.manifest.to_string())
}

/// Why an image must stay.
fn needed_by(write: &Write, held: &Held<'_>, image: &ImageRecord) -> Result<Option<String>> {
    if image.pinned {
        return Ok(Some("it is pinned: unpin it first".to_owned()));
    }
    for mount in held.values() {
        if mount.image == image.id {
            return Ok(Some(format!(
                "container {} is made from it: remove that first",
                mount.id
            )));
        }
    }
    for lease in write.all::<LeaseRecord>()? {
        if !lease.is_over(now()) && lease.images.contains(&image.id) {
            return Ok(Some(format!("lease {} holds it", lease.id)));
        }
    }
    Ok(None)
}

fn needed_layers(write: &impl Records, held: &Held<'_>) -> Result<HashSet<Digest>> {
    let mut needed = HashSet::new();
    for image in write.all::<ImageRecord>()? {
        needed.extend(image.layers);
    }
    for mount in held.values() {
        needed.extend(mount.layers.iter().cloned());
    }
    for lease in write.all::<LeaseRecord>()? {
        if !lease.is_over(now()) {
            needed.extend(lease.layers);
        }
    }
    Ok(needed)
}
