//! What is kept of a container that `hullctl run` made from an image:
//! `<store>/local/<id>/record.json`, beside its bundle and its log.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

const RECORD: &str = "record.json";

/// A container.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Record {
    /// Its id.
    pub id: String,
    /// The image by the name that it was asked for by.
    pub image: String,
    /// Its program and arguments.
    pub command: Vec<String>,
    /// When it was made, RFC 3339.
    pub created: String,
    /// It has a supervisor, which writes its log.
    pub detached: bool,
    /// It is to be removed when it has ended.
    pub remove: bool,
    /// It has an attachment to our bridge.
    pub bridged: bool,
    /// Its address there.
    pub ip: Option<String>,
    /// Ports of the machine that lead to it.
    pub ports: Vec<String>,
    /// The signal that asks it to end.
    pub stop_signal: String,
    /// Where the runtime keeps its state.
    pub root: PathBuf,
    /// Its exit code, once it has ended.
    pub exit: Option<i32>,
}

/// The directory of a container.
#[derive(Clone, Debug)]
pub struct Place {
    dir: PathBuf,
}

impl Place {
    /// Where container `id` is or would be.
    pub fn of(store: &Path, id: &str) -> Result<Self> {
        // An id is one plain file name.
        runtime::ContainerId::new(id)?;
        Ok(Self {
            dir: store.join("local").join(id),
        })
    }

    /// Takes the id.
    pub fn claim(store: &Path, id: &str) -> Result<Self> {
        let place = Self::of(store, id)?;
        if let Some(parent) = place.dir.parent() {
            fs::create_dir_all(parent).with_context(|| format!("mkdir({})", parent.display()))?;
        }
        match fs::create_dir(&place.dir) {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => bail!(
                "container {id} exists already: take another --name, or `hullctl container rm {id}`"
            ),
            other => other.with_context(|| format!("mkdir({})", place.dir.display()))?,
        }
        Ok(place)
    }

    /// All containers of a store.
    pub fn all(store: &Path) -> Vec<Record> {
        let entries = fs::read_dir(store.join("local")).into_iter().flatten();
        let mut found: Vec<Record> = entries
            .flatten()
            .filter_map(|e| Self { dir: e.path() }.read().ok())
            .collect();
        found.sort_by(|a, b| b.created.cmp(&a.created));
        found
    }

    /// The bundle, too.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A file of it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Its output, in the kubelet's format.
    pub fn log(&self) -> PathBuf {
        self.path("log")
    }

    /// Writes a file of it.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.path(name);
        fs::write(&path, text).with_context(|| format!("write({})", path.display()))?;
        Ok(path)
    }

    /// Reads the record.
    pub fn read(&self) -> Result<Record> {
        let path = self.path(RECORD);
        let bytes = fs::read(&path).with_context(|| format!("read({})", path.display()))?;
        serde_json::from_slice(&bytes).with_context(|| path.display().to_string())
    }

    /// Replaces the record: readers see the old one or the new one.
    pub fn save(&self, record: &Record) -> Result<()> {
        let text = serde_json::to_string_pretty(record).context("write the record")?;
        let new = self.write("record.json.new", &text)?;
        let path = self.path(RECORD);
        fs::rename(&new, &path).with_context(|| format!("rename({})", path.display()))
    }

    /// Removes all of it.
    pub fn remove(&self) -> Result<()> {
        match fs::remove_dir_all(&self.dir) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(e).with_context(|| format!("rmdir({})", self.dir.display()))
            }
            _ => Ok(()),
        }
    }
}

/// Where the supervisor of a detached container has its socket.
pub fn supervisor_dir(root: &Path, id: &str) -> PathBuf {
    root.join("pods").join(format!("local-{id}"))
}
