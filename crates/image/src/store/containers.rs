//! Which root file systems there are: a record beside what each of them wrote.
//!
//! The database would wait for the disk twice for each container that is made or removed. A record
//! outlives the process that wrote it in any case; one that a power cut may take belongs to a
//! container whose writes it may take, too: what is left of those goes at the next start.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, Mode, OFlags, openat, renameat, unlinkat};
use rustix::io::Errno;
use sys::Context as _;

use super::place::{Place, make_dir, open_dir};
use super::record::{MountRecord, decode, encode};
use crate::layer::dir::names;
use crate::{Error, Result};

/// The record's name in its container's directory, and while it is written.
const RECORD: &str = "record";
const NASCENT: &str = ".record";

/// The records by the containers' ids.
#[derive(Debug, Default)]
pub(crate) struct Containers(Mutex<BTreeMap<String, MountRecord>>);

/// The same while nobody else can change them.
pub(crate) type Held<'a> = MutexGuard<'a, BTreeMap<String, MountRecord>>;

impl Containers {
    /// Reads all of them.
    pub fn load(place: &Place) -> Result<Self> {
        let dir = open_dir(place.root(), Path::new("containers"))?;
        let mut all = BTreeMap::new();
        for name in names(dir.as_fd())? {
            let id = name.to_string_lossy().into_owned();
            if let Some(record) = read(place, &id)? {
                all.insert(id, record);
            }
        }
        Ok(Self(Mutex::new(all)))
    }

    /// Keeps others from changing them.
    pub fn hold(&self) -> Held<'_> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// That of container `id`.
    pub fn get(&self, id: &str) -> Option<MountRecord> {
        self.hold().get(id).cloned()
    }

    /// All of them.
    pub fn all(&self) -> Vec<MountRecord> {
        self.hold().values().cloned().collect()
    }
}

fn read(place: &Place, id: &str) -> Result<Option<MountRecord>> {
    let path = Path::new("containers").join(id).join(RECORD);
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let fd = match openat(place.root(), &path, flags, Mode::empty()) {
        Ok(fd) => fd,
        // Of a container that is being removed while we look.
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(e) => {
            return Err(e)
                .context("openat", || format!("{path:?}"))
                .map_err(Into::into);
        }
    };
    let mut bytes = Vec::new();
    let all = File::from(fd).read_to_end(&mut bytes);
    all.map_err(|e| Error::io(format!("read {}", path.display()), e))?;
    // A power cut leaves a part of it, or nothing: the container is nobody's then.
    Ok(decode(&bytes, "a container").ok())
}

/// Writes a new record, whole or not at all; a lasting one survives a crash of the machine.
pub(crate) fn put(
    held: &mut Held<'_>,
    place: &Place,
    record: MountRecord,
    lasting: bool,
) -> Result<()> {
    let own = Path::new("containers").join(&record.id);
    make_dir(place.root(), &own)?;
    let dir = open_dir(place.root(), &own)?;
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::TRUNC | OFlags::CLOEXEC;
    let fd = openat(&dir, NASCENT, flags, Mode::from_raw_mode(0o600))
        .context("openat", || format!("{:?}, O_CREAT", own.join(NASCENT)))?;
    let mut file = File::from(fd);
    let mut written = file.write_all(&encode(&record)?);
    if lasting {
        written = written.and_then(|()| file.sync_data());
    }
    written.map_err(|e| Error::io(format!("write {}", own.join(NASCENT).display()), e))?;
    renameat(&dir, NASCENT, &dir, RECORD)
        .context("renameat", || format!("{:?}", own.join(RECORD)))?;
    if lasting {
        let all = open_dir(place.root(), Path::new("containers"))?;
        for made in [&dir, &all] {
            rustix::fs::fsync(made).context("fsync", || format!("{own:?}"))?;
        }
    }
    held.insert(record.id.clone(), record);
    Ok(())
}

/// Removes a record: what is left of its container is nobody's from now on.
pub(crate) fn remove(held: &mut Held<'_>, place: &Place, id: &str) -> Result<()> {
    let path = Path::new("containers").join(id).join(RECORD);
    match unlinkat(place.root(), &path, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(e) => {
            return Err(e)
                .context("unlinkat", || format!("{path:?}"))
                .map_err(Into::into);
        }
    }
    held.remove(id);
    Ok(())
}
