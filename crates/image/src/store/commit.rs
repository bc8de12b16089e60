//! What a container has written: listed, and made a layer of a new image.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{Cursor, Read};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use rustix::fs::{AtFlags, CWD, FileType, statat};
use sys::Context as _;

use super::Store;
use super::lower::{Chain, is_opaque, is_whiteout};
use super::place::open_dir;
use super::pull::PullOptions;
use super::record::{ImageRecord, MountRecord};
use crate::bundle::{Change, ChangeKind, Compression, NewLayer, write_entry};
use crate::document::{Descriptor, History, ImageConfig, RunConfig};
use crate::layer::dir::names;
use crate::layer::tar_write::TarWriter;
use crate::layer::{EntryKind, EntryPath, Lower as _};
use crate::transport::{RawManifest, Source};
use crate::{Digest, Error, Reference, Result};

/// Deepest directory that is looked into.
const DEPTH: usize = 2048;

/// What becomes of a container's image beside the new layer.
#[derive(Clone, Debug, Default)]
pub struct CommitOptions {
    /// Entry of the image's history.
    pub history: History,
    /// How the container runs, in place of the image's own word.
    pub config: Option<RunConfig>,
    /// Who made it.
    pub author: String,
}

/// Something in the directory that takes what a container writes.
struct Written {
    path: EntryPath,
    dir: OwnedFd,
    name: std::ffi::OsString,
    whiteout: bool,
    opaque: bool,
}

impl Store {
    /// What container `id` has changed of its image, by path.
    ///
    /// # Errors
    /// There is none of that id; not readable.
    pub fn changes(&self, id: &str) -> Result<Vec<Change>> {
        let (record, upper) = self.written_by(id)?;
        let chain = self.chain(&record)?;
        let mut all = Vec::new();
        walk(upper.as_fd(), &mut |written| {
            let kind = if written.whiteout {
                ChangeKind::Deleted
            } else if chain.find(&written.path)?.is_some() {
                ChangeKind::Modified
            } else {
                ChangeKind::Added
            };
            all.push(Change {
                path: written.path,
                kind,
            });
            Ok(())
        })?;
        all.retain(|c| !c.path.is_root());
        all.sort();
        Ok(all)
    }

    /// Writes what container `id` has changed of its image as the tar stream of a layer. Stop or
    /// pause the container before: what is written meanwhile may be in it by halves.
    ///
    /// # Errors
    /// There is none of that id; not readable; not written.
    pub fn write_changes(&self, id: &str, to: &mut dyn std::io::Write) -> Result<()> {
        write_upper(self.written_by(id)?.1.as_fd(), to)
    }

    /// Makes what container `id` has written a layer on top of its image, under the name
    /// `reference`. Stop or pause the container before: what is written meanwhile may be in the
    /// layer by halves.
    ///
    /// # Errors
    /// There is none of that id; not readable; not written.
    pub fn commit(
        &self,
        id: &str,
        reference: &Reference,
        options: &CommitOptions,
    ) -> Result<ImageRecord> {
        self.must_write()?;
        let (record, upper) = self.written_by(id)?;
        let details = self.inspect(&record.image)?;
        let layer = NewLayer::write(Compression::None, |to| write_upper(upper.as_fd(), to))?;
        let mut config: ImageConfig = details.config.clone();
        if let Some(run) = &options.config {
            config.config = Some(run.clone());
        }
        if !options.author.is_empty() {
            config.author.clone_from(&options.author);
        }
        let (manifest, config) =
            crate::bundle::with_layer(&details.manifest, &config, &layer, &options.history)?;
        let source = Committed {
            name: format!("container {id}"),
            config_digest: Digest::of(&config),
            manifest,
            config,
            layer,
        };
        self.pull(&source, reference, &PullOptions::default())
    }

    fn written_by(&self, id: &str) -> Result<(MountRecord, OwnedFd)> {
        let rootfs = self.mounted(id)?;
        let record = self.containers.get(id);
        let upper: Option<PathBuf> = rootfs.upper;
        let (Some(record), Some(upper)) = (record, upper) else {
            return Err(Error::store(
                format!("container {id}"),
                "its root file system is read-only",
            ));
        };
        Ok((record, open_dir(CWD, &upper)?))
    }

    fn chain(&self, record: &MountRecord) -> Result<Chain> {
        let mut chain = Chain::default();
        for layer in self.layer_records(&record.layers)? {
            chain = chain.on(self.content(&layer)?);
        }
        Ok(chain)
    }
}

/// Goes through what was written, parents first, names sorted.
fn walk(upper: BorrowedFd<'_>, visit: &mut dyn FnMut(Written) -> Result<()>) -> Result<()> {
    let top = upper
        .try_clone_to_owned()
        .map_err(|e| Error::io("dup", e))?;
    let opaque = is_opaque(&top)?;
    let mut todo = vec![(EntryPath::default(), top, ".".into(), opaque)];
    while let Some((path, dir, name, opaque)) = todo.pop() {
        let name: std::ffi::OsString = name;
        let stat = statat(&dir, name.as_os_str(), AtFlags::SYMLINK_NOFOLLOW)
            .context("fstatat", || path.to_string())?;
        let whiteout = is_whiteout(&stat);
        let mut below = Vec::new();
        if FileType::from_raw_mode(stat.st_mode).is_dir() && path.components().len() < DEPTH {
            let (parent, last) = (&dir, std::path::Path::new(&name));
            let own = open_dir(parent.as_fd(), last)?;
            let mut all = names(own.as_fd())?;
            all.sort_unstable();
            for child in all.into_iter().rev() {
                let dir = own.try_clone().map_err(|e| Error::io("dup", e))?;
                let child_name = OsStr::from_bytes(child.to_bytes()).to_owned();
                let opaque = match open_dir(dir.as_fd(), std::path::Path::new(&child_name)) {
                    Ok(fd) => is_opaque(&fd)?,
                    Err(_) => false,
                };
                below.push((path.join(child.to_bytes())?, dir, child_name, opaque));
            }
        }
        visit(Written {
            path,
            dir,
            name,
            whiteout,
            opaque,
        })?;
        todo.extend(below);
    }
    Ok(())
}

fn write_upper(upper: BorrowedFd<'_>, to: &mut dyn std::io::Write) -> Result<()> {
    let mut tar = TarWriter::new(to);
    let mut first: HashMap<(u64, u64), EntryPath> = HashMap::new();
    walk(upper, &mut |written| {
        if written.whiteout {
            return tar.whiteout(&written.path);
        }
        let stat = statat(
            &written.dir,
            written.name.as_os_str(),
            AtFlags::SYMLINK_NOFOLLOW,
        )
        .context("fstatat", || written.path.to_string())?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Socket {
            return Ok(());
        }
        let mut kind = super::kind_of(&written.dir, &written.name, &stat)?;
        if stat.st_nlink > 1 && kind != EntryKind::Directory {
            let known = first.entry((stat.st_dev, stat.st_ino));
            let target = known.or_insert_with(|| written.path.clone());
            if *target != written.path {
                kind = EntryKind::Hardlink {
                    target: target.clone(),
                };
            }
        }
        let at = (&written.dir, written.name.as_os_str());
        write_entry(
            &mut tar,
            at,
            &stat,
            kind,
            &written.path,
            &crate::layer::Ownership::AsWritten,
        )?;
        if written.opaque {
            tar.opaque(&written.path)?;
        }
        Ok(())
    })?;
    tar.finish().map(drop)
}

/// An image of which all but the highest layer is in the store.
struct Committed {
    name: String,
    manifest: RawManifest,
    config: Vec<u8>,
    config_digest: Digest,
    layer: NewLayer,
}

impl Source for Committed {
    fn place(&self) -> String {
        self.name.clone()
    }

    fn manifest(&self, _by: Option<&Digest>) -> Result<RawManifest> {
        Ok(self.manifest.clone())
    }

    fn blob(&self, blob: &Descriptor) -> Result<Box<dyn Read + Send>> {
        if blob.digest == self.config_digest {
            return Ok(Box::new(Cursor::new(self.config.clone())));
        }
        if blob.digest == self.layer.blob.digest {
            return Ok(Box::new(self.layer.open()?));
        }
        Err(Error::store(
            self.name.clone(),
            "a layer of its image is broken: check the store",
        ))
    }
}
