//! What was changed becomes one more layer.

use std::fs::File;
use std::io::{Read, Seek as _, Write};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};
use sys::Context as _;

use super::tree::{Change, compare, list, write_changes};
use super::unpack::{Origin, read_listing, write_listing};
use crate::document::{Descriptor, History, ImageConfig, Manifest, media_type};
use crate::layer::Ownership;
use crate::transport::{Destination, PutAs, RawManifest, Source};
use crate::{Algorithm, Digest, Error, Hasher, Result};

/// How a layer is compressed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Compression {
    /// As every tool of the last ten years reads it.
    #[default]
    Gzip,
    /// Smaller and faster, for those that read it.
    Zstd,
    /// Not at all.
    None,
}

impl Compression {
    const fn suffix(self) -> &'static str {
        match self {
            Self::Gzip => "+gzip",
            Self::Zstd => "+zstd",
            Self::None => "",
        }
    }
}

/// What the new layer is called in the image's history, and what else changes.
#[derive(Clone, Debug, Default)]
pub struct RepackOptions {
    /// How the layer is compressed.
    pub compression: Compression,
    /// Entry of the image's history.
    pub history: History,
    /// Paths that are not looked at, as in the container: volumes, for example.
    pub masked: Vec<PathBuf>,
}

/// A layer that was written, in a file without a name.
#[derive(Debug)]
pub struct NewLayer {
    /// The blob.
    pub blob: Descriptor,
    /// Digest of its tar stream.
    pub diff_id: Digest,
    file: File,
}

impl NewLayer {
    /// Writes `changes` to the tree below `root` as a layer.
    ///
    /// # Errors
    /// Not readable, not written, or an owner outside of the maps.
    pub fn of_tree(
        root: std::os::fd::BorrowedFd<'_>,
        changes: &[Change],
        ownership: &Ownership,
        compression: Compression,
    ) -> Result<Self> {
        Self::write(compression, |to| {
            write_changes(root, changes, ownership, to).map(drop)
        })
    }

    /// Compresses the tar stream that `fill` writes.
    ///
    /// # Errors
    /// Those of `fill`; not written.
    pub fn write(
        compression: Compression,
        fill: impl FnOnce(&mut dyn Write) -> Result<()>,
    ) -> Result<Self> {
        let failed = |e| Error::io("write a layer", e);
        let dir = std::env::temp_dir();
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let fd = openat(CWD, &dir, flags, Mode::from_raw_mode(0o600));
        let file = File::from(fd.context("open", || format!("{dir:?}, O_TMPFILE"))?);
        let blob = Hashing::new(file);
        let encoder = Encoder::new(blob, compression).map_err(failed)?;
        let mut tar = std::io::BufWriter::with_capacity(256 << 10, Hashing::new(encoder));
        fill(&mut tar)?;
        tar.flush().map_err(failed)?;
        let tar = tar.into_inner().map_err(|e| failed(e.into_error()))?;
        let diff_id = tar.hasher.finish();
        let Hashing {
            hasher,
            count,
            mut inner,
        } = tar.inner.finish().map_err(failed)?;
        inner.rewind().map_err(failed)?;
        Ok(Self {
            blob: Descriptor {
                digest: hasher.finish(),
                size: count,
                ..Descriptor::of(
                    b"",
                    format!("{}{}", media_type::OCI_LAYER, compression.suffix()),
                )
            },
            diff_id,
            file: inner,
        })
    }

    /// The blob's bytes, from the beginning.
    ///
    /// # Errors
    /// dup(2)'s and lseek(2)'s.
    pub fn open(&self) -> Result<File> {
        let failed = |e| Error::io("read a layer", e);
        let mut file = self.file.try_clone().map_err(failed)?;
        file.rewind().map_err(failed)?;
        Ok(file)
    }
}

/// A compressor whose end is written, and fails, in the open.
enum Encoder<W: Write> {
    None(W),
    Gzip(flate2::write::GzEncoder<W>),
    Zstd(zstd::stream::write::Encoder<'static, W>),
}

impl<W: Write> Encoder<W> {
    fn new(to: W, compression: Compression) -> std::io::Result<Self> {
        Ok(match compression {
            Compression::None => Self::None(to),
            Compression::Gzip => Self::Gzip(flate2::write::GzEncoder::new(
                to,
                flate2::Compression::default(),
            )),
            Compression::Zstd => Self::Zstd(zstd::stream::write::Encoder::new(to, 3)?),
        })
    }

    fn finish(self) -> std::io::Result<W> {
        match self {
            Self::None(to) => Ok(to),
            Self::Gzip(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::None(to) => to.write(bytes),
            Self::Gzip(encoder) => encoder.write(bytes),
            Self::Zstd(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::None(to) => to.flush(),
            Self::Gzip(encoder) => encoder.flush(),
            Self::Zstd(encoder) => encoder.flush(),
        }
    }
}

/// Computes a digest of what is written.
struct Hashing<W> {
    inner: W,
    hasher: Hasher,
    count: u64,
}

impl<W> Hashing<W> {
    fn new(inner: W) -> Self {
        Self {
            inner,
            hasher: Hasher::new(Algorithm::Sha256),
            count: 0,
        }
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.hasher.update(bytes.get(..n).unwrap_or_default());
        self.count += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

/// The documents of an image with one more layer.
///
/// # Errors
/// Not encoded.
pub fn with_layer(
    manifest: &Manifest,
    config: &ImageConfig,
    layer: &NewLayer,
    history: &History,
) -> Result<(RawManifest, Vec<u8>)> {
    let mut config = config.clone();
    config.rootfs.diff_ids.push(layer.diff_id.clone());
    config.history.push(history.clone());
    config.created = history.created.clone().or(config.created);
    let encode = |e: serde_json::Error| Error::store("encode a document", e);
    let config = serde_json::to_vec(&config).map_err(encode)?;
    let mut manifest = manifest.clone();
    manifest.media_type = media_type::OCI_MANIFEST.to_owned();
    manifest.config = Descriptor::of(&config, media_type::OCI_CONFIG);
    for layer in &mut manifest.layers {
        layer.media_type = oci_layer_type(&layer.media_type);
    }
    manifest.layers.push(layer.blob.clone());
    let bytes = serde_json::to_vec(&manifest).map_err(encode)?;
    Ok((RawManifest::new(bytes, media_type::OCI_MANIFEST), config))
}

fn oci_layer_type(text: &str) -> String {
    match text {
        media_type::DOCKER_LAYER_GZIP => format!("{}+gzip", media_type::OCI_LAYER),
        media_type::DOCKER_LAYER => media_type::OCI_LAYER.to_owned(),
        other => other.to_owned(),
    }
}

/// Writes what was changed in a bundle since it was unpacked as a layer on top of its image, to
/// `destination`; blobs of the image that are missing there come from `source`. Returns the
/// digest of the new manifest.
///
/// # Errors
/// The directory is no bundle of ours; not readable; not written.
pub fn repack(
    bundle: &Path,
    source: &dyn Source,
    destination: &dyn Destination,
    options: &RepackOptions,
) -> Result<Digest> {
    let origin = Origin::read(bundle)?;
    let rootfs = bundle.join("rootfs");
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = openat(CWD, &rootfs, flags, Mode::empty())
        .context("open", || rootfs.display().to_string())?;
    let now = list(root.as_fd())?;
    let mut changes = compare(&read_listing(bundle)?, &now);
    let masked = |c: &Change| {
        use std::os::unix::ffi::OsStrExt as _;
        let path = c.path.to_bytes();
        let path = Path::new(std::ffi::OsStr::from_bytes(&path));
        options
            .masked
            .iter()
            .any(|m| path.starts_with(m.strip_prefix("/").unwrap_or(m)))
    };
    changes.retain(|c| !masked(c));
    let layer = NewLayer::of_tree(
        root.as_fd(),
        &changes,
        &origin.ownership(),
        options.compression,
    )?;
    let (manifest, config) =
        with_layer(&origin.manifest, &origin.config, &layer, &options.history)?;
    for blob in &origin.manifest.layers {
        if !destination.has_blob(blob)? {
            destination.put_blob(Some(blob), &mut source.blob(blob)?)?;
        }
    }
    destination.put_blob(Some(&layer.blob), &mut layer.open()?)?;
    let config_blob = Descriptor::of(&config, media_type::OCI_CONFIG);
    destination.put_blob(Some(&config_blob), &mut config.as_slice() as &mut dyn Read)?;
    destination.put_manifest(&manifest, PutAs::Top)?;
    destination.finish()?;
    refresh(bundle, &origin, &manifest, &config, &now)?;
    Ok(manifest.digest)
}

/// The bundle is now one of the new image: the next layer holds what comes after.
fn refresh(
    bundle: &Path,
    origin: &Origin,
    manifest: &RawManifest,
    config: &[u8],
    now: &super::tree::Listing,
) -> Result<()> {
    let crate::document::Document::Manifest(parsed) = manifest.parse()? else {
        return Err(Error::store("repack", "an index where a manifest was"));
    };
    let origin = Origin {
        manifest_digest: manifest.digest.clone(),
        manifest: *parsed,
        config: ImageConfig::parse(config)?,
        ..origin.clone()
    };
    write_listing(bundle, now)?;
    super::unpack::write_json(&bundle.join(super::unpack::ORIGIN), &origin)
}
