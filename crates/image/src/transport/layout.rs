//! `oci:` — an OCI layout in a directory (image-spec, image-layout.md).

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::Deserialize;

use super::files::{self, at};
use super::{Destination, Name, PutAs, RawManifest, Source};
use crate::document::{Descriptor, Index, MAX_MANIFEST, media_type};
use crate::{Digest, Error, Result};

/// Annotation of an index entry: its name within the layout.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
const VERSION: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Marker {
    image_layout_version: String,
}

/// Reads one image of a layout.
#[derive(Debug)]
pub struct LayoutSource {
    dir: PathBuf,
    name: Name,
    entry: Descriptor,
}

impl LayoutSource {
    /// Finds the image in `dir`.
    ///
    /// # Errors
    /// Not a layout, or no such image in it.
    pub fn open(dir: &Path, name: &Name) -> Result<Self> {
        check_marker(dir)?;
        let index = read_index(dir)?;
        let entry = pick(dir, &index, name)?;
        Ok(Self {
            dir: dir.to_owned(),
            name: name.clone(),
            entry,
        })
    }

    /// The names in the layout at `dir`.
    ///
    /// # Errors
    /// Not a layout.
    pub fn names(dir: &Path) -> Result<Vec<String>> {
        check_marker(dir)?;
        Ok(names_in(&read_index(dir)?))
    }
}

/// The names in a layout's index.
pub(super) fn names_in(index: &Index) -> Vec<String> {
    let name = |d: &Descriptor| d.annotations.get(REF_NAME).cloned();
    index.manifests.iter().filter_map(name).collect()
}

impl Source for LayoutSource {
    fn place(&self) -> String {
        format!("oci:{}{}", self.dir.display(), self.name)
    }

    fn manifest(&self, by: Option<&Digest>) -> Result<RawManifest> {
        let digest = by.unwrap_or(&self.entry.digest);
        let bytes = files::read_limited(&blob_path(&self.dir, digest), MAX_MANIFEST)?;
        let declared = match by {
            None => self.entry.media_type.as_str(),
            Some(_) => "",
        };
        RawManifest::checked(bytes, declared, digest)
    }

    fn blob(&self, blob: &Descriptor) -> Result<Box<dyn Read + Send>> {
        let path = blob_path(&self.dir, &blob.digest);
        Ok(Box::new(File::open(&path).map_err(at("open", &path))?))
    }

    fn referrers(&self, to: &Digest) -> Result<Vec<Descriptor>> {
        // A layout has no list of them; only what its index names can be found.
        let mut found = Vec::new();
        for entry in read_index(&self.dir)?.manifests {
            let path = blob_path(&self.dir, &entry.digest);
            let Ok(bytes) = files::read_limited(&path, MAX_MANIFEST) else {
                continue;
            };
            let subject = super::subject_of(&bytes);
            if subject.is_some_and(|s| s.digest == *to) {
                found.push(entry);
            }
        }
        Ok(found)
    }

    fn sibling(&self, tag: &str) -> Result<Option<RawManifest>> {
        let index = read_index(&self.dir)?;
        let named = |d: &&Descriptor| d.annotations.get(REF_NAME).is_some_and(|n| n == tag);
        match index.manifests.iter().find(named) {
            Some(entry) => self.manifest(Some(&entry.digest)).map(Some),
            None => Ok(None),
        }
    }
}

/// Writes one image into a layout, which is made if need be.
#[derive(Debug)]
pub struct LayoutDestination {
    dir: PathBuf,
    name: Name,
}

impl LayoutDestination {
    /// Makes the layout's directories.
    ///
    /// # Errors
    /// They cannot be made, or `dir` is something else.
    pub fn open(dir: &Path, name: &Name) -> Result<Self> {
        if matches!(name, Name::Digest(_)) {
            return Err(Error::Reference {
                text: format!("oci:{}{name}", dir.display()),
                why: "an image is put under a name, not a digest",
            });
        }
        let blobs = dir.join("blobs/sha256");
        std::fs::create_dir_all(&blobs).map_err(at("create", &blobs))?;
        if dir.join("oci-layout").exists() {
            check_marker(dir)?;
        } else {
            files::replace(&dir.join("oci-layout"), VERSION.as_bytes())?;
        }
        Ok(Self {
            dir: dir.to_owned(),
            name: name.clone(),
        })
    }

    fn add_entry(&self, manifest: &RawManifest, name: Option<&str>) -> Result<()> {
        let lock = File::open(&self.dir).map_err(at("open", &self.dir))?;
        flock(&lock, FlockOperation::LockExclusive).map_err(|e| at("lock", &self.dir)(e.into()))?;
        let path = self.dir.join("index.json");
        let mut index = if path.exists() {
            read_index(&self.dir)?
        } else {
            Index {
                schema_version: 2,
                media_type: String::new(),
                artifact_type: None,
                manifests: Vec::new(),
                subject: None,
                annotations: std::collections::BTreeMap::new(),
            }
        };
        let mut entry = Descriptor::of(&manifest.bytes, manifest.own_media_type()?);
        entry.digest = manifest.digest.clone();
        match name {
            Some(name) => {
                index
                    .manifests
                    .retain(|d| d.annotations.get(REF_NAME).is_none_or(|n| n != name));
                let pair = (REF_NAME.to_owned(), name.to_owned());
                entry.annotations.extend([pair]);
            }
            // It has a name already, or is there without one.
            None if index.manifests.iter().any(|d| d.digest == manifest.digest) => return Ok(()),
            None => {}
        }
        index.manifests.push(entry);
        let bytes = serde_json::to_vec(&index).map_err(|e| Error::Document {
            what: "index.json",
            why: e.to_string(),
        })?;
        files::replace(&path, &bytes)
    }
}

impl Destination for LayoutDestination {
    fn place(&self) -> String {
        format!("oci:{}{}", self.dir.display(), self.name)
    }

    fn has_blob(&self, blob: &Descriptor) -> Result<bool> {
        let path = blob_path(&self.dir, &blob.digest);
        Ok(std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.len() == blob.size))
    }

    fn put_blob(
        &self,
        expected: Option<&Descriptor>,
        data: &mut dyn Read,
    ) -> Result<(Digest, u64)> {
        let (pending, digest, size) = files::receive(&self.dir.join("blobs"), expected, data)?;
        let path = blob_path(&self.dir, &digest);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(at("create", parent))?;
        }
        pending.rename(&path)?;
        Ok((digest, size))
    }

    fn put_manifest(&self, manifest: &RawManifest, name: PutAs<'_>) -> Result<()> {
        files::replace(&blob_path(&self.dir, &manifest.digest), &manifest.bytes)?;
        match (name, &self.name) {
            (PutAs::Digest, _) => Ok(()),
            (PutAs::Tag(tag), _) => self.add_entry(manifest, Some(tag)),
            (PutAs::Top, Name::Tag(tag)) => self.add_entry(manifest, Some(tag)),
            (PutAs::Top, _) => self.add_entry(manifest, None),
        }
    }

    fn wants_compressed(&self) -> bool {
        true
    }

    fn accepts(&self, media_type: &str) -> bool {
        matches!(media_type, media_type::OCI_INDEX | media_type::OCI_MANIFEST)
    }
}

fn blob_path(dir: &Path, digest: &Digest) -> PathBuf {
    dir.join("blobs")
        .join(digest.algorithm().name())
        .join(digest.hex())
}

fn check_marker(dir: &Path) -> Result<()> {
    let path = dir.join("oci-layout");
    let bytes = files::read_limited(&path, 4096)?;
    let refuse = |why: String| Error::Document {
        what: "oci-layout",
        why: format!("{}: {why}", path.display()),
    };
    let marker: Marker = serde_json::from_slice(&bytes).map_err(|e| refuse(e.to_string()))?;
    if marker.image_layout_version.starts_with("1.") {
        return Ok(());
    }
    Err(refuse(format!(
        "version {:?} is not 1",
        marker.image_layout_version
    )))
}

fn read_index(dir: &Path) -> Result<Index> {
    let path = dir.join("index.json");
    let bytes = files::read_limited(&path, MAX_MANIFEST)?;
    serde_json::from_slice(&bytes).map_err(|e| Error::Document {
        what: "index.json",
        why: format!("{}: {e}", path.display()),
    })
}

fn pick(dir: &Path, index: &Index, name: &Name) -> Result<Descriptor> {
    match (choose(index, name), name) {
        (Ok(entry), _) => Ok(entry),
        (Err(_), Name::Digest(digest)) => by_digest_alone(dir, digest),
        (Err(why), _) => Err(Error::Missing {
            what: format!("oci:{}{name}", dir.display()),
            why,
        }),
    }
}

/// The entry that `name` means, or what there is instead.
pub(super) fn choose(index: &Index, name: &Name) -> std::result::Result<Descriptor, String> {
    let matching = |d: &&Descriptor| match name {
        Name::Only => index.manifests.len() == 1,
        Name::Tag(tag) => d.annotations.get(REF_NAME).is_some_and(|n| n == tag),
        Name::Digest(digest) => d.digest == *digest,
    };
    if let Some(entry) = index.manifests.iter().find(matching) {
        return Ok(entry.clone());
    }
    let names = index
        .manifests
        .iter()
        .filter_map(|d| d.annotations.get(REF_NAME));
    let names: Vec<&str> = names.map(String::as_str).take(20).collect();
    Err(format!(
        "{} images here; names: {}",
        index.manifests.len(),
        names.join(", ")
    ))
}

/// A manifest that is in the layout but not in its index.
fn by_digest_alone(dir: &Path, digest: &Digest) -> Result<Descriptor> {
    let bytes = files::read_limited(&blob_path(dir, digest), MAX_MANIFEST)?;
    let raw = RawManifest::checked(bytes, "", digest)?;
    let mut entry = Descriptor::of(&raw.bytes, raw.own_media_type()?);
    entry.digest = digest.clone();
    Ok(entry)
}
