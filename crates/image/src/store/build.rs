//! One layer: from its blob to a complete directory of the store.

use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, openat, statat};
use sys::Context as _;

use super::Store;
use super::flight::Made;
use super::lower::{Chain, Content, TreeLayer};
use super::place::{Temporary, make_dir, open_dir};
use super::record::{Format, LayerRecord};
use super::split::SplitWriter;
use super::stream::{Watch, stream};
use crate::document::Descriptor;
use crate::erofs::{ErofsWriter, Reader};
use crate::layer::dir::{DirWriter, Target};
use crate::layer::{LayerWriter as _, Limits};
use crate::transport::Source;
use crate::{Digest, Error, Result};

/// The directory with the files of a layer.
pub(crate) const TREE: &str = "tree";
/// The image of a layer.
pub(crate) const IMAGE: &str = "layer.erofs";
/// Files that the layer itself replaced.
pub(crate) const REPLACED: &str = "replaced";
/// How the tar stream was.
pub(crate) const SPLIT: &str = "split";

/// Which layer is to be made.
pub(crate) struct Wanted<'a> {
    pub chain: &'a Digest,
    pub parent: Option<&'a Digest>,
    pub diff_id: &'a Digest,
    pub blob: &'a Descriptor,
}

impl Store {
    /// Makes a layer; `below` waits for the layers that it builds upon.
    pub(crate) fn build(
        &self,
        source: &dyn Source,
        wanted: &Wanted<'_>,
        limits: Limits,
        watch: &Watch<'_>,
        below: &dyn Fn() -> Option<Chain>,
    ) -> Result<Made> {
        let tmp = self.place.temporary()?;
        match self.format()? {
            Format::Directory => self.build_directory(source, wanted, limits, watch, below, tmp),
            Format::Erofs => build_image(source, wanted, limits, watch, below, tmp),
        }
    }

    fn build_directory(
        &self,
        source: &dyn Source,
        wanted: &Wanted<'_>,
        limits: Limits,
        watch: &Watch<'_>,
        below: &dyn Fn() -> Option<Chain>,
        tmp: Temporary,
    ) -> Result<Made> {
        for name in [TREE, REPLACED] {
            make_dir(tmp.fd.as_fd(), Path::new(name))?;
        }
        let root = || open_dir(tmp.fd.as_fd(), Path::new(TREE));
        let target = Target::Layer {
            userxattr: self.userxattr,
        };
        let mut writer = DirWriter::new(root()?, target, self.ownership.clone())?;
        writer.keep_replaced(open_dir(tmp.fd.as_fd(), Path::new(REPLACED))?);
        let mut split = SplitWriter::new(create(&tmp, SPLIT)?)?;
        let streamed = stream(
            source,
            wanted.blob,
            wanted.diff_id,
            limits,
            watch,
            &mut writer,
            Some(&mut split),
        )?;
        let split = split.finish()?;
        writer.finish(&below().ok_or_else(given_up)?)?;
        let (bytes, inodes) = writer.written();
        let disk = bytes
            + split
                .metadata()
                .map_err(|e| Error::io("fstat split", e))?
                .len();
        let record = LayerRecord {
            chain: wanted.chain.clone(),
            parent: wanted.parent.cloned(),
            diff_id: wanted.diff_id.clone(),
            tar_size: streamed.tar_size,
            format: Format::Directory,
            disk,
            inodes,
            entries: streamed.entries,
            blob: Some(wanted.blob.clone()),
            moved: writer.moved().to_vec(),
            metadata: None,
        };
        let content = TreeLayer {
            root: root()?,
            ownership: self.ownership.clone(),
        };
        Ok(Made {
            record,
            content: Arc::new(content),
            tmp: Mutex::new(tmp),
        })
    }

    /// The directory that a layer's files are in, for a mount.
    pub(crate) fn layer_root(&self, record: &LayerRecord) -> Result<OwnedFd> {
        if record.format == Format::Erofs {
            return self.mounted_image(record);
        }
        let dir = self.place.open_layer(&record.chain)?;
        super::mount::open_path(dir.as_fd(), Path::new(TREE))
    }

    /// The files of a committed layer.
    pub(crate) fn content(&self, record: &LayerRecord) -> Result<Arc<dyn Content>> {
        let dir = self.place.open_layer(&record.chain)?;
        if record.format == Format::Erofs {
            return Ok(Arc::new(Reader::new(open_file(dir.as_fd(), IMAGE)?)?));
        }
        Ok(Arc::new(TreeLayer {
            root: open_dir(dir.as_fd(), Path::new(TREE))?,
            ownership: self.ownership.clone(),
        }))
    }
}

fn build_image(
    source: &dyn Source,
    wanted: &Wanted<'_>,
    limits: Limits,
    watch: &Watch<'_>,
    below: &dyn Fn() -> Option<Chain>,
    tmp: Temporary,
) -> Result<Made> {
    let mut writer = ErofsWriter::new(create(&tmp, IMAGE)?.into());
    let mut split = SplitWriter::new(create(&tmp, SPLIT)?)?;
    let streamed = stream(
        source,
        wanted.blob,
        wanted.diff_id,
        limits,
        watch,
        &mut writer,
        Some(&mut split),
    )?;
    writer.finish(&below().ok_or_else(given_up)?)?;
    split.metadata(writer.metadata_runs())?;
    let split = split.finish()?;
    let mut disk = 0;
    for file in [writer.file().as_fd(), split.as_fd()] {
        rustix::fs::fdatasync(file).context("fdatasync", || "layer")?;
        let stat = rustix::fs::fstat(file).context("fstat", || "layer")?;
        disk += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
    }
    // The names in the layer's own directory.
    rustix::fs::fsync(&tmp.fd).context("fsync", || "layer")?;
    let record = LayerRecord {
        chain: wanted.chain.clone(),
        parent: wanted.parent.cloned(),
        diff_id: wanted.diff_id.clone(),
        tar_size: streamed.tar_size,
        format: Format::Erofs,
        disk,
        inodes: 3,
        entries: streamed.entries,
        blob: Some(wanted.blob.clone()),
        moved: Vec::new(),
        metadata: writer.metadata().cloned(),
    };
    let content = Reader::new(open_file(tmp.fd.as_fd(), IMAGE)?)?;
    Ok(Made {
        record,
        content: Arc::new(content),
        tmp: Mutex::new(tmp),
    })
}

pub(crate) fn open_file(dir: BorrowedFd<'_>, name: &str) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(dir, name, flags, Mode::empty()).context("openat", || format!("layer, {name}"))?)
}

/// Another layer of the image failed; its error is the one that is shown.
fn given_up() -> Error {
    Error::store("pull", "a lower layer failed")
}

pub(crate) fn create(tmp: &Temporary, name: &str) -> Result<File> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = openat(&tmp.fd, name, flags, Mode::from_raw_mode(0o600));
    Ok(File::from(
        fd.context("openat", || format!("tmp, {name}, O_CREAT"))?,
    ))
}

/// Layers that are directories have too many files to sync each: the file system is synced once.
pub(crate) fn sync_directories<'a>(
    mut made: impl Iterator<Item = &'a LayerRecord>,
    at: BorrowedFd<'_>,
) -> Result<()> {
    if made.any(|r| r.format == Format::Directory) {
        rustix::fs::syncfs(at).context("syncfs", || "store")?;
    }
    Ok(())
}

/// Bytes and inodes of a tree on disk.
pub(crate) fn usage(dir: BorrowedFd<'_>) -> Result<(u64, u64)> {
    let mut total = (0, 0);
    let mut seen = std::collections::HashSet::new();
    let mut todo = vec![dir.try_clone_to_owned().context("dup", || "directory")?];
    while let Some(dir) = todo.pop() {
        for name in crate::layer::dir::names(dir.as_fd())? {
            // What is gone since it was listed: a container may be running on it.
            let Ok(stat) = statat(&dir, name.as_c_str(), AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            if !seen.insert((stat.st_dev, stat.st_ino)) {
                continue;
            }
            total.0 += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
            total.1 += 1;
            if FileType::from_raw_mode(stat.st_mode).is_dir() {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                match openat(&dir, name.as_c_str(), flags, Mode::empty()) {
                    Ok(sub) => todo.push(sub),
                    Err(rustix::io::Errno::NOENT) => {}
                    Err(e) => {
                        return Err(e)
                            .context("openat", || format!("{name:?}"))
                            .map_err(Into::into);
                    }
                }
            }
        }
    }
    Ok(total)
}
