//! The database: typed tables over redb.

use std::path::Path;

use redb::{
    Builder, ConcurrencyMode, Database, ReadOnlyDatabase, ReadTransaction, ReadableDatabase as _,
    ReadableTable as _, TableDefinition, WriteTransaction,
};
use serde::{Deserialize, Serialize};

use super::record::{self, ImageRecord, LayerRecord, LeaseRecord};
use crate::{Digest, Error, Result};

type Table = TableDefinition<'static, &'static str, &'static [u8]>;

/// Image id → [`ImageRecord`].
const IMAGES: Table = Table::new("images");
/// Chain id → [`LayerRecord`].
const LAYERS: Table = Table::new("layers");
/// Lease → [`LeaseRecord`].
const LEASES: Table = Table::new("leases");
/// Digest → bytes of a manifest or configuration.
const DOCUMENTS: Table = Table::new("documents");

/// A kind of record and its table.
pub(crate) trait Record: Serialize + for<'de> Deserialize<'de> {
    const TABLE: Table;
    const WHAT: &'static str;
    fn key(&self) -> String;
}

macro_rules! record {
    ($type:ty, $table:expr, $what:literal, $key:ident) => {
        impl Record for $type {
            const TABLE: Table = $table;
            const WHAT: &'static str = $what;
            fn key(&self) -> String {
                self.$key.to_string()
            }
        }
    };
}

record!(ImageRecord, IMAGES, "an image", id);
record!(LayerRecord, LAYERS, "a layer", chain);
record!(LeaseRecord, LEASES, "a lease", id);

/// The database of a store.
pub(crate) enum Db {
    Writer(Database),
    Reader(ReadOnlyDatabase),
}

impl std::fmt::Debug for Db {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Writer(_) => "Db::Writer",
            Self::Reader(_) => "Db::Reader",
        })
    }
}

fn failed(e: impl std::fmt::Display) -> Error {
    Error::store("store: database", e)
}

/// Memory for pages of the database: records are few and small.
const CACHE: usize = 4 << 20;

impl Db {
    /// Opens or creates it; the caller holds the store's lock.
    ///
    /// Of a creation that is cut short a file remains that is no database: so a new one gets its
    /// name when it is complete.
    pub fn create(path: &Path) -> Result<Self> {
        if path.exists() {
            return Self::writer(path);
        }
        let nascent = path.with_extension("new");
        match std::fs::remove_file(&nascent) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(e)),
            _ => {}
        }
        let db = Self::writer(&nascent)?;
        std::fs::rename(&nascent, path).map_err(failed)?;
        if let Some(parent) = path.parent() {
            let directory = std::fs::File::open(parent).map_err(failed)?;
            directory.sync_all().map_err(failed)?;
        }
        Ok(db)
    }

    fn writer(path: &Path) -> Result<Self> {
        let mut builder = Builder::new();
        builder.set_concurrency_mode(ConcurrencyMode::SingleWriter);
        builder.set_cache_size(CACHE);
        builder.set_check_integrity_on_open(true);
        let db = builder.create(path).map_err(failed)?;
        // A commit waits for the disk, and the tables are there at every start but the first.
        if db
            .begin_read()
            .map_err(failed)?
            .open_table(DOCUMENTS)
            .is_err()
        {
            let write = db.begin_write().map_err(failed)?;
            for table in [IMAGES, LAYERS, LEASES, DOCUMENTS] {
                write.open_table(table).map_err(failed)?;
            }
            write.commit().map_err(failed)?;
        }
        Ok(Self::Writer(db))
    }

    /// Opens it beside a writer, or without one; `None` where a writer was killed and the next one
    /// must put it in order first.
    pub fn read_only(path: &Path) -> Result<Option<Self>> {
        let mut builder = Builder::new();
        builder.set_concurrency_mode(ConcurrencyMode::SingleWriter);
        builder.set_cache_size(CACHE);
        match builder.open_read_only(path) {
            Ok(db) => Ok(Some(Self::Reader(db))),
            Err(redb::DatabaseError::RepairAborted) => Ok(None),
            Err(e) => Err(failed(e)),
        }
    }

    /// A view of one moment.
    pub fn read(&self) -> Result<Read> {
        let read = match self {
            Self::Writer(db) => db.begin_read(),
            Self::Reader(db) => db.begin_read(),
        };
        read.map(Read).map_err(failed)
    }

    /// Runs `change` and makes it durable as a whole, or not at all.
    pub fn write<T>(&self, change: impl FnOnce(&Write) -> Result<T>) -> Result<T> {
        let Self::Writer(db) = self else {
            return Err(Error::store("store", "opened for reading only"));
        };
        let write = Write(db.begin_write().map_err(failed)?);
        let value = change(&write)?;
        write.0.commit().map_err(failed)?;
        Ok(value)
    }
}

/// Looking up records, in a view of one moment or in the midst of a change.
pub(crate) trait Records {
    fn all<R: Record>(&self) -> Result<Vec<R>>;
}

impl Records for Read {
    fn all<R: Record>(&self) -> Result<Vec<R>> {
        all(&self.0.open_table(R::TABLE).map_err(failed)?)
    }
}

impl Records for Write {
    fn all<R: Record>(&self) -> Result<Vec<R>> {
        all(&self.0.open_table(R::TABLE).map_err(failed)?)
    }
}

fn all<R: Record>(table: &impl redb::ReadableTable<&'static str, &'static [u8]>) -> Result<Vec<R>> {
    let mut all = Vec::new();
    for pair in table.iter().map_err(failed)? {
        let (_, value) = pair.map_err(failed)?;
        all.push(record::decode(value.value(), R::WHAT)?);
    }
    Ok(all)
}

/// A view of one moment.
pub(crate) struct Read(ReadTransaction);

impl Read {
    pub fn get<R: Record>(&self, key: &str) -> Result<Option<R>> {
        let table = self.0.open_table(R::TABLE).map_err(failed)?;
        let found = table.get(key).map_err(failed)?;
        found
            .map(|v| record::decode(v.value(), R::WHAT))
            .transpose()
    }

    pub fn document(&self, digest: &Digest) -> Result<Vec<u8>> {
        let table = self.0.open_table(DOCUMENTS).map_err(failed)?;
        let found = table.get(digest.to_string().as_str()).map_err(failed)?;
        let bytes = found.map(|v| v.value().to_vec());
        bytes.ok_or_else(|| Error::Missing {
            what: format!("document {digest}"),
            why: "the store lost it: pull the image again".to_owned(),
        })
    }

    pub fn documents(&self) -> Result<Vec<String>> {
        let table = self.0.open_table(DOCUMENTS).map_err(failed)?;
        let keys = table.iter().map_err(failed)?;
        keys.map(|pair| Ok(pair.map_err(failed)?.0.value().to_owned()))
            .collect()
    }
}

/// A change that is not durable yet.
pub(crate) struct Write(WriteTransaction);

impl Write {
    pub fn get<R: Record>(&self, key: &str) -> Result<Option<R>> {
        let table = self.0.open_table(R::TABLE).map_err(failed)?;
        let found = table.get(key).map_err(failed)?;
        found
            .map(|v| record::decode(v.value(), R::WHAT))
            .transpose()
    }

    pub fn put<R: Record>(&self, record: &R) -> Result<()> {
        let mut table = self.0.open_table(R::TABLE).map_err(failed)?;
        let value = record::encode(record)?;
        table
            .insert(record.key().as_str(), value.as_slice())
            .map_err(failed)?;
        Ok(())
    }

    pub fn remove<R: Record>(&self, key: &str) -> Result<()> {
        let mut table = self.0.open_table(R::TABLE).map_err(failed)?;
        table.remove(key).map_err(failed)?;
        Ok(())
    }

    pub fn put_document(&self, digest: &Digest, bytes: &[u8]) -> Result<()> {
        let mut table = self.0.open_table(DOCUMENTS).map_err(failed)?;
        table
            .insert(digest.to_string().as_str(), bytes)
            .map_err(failed)?;
        Ok(())
    }

    pub fn remove_document(&self, digest: &str) -> Result<()> {
        let mut table = self.0.open_table(DOCUMENTS).map_err(failed)?;
        table.remove(digest).map_err(failed)?;
        Ok(())
    }
}
