//! `oci-archive:` and `docker-archive:` — images in a tar file.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::files::{self, Pending, at};
use super::layout::{self, LayoutDestination};
use super::tarfile::{TarFile, TarWriter};
use super::{Destination, Name, PutAs, RawManifest, Source};
use crate::document::{
    Descriptor, Document, ImageConfig, Index, MAX_CONFIG, MAX_MANIFEST, media_type,
};
use crate::{Digest, Error, Hasher, Reference, Result};

/// One image in `manifest.json` of `docker save`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Saved {
    pub(super) config: String,
    #[serde(default)]
    pub(super) repo_tags: Option<Vec<String>>,
    #[serde(default)]
    pub(super) layers: Option<Vec<String>>,
}

/// Reads one image of an OCI layout in a tar file.
#[derive(Debug)]
pub struct LayoutArchiveSource {
    place: String,
    tar: Arc<TarFile>,
    entry: Descriptor,
}

impl LayoutArchiveSource {
    /// Finds the image in `file`.
    ///
    /// # Errors
    /// Not such an archive, or no such image in it.
    pub fn open(file: &Path, name: &Name) -> Result<Self> {
        let tar = TarFile::open(file)?;
        let place = format!("oci-archive:{}{name}", file.display());
        let index = read_index(&tar, &place)?;
        let entry = layout::choose(&index, name).map_err(|why| Error::Missing {
            what: place.clone(),
            why,
        })?;
        Ok(Self::of(Arc::new(tar), place, entry))
    }

    /// The names in the archive.
    ///
    /// # Errors
    /// Not such an archive.
    pub fn names(file: &Path) -> Result<Vec<String>> {
        let tar = TarFile::open(file)?;
        let index = read_index(&tar, &format!("oci-archive:{}", file.display()))?;
        Ok(layout::names_in(&index))
    }

    /// The image that `entry` of the archive's index points to.
    pub(super) const fn of(tar: Arc<TarFile>, place: String, entry: Descriptor) -> Self {
        Self { place, tar, entry }
    }
}

fn read_index(tar: &TarFile, place: &str) -> Result<Index> {
    let bytes = tar.read("index.json", MAX_MANIFEST);
    let bytes = bytes.map_err(|e| match e {
        Error::Missing { .. } => Error::Missing {
            what: place.to_owned(),
            why: "no index.json in the archive".to_owned(),
        },
        other => other,
    })?;
    serde_json::from_slice(&bytes).map_err(|e| Error::Document {
        what: "index.json",
        why: format!("{place}: {e}"),
    })
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

impl Source for LayoutArchiveSource {
    fn place(&self) -> String {
        self.place.clone()
    }

    fn manifest(&self, by: Option<&Digest>) -> Result<RawManifest> {
        let digest = by.unwrap_or(&self.entry.digest);
        let bytes = self.tar.read(&blob_name(digest), MAX_MANIFEST)?;
        let declared = match by {
            None => self.entry.media_type.as_str(),
            Some(_) => "",
        };
        RawManifest::checked(bytes, declared, digest)
    }

    fn blob(&self, blob: &Descriptor) -> Result<Box<dyn Read + Send>> {
        find(&self.tar, &blob_name(&blob.digest), &self.place)
    }
}

fn find(tar: &TarFile, name: &str, place: &str) -> Result<Box<dyn Read + Send>> {
    match tar.find(name) {
        Some(part) => Ok(Box::new(part)),
        None => Err(Error::Missing {
            what: place.to_owned(),
            why: format!("no {name} in the archive"),
        }),
    }
}

/// Reads one image of what `docker save` wrote.
#[derive(Debug)]
pub struct DockerArchiveSource {
    place: String,
    tar: Arc<TarFile>,
    manifest: RawManifest,
    /// Where each blob is.
    names: Vec<(Digest, String)>,
}

impl DockerArchiveSource {
    /// Finds the image in `file`.
    ///
    /// # Errors
    /// Not such an archive, or no such image in it.
    pub fn open(file: &Path, reference: Option<&Reference>) -> Result<Self> {
        let tar = TarFile::open(file)?;
        let shown = reference.map(|r| format!(":{r}")).unwrap_or_default();
        let place = format!("docker-archive:{}{shown}", file.display());
        let saved = choose_saved(&tar, &place, reference)?;
        Self::of(Arc::new(tar), place, saved)
    }

    /// The image that `saved` of the archive describes.
    pub(super) fn of(tar: Arc<TarFile>, place: String, saved: Saved) -> Result<Self> {
        let config_bytes = tar.read(&saved.config, MAX_CONFIG)?;
        let config = ImageConfig::parse(&config_bytes)?;
        let layers = saved.layers.unwrap_or_default();
        if layers.len() != config.rootfs.diff_ids.len() {
            return Err(Error::Document {
                what: "docker archive",
                why: format!(
                    "{place}: {} layers, the configuration has {}",
                    layers.len(),
                    config.rootfs.diff_ids.len()
                ),
            });
        }
        let config_entry = Descriptor::of(&config_bytes, media_type::DOCKER_CONFIG);
        let mut names = vec![(config_entry.digest.clone(), saved.config.clone())];
        let mut entries = Vec::new();
        for (name, diff_id) in layers.iter().zip(&config.rootfs.diff_ids) {
            let entry = describe_layer(&tar, name, diff_id, &place)?;
            names.push((entry.digest.clone(), name.clone()));
            entries.push(entry);
        }
        let document = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": media_type::DOCKER_MANIFEST,
            "config": config_entry,
            "layers": entries,
        });
        let manifest = RawManifest::new(
            document.to_string().into_bytes(),
            media_type::DOCKER_MANIFEST,
        );
        Ok(Self {
            place,
            tar,
            manifest,
            names,
        })
    }

    /// The names of the images in `file`.
    ///
    /// # Errors
    /// Not such an archive.
    pub fn names(file: &Path) -> Result<Vec<Vec<String>>> {
        let tar = TarFile::open(file)?;
        let all = read_saved(&tar, &format!("docker-archive:{}", file.display()))?;
        Ok(all
            .into_iter()
            .map(|s| s.repo_tags.unwrap_or_default())
            .collect())
    }
}

/// What an archive's layer is. Its digest is the configuration's word and checked by whoever
/// reads it; a compressed one is read here, for nothing names its digest.
fn describe_layer(tar: &TarFile, name: &str, diff_id: &Digest, place: &str) -> Result<Descriptor> {
    let mut part = tar.find(name).ok_or_else(|| Error::Missing {
        what: place.to_owned(),
        why: format!("no {name} in the archive"),
    })?;
    let failed = |source| Error::Io {
        what: format!("{place}: read {name}"),
        source,
    };
    let size = part.len();
    if !part.is_compressed().map_err(failed)? {
        return Ok(Descriptor {
            digest: diff_id.clone(),
            size,
            ..Descriptor::of(b"", media_type::DOCKER_LAYER)
        });
    }
    let mut hasher = Hasher::new(crate::Algorithm::Sha256);
    let mut buffer = vec![0; files::BUFFER];
    loop {
        let n = part.read(&mut buffer).map_err(failed)?;
        if n == 0 {
            break;
        }
        hasher.update(buffer.get(..n).unwrap_or_default());
    }
    Ok(Descriptor {
        digest: hasher.finish(),
        size,
        ..Descriptor::of(b"", media_type::DOCKER_LAYER_GZIP)
    })
}

pub(super) fn read_saved(tar: &TarFile, place: &str) -> Result<Vec<Saved>> {
    let bytes = tar.read("manifest.json", MAX_MANIFEST)?;
    serde_json::from_slice(&bytes).map_err(|e| Error::Document {
        what: "manifest.json",
        why: format!("{place}: {e}"),
    })
}

fn choose_saved(tar: &TarFile, place: &str, reference: Option<&Reference>) -> Result<Saved> {
    let mut all = read_saved(tar, place)?;
    let count = all.len();
    let wanted = |saved: &Saved| match reference {
        None => count == 1,
        Some(wanted) => {
            let tags = saved.repo_tags.iter().flatten();
            tags.filter_map(|t| Reference::parse(t).ok())
                .any(|t| t == *wanted)
        }
    };
    match all.iter().position(wanted) {
        Some(at) => Ok(all.swap_remove(at)),
        None => {
            let names = all.iter().filter_map(|s| s.repo_tags.as_ref()).flatten();
            let names: Vec<&str> = names.map(String::as_str).take(20).collect();
            Err(Error::Missing {
                what: place.to_owned(),
                why: format!("{count} images here; names: {}", names.join(", ")),
            })
        }
    }
}

impl Source for DockerArchiveSource {
    fn place(&self) -> String {
        self.place.clone()
    }

    fn manifest(&self, by: Option<&Digest>) -> Result<RawManifest> {
        match by {
            Some(digest) if *digest != self.manifest.digest => Err(Error::Missing {
                what: self.place.clone(),
                why: format!("no manifest {digest}: such an archive has one image each"),
            }),
            _ => Ok(self.manifest.clone()),
        }
    }

    fn blob(&self, blob: &Descriptor) -> Result<Box<dyn Read + Send>> {
        match self.names.iter().find(|(d, _)| *d == blob.digest) {
            Some((_, name)) => find(&self.tar, name, &self.place),
            None => find(&self.tar, &blob.digest.to_string(), &self.place),
        }
    }
}

/// A directory beside the archive that is removed with everything in it.
#[derive(Debug)]
struct Staging(PathBuf);

impl Staging {
    fn beside(file: &Path) -> Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!(".hull-{}-{n}.staging", std::process::id());
        let path = file.parent().unwrap_or_else(|| Path::new("")).join(name);
        std::fs::create_dir(&path).map_err(at("create", &path))?;
        Ok(Self(path))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Best effort: an error that led here is the one to report.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Writes an OCI layout in a tar file.
#[derive(Debug)]
pub struct LayoutArchiveDestination {
    file: PathBuf,
    layout: LayoutDestination,
    staging: Staging,
}

impl LayoutArchiveDestination {
    /// Prepares to write `file`, in place of what is there.
    ///
    /// # Errors
    /// Its directory cannot be written to.
    pub fn open(file: &Path, name: &Name) -> Result<Self> {
        let staging = Staging::beside(file)?;
        let layout = LayoutDestination::open(&staging.0, name)?;
        Ok(Self {
            file: file.to_owned(),
            layout,
            staging,
        })
    }
}

impl Destination for LayoutArchiveDestination {
    fn place(&self) -> String {
        format!("oci-archive:{}", self.file.display())
    }

    fn has_blob(&self, blob: &Descriptor) -> Result<bool> {
        self.layout.has_blob(blob)
    }

    fn put_blob(
        &self,
        expected: Option<&Descriptor>,
        data: &mut dyn Read,
    ) -> Result<(Digest, u64)> {
        self.layout.put_blob(expected, data)
    }

    fn put_manifest(&self, manifest: &RawManifest, name: PutAs<'_>) -> Result<()> {
        self.layout.put_manifest(manifest, name)
    }

    fn wants_compressed(&self) -> bool {
        true
    }

    fn accepts(&self, media_type: &str) -> bool {
        self.layout.accepts(media_type)
    }

    fn finish(&self) -> Result<()> {
        let write = |tar: &mut TarWriter<&mut File>| -> io::Result<()> {
            for name in ["oci-layout", "index.json"] {
                add(tar, name, &self.staging.0.join(name))?;
            }
            tar.directory("blobs")?;
            for algorithm in sorted(&self.staging.0.join("blobs"))? {
                tar.directory(&format!("blobs/{algorithm}"))?;
                let dir = self.staging.0.join("blobs").join(&algorithm);
                for name in sorted(&dir)? {
                    add(tar, &format!("blobs/{algorithm}/{name}"), &dir.join(&name))?;
                }
            }
            Ok(())
        };
        write_tar(&self.file, write)
    }
}

fn sorted(dir: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn add(tar: &mut TarWriter<&mut File>, name: &str, path: &Path) -> io::Result<()> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    tar.file(name, size, &mut file)
}

fn write_tar(
    path: &Path,
    write: impl FnOnce(&mut TarWriter<&mut File>) -> io::Result<()>,
) -> Result<()> {
    let dir = path.parent().filter(|p| !p.as_os_str().is_empty());
    let mut pending = Pending::create(dir.unwrap_or_else(|| Path::new(".")))?;
    let mut tar = TarWriter(pending.file());
    write(&mut tar)
        .and_then(|()| tar.finish()?.flush())
        .map_err(at("write", path))?;
    pending.rename(path)
}

/// Writes what `docker load` reads.
#[derive(Debug)]
pub struct DockerArchiveDestination {
    file: PathBuf,
    name: Option<Reference>,
    staging: Staging,
    images: Mutex<Vec<Saved>>,
}

impl DockerArchiveDestination {
    /// Prepares to write `file`, in place of what is there.
    ///
    /// # Errors
    /// Its directory cannot be written to.
    pub fn open(file: &Path, name: Option<&Reference>) -> Result<Self> {
        Ok(Self {
            staging: Staging::beside(file)?,
            file: file.to_owned(),
            name: name.cloned(),
            images: Mutex::default(),
        })
    }
}

impl Destination for DockerArchiveDestination {
    fn place(&self) -> String {
        format!("docker-archive:{}", self.file.display())
    }

    fn has_blob(&self, blob: &Descriptor) -> Result<bool> {
        let path = self.staging.0.join(blob.digest.hex());
        Ok(std::fs::metadata(path).is_ok_and(|m| m.len() == blob.size))
    }

    fn put_blob(
        &self,
        expected: Option<&Descriptor>,
        data: &mut dyn Read,
    ) -> Result<(Digest, u64)> {
        let (pending, digest, size) = files::receive(&self.staging.0, expected, data)?;
        pending.rename(&self.staging.0.join(digest.hex()))?;
        Ok((digest, size))
    }

    fn put_manifest(&self, manifest: &RawManifest, name: PutAs<'_>) -> Result<()> {
        let Document::Manifest(document) = manifest.parse()? else {
            return Err(Error::Refused {
                what: self.place(),
                why: "such an archive has no index; copy one image, without --all".to_owned(),
            });
        };
        let tag = match name {
            PutAs::Top => self.name.as_ref().map(ToString::to_string),
            PutAs::Tag(tag) => Some(Reference::parse(tag)?.to_string()),
            PutAs::Digest => None,
        };
        let layer_name = |d: &Descriptor| format!("{}.tar", d.digest.hex());
        let config = format!("{}.json", document.config.digest.hex());
        let mut images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        // A further name of an image that is there.
        if let Some(there) = images.iter_mut().find(|i| i.config == config) {
            there.repo_tags.get_or_insert_default().extend(tag);
            return Ok(());
        }
        images.push(Saved {
            config,
            repo_tags: Some(tag.into_iter().collect()),
            layers: Some(document.layers.iter().map(layer_name).collect()),
        });
        Ok(())
    }

    fn accepts(&self, media_type: &str) -> bool {
        media_type == media_type::DOCKER_MANIFEST
    }

    fn wants_uncompressed(&self) -> bool {
        true
    }

    fn finish(&self) -> Result<()> {
        let images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        let manifest = serde_json::to_vec(&*images).map_err(|e| Error::Document {
            what: "manifest.json",
            why: e.to_string(),
        })?;
        let mut names: Vec<&String> = Vec::new();
        for image in images.iter() {
            names.push(&image.config);
            names.extend(image.layers.iter().flatten());
        }
        names.sort();
        names.dedup();
        write_tar(&self.file, |tar| {
            for name in names {
                let hex = name.split('.').next().unwrap_or(name);
                add(tar, name, &self.staging.0.join(hex))?;
            }
            tar.file("manifest.json", manifest.len() as u64, &mut &manifest[..])
        })
    }
}
