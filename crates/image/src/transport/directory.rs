//! `dir:` — one image as plain files, for looking at and for copying by hand.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::files::{self, at};
use super::{Destination, PutAs, RawManifest, Source};
use crate::document::{Descriptor, MAX_MANIFEST};
use crate::{Digest, Error, Result};

const VERSION: &str = "Directory Transport Version: 1.1\n";
/// Most signatures that are read.
const SIGNATURES: usize = 128;

/// Reads the image in a directory.
#[derive(Debug)]
pub struct DirectorySource(PathBuf);

impl DirectorySource {
    /// Opens `dir`.
    ///
    /// # Errors
    /// There is no image in it.
    pub fn open(dir: &Path) -> Result<Self> {
        if dir.join("manifest.json").is_file() {
            return Ok(Self(dir.to_owned()));
        }
        Err(Error::Missing {
            what: format!("dir:{}", dir.display()),
            why: "no manifest.json here".to_owned(),
        })
    }
}

impl Source for DirectorySource {
    fn place(&self) -> String {
        format!("dir:{}", self.0.display())
    }

    fn manifest(&self, by: Option<&Digest>) -> Result<RawManifest> {
        let name = by.map_or_else(|| "manifest.json".to_owned(), manifest_name);
        let bytes = files::read_limited(&self.0.join(name), MAX_MANIFEST)?;
        match by {
            Some(digest) => RawManifest::checked(bytes, "", digest),
            None => Ok(RawManifest::new(bytes, "")),
        }
    }

    fn blob(&self, blob: &Descriptor) -> Result<Box<dyn Read + Send>> {
        let path = self.0.join(blob.digest.hex());
        Ok(Box::new(File::open(&path).map_err(at("open", &path))?))
    }

    fn signatures(&self, _of: &Digest) -> Result<Vec<Vec<u8>>> {
        let mut found = Vec::new();
        for n in 1..=SIGNATURES {
            let path = self.0.join(format!("signature-{n}"));
            if !path.exists() {
                break;
            }
            found.push(files::read_limited(&path, MAX_MANIFEST)?);
        }
        Ok(found)
    }
}

/// Writes one image into a directory.
#[derive(Debug)]
pub struct DirectoryDestination(PathBuf);

impl DirectoryDestination {
    /// Makes `dir`, or takes it over if it holds an image already.
    ///
    /// # Errors
    /// It holds something else, or cannot be made.
    pub fn open(dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir).map_err(at("create", dir))?;
        let mut entries = std::fs::read_dir(dir).map_err(at("read", dir))?;
        if entries.next().is_some() && !dir.join("version").is_file() {
            return Err(Error::Refused {
                what: format!("dir:{}", dir.display()),
                why: "the directory has other things in it; name an empty one".to_owned(),
            });
        }
        // What an earlier image left: it would be taken for a part of the new one.
        let entries = std::fs::read_dir(dir).map_err(at("read", dir))?;
        for entry in entries.flatten() {
            let path = entry.path();
            if path.is_file() {
                std::fs::remove_file(&path).map_err(at("remove", &path))?;
            }
        }
        files::replace(&dir.join("version"), VERSION.as_bytes())?;
        Ok(Self(dir.to_owned()))
    }
}

impl Destination for DirectoryDestination {
    fn place(&self) -> String {
        format!("dir:{}", self.0.display())
    }

    fn has_blob(&self, blob: &Descriptor) -> Result<bool> {
        let path = self.0.join(blob.digest.hex());
        Ok(std::fs::metadata(path).is_ok_and(|m| m.len() == blob.size))
    }

    fn put_blob(
        &self,
        expected: Option<&Descriptor>,
        data: &mut dyn Read,
    ) -> Result<(Digest, u64)> {
        let (pending, digest, size) = files::receive(&self.0, expected, data)?;
        pending.rename(&self.0.join(digest.hex()))?;
        Ok((digest, size))
    }

    fn put_manifest(&self, manifest: &RawManifest, name: PutAs<'_>) -> Result<()> {
        let file = match name {
            PutAs::Top => "manifest.json".to_owned(),
            PutAs::Digest => manifest_name(&manifest.digest),
            PutAs::Tag(_) => {
                return Err(Error::Refused {
                    what: self.place(),
                    why: "a directory holds one image, without names".to_owned(),
                });
            }
        };
        files::replace(&self.0.join(file), &manifest.bytes)
    }
}

fn manifest_name(digest: &Digest) -> String {
    format!("{}.manifest.json", digest.hex())
}
