//! An image of a root file system in a tar file.

use std::io::{Read, Seek, SeekFrom};

use super::Format;
use super::blob::inflate;
use super::convert::{Compression, layer_type};
use crate::document::{Descriptor, History, ImageConfig, Manifest, RootFs, RunConfig, media_type};
use crate::transport::{Destination, PutAs, RawManifest, files};
use crate::{Algorithm, Error, Hasher, Platform, Result};

/// What the image shall be besides its one layer.
#[derive(Clone, Debug)]
pub struct FromTar {
    /// How it runs.
    pub run: RunConfig,
    /// What it is for.
    pub platform: Platform,
    /// When it was made, RFC 3339.
    pub created: String,
    /// Remark in its history.
    pub comment: String,
}

impl FromTar {
    /// Writes the image. The tar file stays compressed as it is: gzip, zstd or not at all.
    ///
    /// # Errors
    /// Not readable, compressed otherwise, not written.
    pub fn write<F: Read + Seek>(&self, tar: &mut F, to: &dyn Destination) -> Result<RawManifest> {
        let failed = |source| Error::Io {
            what: "read the tar file".to_owned(),
            source,
        };
        let mut magic = [0; 6];
        let n = read_some(tar, &mut magic).map_err(failed)?;
        let compression = compression(magic.get(..n).unwrap_or_default())?;
        tar.seek(SeekFrom::Start(0)).map_err(failed)?;
        let mut hasher = Hasher::new(Algorithm::Sha256);
        {
            let mut inflated = inflate(tar, compression).map_err(failed)?;
            let mut buffer = vec![0; files::BUFFER];
            loop {
                let n = inflated.read(&mut buffer).map_err(failed)?;
                if n == 0 {
                    break;
                }
                hasher.update(buffer.get(..n).unwrap_or_default());
            }
        }
        tar.seek(SeekFrom::Start(0)).map_err(failed)?;
        let (digest, size) = to.put_blob(None, tar)?;
        let layer = Descriptor {
            digest,
            size,
            ..Descriptor::of(b"", layer_type("", Format::Oci, compression)?)
        };
        let config = ImageConfig {
            created: Some(self.created.clone()),
            architecture: self.platform.architecture.clone(),
            os: self.platform.os.clone(),
            variant: self.platform.variant.clone(),
            config: Some(self.run.clone()),
            rootfs: RootFs {
                kind: "layers".to_owned(),
                diff_ids: vec![hasher.finish()],
            },
            history: vec![History {
                created: Some(self.created.clone()),
                comment: self.comment.clone(),
                ..History::default()
            }],
            ..ImageConfig::default()
        };
        self.put(&config, layer, to)
    }

    fn put(
        &self,
        config: &ImageConfig,
        layer: Descriptor,
        to: &dyn Destination,
    ) -> Result<RawManifest> {
        let bad = |e: serde_json::Error| Error::Document {
            what: "image",
            why: e.to_string(),
        };
        let bytes = serde_json::to_vec(config).map_err(bad)?;
        let config = Descriptor::of(&bytes, media_type::OCI_CONFIG);
        to.put_blob(Some(&config), &mut bytes.as_slice())?;
        let manifest = Manifest {
            schema_version: 2,
            media_type: media_type::OCI_MANIFEST.to_owned(),
            artifact_type: None,
            config,
            layers: vec![layer],
            subject: None,
            annotations: std::collections::BTreeMap::new(),
        };
        let bytes = serde_json::to_vec(&manifest).map_err(bad)?;
        let raw = RawManifest::new(bytes, media_type::OCI_MANIFEST);
        to.put_manifest(&raw, PutAs::Top)?;
        to.finish()?;
        Ok(raw)
    }
}

fn read_some(from: &mut dyn Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut have = 0;
    while let Some(rest) = buffer.get_mut(have..).filter(|r| !r.is_empty()) {
        match from.read(rest)? {
            0 => break,
            n => have += n,
        }
    }
    Ok(have)
}

fn compression(magic: &[u8]) -> Result<Compression> {
    let other = match magic {
        [0x1f, 0x8b, ..] => return Ok(Compression::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => return Ok(Compression::Zstd),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => "xz",
        [b'B', b'Z', b'h', ..] => "bzip2",
        _ => return Ok(Compression::None),
    };
    Err(Error::Refused {
        what: "the tar file".to_owned(),
        why: format!("{other}: images have gzip, zstd or no compression; inflate it first"),
    })
}
