//! Leases: what must stay for a while though no image or container says so.

use super::Store;
use super::db::Records as _;
use super::record::{ImageRecord, LeaseRecord, now};
use crate::{Digest, Error, Result};

impl Store {
    /// Takes a lease, or prolongs it: `seconds` from now, or for ever.
    ///
    /// # Errors
    /// Not written.
    pub fn lease(&self, id: &str, seconds: Option<u64>) -> Result<LeaseRecord> {
        self.db.write(|write| {
            let old: Option<LeaseRecord> = write.get(id)?;
            let mut lease = old.unwrap_or_else(|| LeaseRecord {
                id: id.to_owned(),
                expires: None,
                images: Default::default(),
                layers: Default::default(),
            });
            lease.expires = seconds.map(|s| now().saturating_add(s));
            write.put(&lease)?;
            Ok(lease)
        })
    }

    /// Puts an image under a lease.
    ///
    /// # Errors
    /// [`Error::Missing`]; not written.
    pub fn hold(&self, lease: &str, image: &Digest) -> Result<()> {
        self.db.write(|write| {
            let found: Option<LeaseRecord> = write.get(lease)?;
            let mut found = found.ok_or_else(|| no_lease(lease))?;
            if write.get::<ImageRecord>(&image.to_string())?.is_none() {
                return Err(Error::not_stored(format!("image {image}")));
            }
            found.images.insert(image.clone());
            write.put(&found)
        })
    }

    /// Ends a lease. What it alone held is removed by the next collection.
    ///
    /// # Errors
    /// [`Error::Missing`]; not written.
    pub fn release(&self, lease: &str) -> Result<()> {
        self.db.write(|write| {
            if write.get::<LeaseRecord>(lease)?.is_none() {
                return Err(no_lease(lease));
            }
            write.remove::<LeaseRecord>(lease)
        })
    }

    /// All leases.
    ///
    /// # Errors
    /// The database is not readable.
    pub fn leases(&self) -> Result<Vec<LeaseRecord>> {
        self.db.read()?.all()
    }
}

fn no_lease(id: &str) -> Error {
    Error::Missing {
        what: format!("lease {id}"),
        why: "there is none of that name, or it is over".to_owned(),
    }
}
