//! OCI layouts made to order.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use image::Digest;
use image::document::{Descriptor, ImageConfig, Manifest, RunConfig, media_type};
use image::transport::{LayoutSource, Name};

/// How layers are compressed.
#[derive(Clone, Copy, Debug)]
pub enum Pack {
    Plain,
    Gzip,
    Zstd,
}

/// A layout in a directory of its own.
pub struct Layout {
    pub dir: tempfile::TempDir,
    entries: Vec<Descriptor>,
}

impl Layout {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("blobs/sha256")).unwrap();
        std::fs::write(
            dir.path().join("oci-layout"),
            r#"{"imageLayoutVersion":"1.0.0"}"#,
        )
        .unwrap();
        Self {
            dir,
            entries: Vec::new(),
        }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.path().join("blobs/sha256").join(digest.hex())
    }

    pub fn blob(&self, bytes: &[u8], media_type: &str) -> Descriptor {
        let descriptor = Descriptor::of(bytes, media_type);
        std::fs::write(self.blob_path(&descriptor.digest), bytes).unwrap();
        descriptor
    }

    /// Adds an image of these tar streams, lowest first.
    pub fn image(&mut self, tag: &str, layers: &[Vec<u8>], pack: Pack) -> Manifest {
        self.image_with(tag, layers, pack, RunConfig::default())
    }

    pub fn image_with(
        &mut self,
        tag: &str,
        layers: &[Vec<u8>],
        pack: Pack,
        run: RunConfig,
    ) -> Manifest {
        let mut config = ImageConfig {
            architecture: "amd64".to_owned(),
            os: "linux".to_owned(),
            config: Some(run),
            ..ImageConfig::default()
        };
        config.rootfs.kind = "layers".to_owned();
        config.rootfs.diff_ids = layers.iter().map(|l| Digest::of(l)).collect();
        let blobs: Vec<Descriptor> = layers
            .iter()
            .map(|l| {
                let (bytes, suffix) = pack_bytes(l, pack);
                self.blob(&bytes, &format!("{}{suffix}", media_type::OCI_LAYER))
            })
            .collect();
        self.raw_image(tag, &serde_json::to_vec(&config).unwrap(), blobs)
    }

    /// Adds an image of blobs that are there.
    pub fn raw_image(&mut self, tag: &str, config: &[u8], layers: Vec<Descriptor>) -> Manifest {
        let manifest = Manifest {
            schema_version: 2,
            media_type: media_type::OCI_MANIFEST.to_owned(),
            artifact_type: None,
            config: self.blob(config, media_type::OCI_CONFIG),
            layers,
            subject: None,
            annotations: BTreeMap::new(),
        };
        let bytes = serde_json::to_vec(&manifest).unwrap();
        let mut entry = self.blob(&bytes, media_type::OCI_MANIFEST);
        entry.annotations.insert(
            "org.opencontainers.image.ref.name".to_owned(),
            tag.to_owned(),
        );
        self.entries.retain(|e| e.annotations != entry.annotations);
        self.entries.push(entry);
        let index = serde_json::json!({"schemaVersion": 2, "manifests": self.entries});
        std::fs::write(self.path().join("index.json"), index.to_string()).unwrap();
        manifest
    }

    pub fn source(&self, tag: &str) -> LayoutSource {
        LayoutSource::open(self.path(), &Name::Tag(tag.to_owned())).unwrap()
    }
}

pub fn pack_bytes(bytes: &[u8], pack: Pack) -> (Vec<u8>, &'static str) {
    match pack {
        Pack::Plain => (bytes.to_vec(), ""),
        Pack::Gzip => {
            let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            to.write_all(bytes).unwrap();
            (to.finish().unwrap(), "+gzip")
        }
        Pack::Zstd => (zstd::encode_all(bytes, 1).unwrap(), "+zstd"),
    }
}
