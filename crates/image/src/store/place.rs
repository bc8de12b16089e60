//! The store's directory.
//!
//! ```text
//! lock            held by the one writer; its process id is in it
//! db              records
//! tmp/            what is being written; emptied at start-up
//! layers/HEX/     one layer: `tree/` or `layer.erofs`, `split` (how its tar stream was)
//! containers/ID/  a container: `record`, `upper/`, `work/`
//! mnt/            mount points: `layers/HEX`, `containers/ID`
//! points/         the lowest layer of containers: what they get mounted over
//! ```

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{
    AtFlags, CWD, IFlags, Mode, OFlags, ioctl_getflags, ioctl_setflags, mkdirat, openat, renameat,
    statat,
};
use rustix::io::Errno;
use sys::Context as _;

use crate::layer::dir::remove_tree;
use crate::{Digest, Result};

/// Directories of the store.
const PARTS: [&str; 6] = [
    "tmp",
    "layers",
    "containers",
    "mnt",
    "mnt/layers",
    "mnt/containers",
];

/// The lowest layer of containers.
pub(crate) const MOUNT_POINTS: &str = "points";
/// Its directories, and its files, which are empty.
const POINTS: [&str; 5] = ["", "dev", "etc", "proc", "sys"];
const FILES: [&str; 3] = ["etc/hostname", "etc/hosts", "etc/resolv.conf"];

/// The store's directory, held open.
#[derive(Debug)]
pub(crate) struct Place {
    path: PathBuf,
    root: OwnedFd,
    layers: OwnedFd,
    tmp: OwnedFd,
    next: AtomicU64,
}

impl Place {
    /// Opens it; with `make`, what is missing is made.
    pub fn open(path: &Path, make: bool) -> Result<Self> {
        if make {
            std::fs::create_dir_all(path)
                .map_err(|e| crate::Error::io(format!("store: make {}", path.display()), e))?;
        }
        let root = open_dir(CWD, path)?;
        if make {
            rustix::fs::fchmod(&root, Mode::RWXU)
                .context("fchmod", || format!("{path:?}, 0700"))?;
            if !exists(root.as_fd(), "mnt/containers") {
                for part in PARTS {
                    make_dir(root.as_fd(), Path::new(part))?;
                }
                rustix::fs::fsync(&root).context("fsync", || format!("{path:?}"))?;
            }
            make_points(root.as_fd())?;
            for part in ["containers", "mnt/containers"] {
                spread(&open_dir(root.as_fd(), Path::new(part))?);
            }
        }
        Ok(Self {
            path: path.to_owned(),
            layers: open_dir(root.as_fd(), Path::new("layers"))?,
            tmp: open_dir(root.as_fd(), Path::new("tmp"))?,
            root,
            next: AtomicU64::new(0),
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    pub fn layers(&self) -> BorrowedFd<'_> {
        self.layers.as_fd()
    }

    /// A fresh directory for what is being written.
    pub fn temporary(&self) -> Result<Temporary> {
        let name = self.next.fetch_add(1, Ordering::Relaxed).to_string();
        mkdirat(&self.tmp, name.as_str(), Mode::RWXU)
            .context("mkdirat", || format!("tmp/{name}"))?;
        Ok(Temporary {
            fd: open_dir(self.tmp.as_fd(), Path::new(&name))?,
            parent: self.tmp.try_clone().context("dup", || "tmp")?,
            name: Some(name),
        })
    }

    /// Gives a layer its name. What is in the way is not in the database and goes.
    pub fn commit(&self, made: &mut Temporary, chain: &Digest) -> Result<()> {
        let Some(name) = made.name.take() else {
            return Ok(());
        };
        let rename = || renameat(&self.tmp, name.as_str(), &self.layers, chain.hex());
        let renamed = match rename() {
            Err(Errno::EXIST | Errno::NOTEMPTY) => {
                remove_tree(self.layers.as_fd(), chain.hex().as_bytes())?;
                rename()
            }
            other => other,
        };
        renamed.context("renameat", || format!("tmp/{name}, layers/{}", chain.hex()))?;
        Ok(())
    }

    /// Makes the names of committed layers durable.
    pub fn sync_layers(&self) -> Result<()> {
        rustix::fs::fsync(&self.layers).context("fsync", || "layers")?;
        Ok(())
    }

    /// Removes a layer's directory.
    pub fn remove_layer(&self, chain: &Digest) -> Result<()> {
        // Renamed first: whoever looks for the name finds it whole or not at all.
        let name = format!("gone-{}", self.next.fetch_add(1, Ordering::Relaxed));
        match renameat(&self.layers, chain.hex(), &self.tmp, name.as_str()) {
            Ok(()) => remove_tree(self.tmp.as_fd(), name.as_bytes()),
            Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(e)
                .context("renameat", || format!("layers/{}, tmp/{name}", chain.hex()))
                .map_err(Into::into),
        }
    }

    /// Opens a committed layer's directory.
    pub fn open_layer(&self, chain: &Digest) -> Result<OwnedFd> {
        open_dir(self.layers.as_fd(), Path::new(chain.hex()))
    }

    pub fn tmp(&self) -> BorrowedFd<'_> {
        self.tmp.as_fd()
    }
}

/// A directory that is removed unless it is committed.
#[derive(Debug)]
pub(crate) struct Temporary {
    pub fd: OwnedFd,
    parent: OwnedFd,
    name: Option<String>,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            // What cannot be removed now is removed at the next start.
            let _ = remove_tree(self.parent.as_fd(), name.as_bytes());
        }
    }
}

/// Tells the file system that the directories made in this one have nothing to do with each
/// other, so that it does not put them all in one place (chattr(1), `T`). Ext4 looks through all
/// inodes of a place that were freed in the last minutes before it takes one: with containers
/// coming and going, that is more work than all the rest.
fn spread(dir: &OwnedFd) {
    let Ok(flags) = ioctl_getflags(dir) else {
        return;
    };
    if !flags.contains(IFlags::TOPDIR) {
        // Other file systems do not know the flag; they need no hint.
        let _ = ioctl_setflags(dir, flags | IFlags::TOPDIR);
    }
}

/// Makes what is missing of the containers' lowest layer. They see its modes.
fn make_points(root: BorrowedFd<'_>) -> Result<()> {
    let points = Path::new(MOUNT_POINTS);
    let (dirs, files) = (
        POINTS.iter().map(|p| points.join(p)),
        FILES.map(|p| points.join(p)),
    );
    for dir in dirs.filter(|dir| !exists(root, &dir.to_string_lossy())) {
        make_dir(root, &dir)?;
        let fd = open_dir(root, &dir)?;
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o755))
            .context("fchmod", || format!("{dir:?}, 0755"))?;
    }
    for file in files
        .iter()
        .filter(|file| !exists(root, &file.to_string_lossy()))
    {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mode = Mode::from_raw_mode(0o644);
        let fd = openat(root, file, flags, mode).context("openat", || format!("{file:?}"))?;
        rustix::fs::fchmod(&fd, mode).context("fchmod", || format!("{file:?}, 0644"))?;
    }
    Ok(())
}

pub(crate) fn open_dir(at: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = openat(at, path, flags, Mode::empty());
    Ok(fd.context("openat", || format!("{path:?}, O_DIRECTORY"))?)
}

pub(crate) fn make_dir(at: BorrowedFd<'_>, path: &Path) -> Result<()> {
    match mkdirat(at, path, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(e) => Err(e)
            .context("mkdirat", || format!("{path:?}"))
            .map_err(Into::into),
    }
}

pub(crate) fn exists(at: BorrowedFd<'_>, path: &str) -> bool {
    statat(at, path, AtFlags::SYMLINK_NOFOLLOW).is_ok()
}
