//! The images that are pulled.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use image::bundle::{Compression, NewLayer};
use image::document::{Descriptor, ImageConfig, Manifest, media_type};
use image::layer::tar_write::TarWriter;
use image::layer::{Entry, EntryKind, EntryPath, Extent, Timestamp, tar};
use image::transport::{Destination as _, LayoutDestination, Name, PutAs, RawManifest};

/// Makes the layers of an image.
pub type Maker = fn(&Path) -> Result<Vec<NewLayer>>;

/// A layout with the image, made once.
pub fn layout(work: &Path, name: &str, make: Maker) -> Result<PathBuf> {
    let dir = work.join(format!("layout-{name}"));
    if dir.join("index.json").exists() {
        return Ok(dir);
    }
    eprintln!("making the image {name}");
    let destination = LayoutDestination::open(&dir, &Name::Tag("latest".to_owned()))?;
    let mut config = ImageConfig {
        architecture: "amd64".to_owned(),
        os: "linux".to_owned(),
        ..ImageConfig::default()
    };
    config.rootfs.kind = "layers".to_owned();
    let mut blobs = Vec::new();
    for layer in make(work)? {
        destination.put_blob(Some(&layer.blob), &mut layer.open()?)?;
        config.rootfs.diff_ids.push(layer.diff_id.clone());
        blobs.push(layer.blob);
    }
    let config = serde_json::to_vec(&config)?;
    let config_blob = Descriptor::of(&config, media_type::OCI_CONFIG);
    destination.put_blob(Some(&config_blob), &mut config.as_slice())?;
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
        "config": config_blob, "layers": blobs,
    });
    let manifest: Manifest = serde_json::from_value(manifest)?;
    let raw = RawManifest::new(serde_json::to_vec(&manifest)?, media_type::OCI_MANIFEST);
    destination.put_manifest(&raw, PutAs::Top)?;
    destination.finish()?;
    Ok(dir)
}

/// Debian's smallest system with some packages, as a tar file, made once.
fn system(work: &Path, name: &str, packages: &str) -> Result<File> {
    let tar = work.join(format!("system-{name}.tar"));
    if !tar.exists() {
        let fresh = work.join(format!("new-{name}.tar"));
        let mut command = Command::new("mmdebstrap");
        command.args(["--quiet", "--variant=minbase"]);
        if !packages.is_empty() {
            command.arg(format!("--include={packages}"));
        }
        let status = command.arg("bookworm").arg(&fresh).status();
        let status = status.context("mmdebstrap")?;
        ensure!(status.success(), "mmdebstrap: {status}");
        std::fs::rename(&fresh, &tar)?;
    }
    File::open(&tar).with_context(|| format!("open {}", tar.display()))
}

/// Debian's smallest system: the layer that all images share.
fn base(work: &Path) -> Result<NewLayer> {
    let mut file = system(work, "base", "")?;
    let layer = NewLayer::write(Compression::Gzip, |to| {
        std::io::copy(&mut file, to)
            .map(drop)
            .map_err(|source| image::Error::Io {
                what: "copy the base".to_owned(),
                source,
            })
    });
    Ok(layer?)
}

/// What a system with `packages` has beside the smallest one.
fn packages(work: &Path, name: &str, packages: &str) -> Result<NewLayer> {
    let mut below = HashSet::new();
    let mut base = tar::Reader::new(BufReader::new(system(work, "base", "")?));
    while let Some(entry) = base.next_entry()? {
        below.insert(entry.path);
    }
    let mut whole = tar::Reader::new(BufReader::new(system(work, name, packages)?));
    let layer = NewLayer::write(Compression::Gzip, |to| {
        let mut layer = TarWriter::new(to);
        while let Some(entry) = whole.next_entry()? {
            if below.contains(&entry.path) {
                continue;
            }
            match entry.kind {
                EntryKind::File { .. } => layer.entry(&entry, Some(&mut Content(&mut whole)))?,
                _ => layer.entry(&entry, None)?,
            }
        }
        layer.finish().map(drop)
    });
    Ok(layer?)
}

/// The data of a tar stream's present entry.
struct Content<'a>(&'a mut tar::Reader<BufReader<File>>);

impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read_data(buffer).map_err(std::io::Error::other)
    }
}

/// A layer of `files` files of about `size` bytes of text.
fn files(seed: usize, files: usize, size: usize) -> Result<NewLayer> {
    let entry = |path: String, kind: EntryKind, mode: u32| -> image::Result<Entry> {
        Ok(Entry {
            path: EntryPath::parse(path.as_bytes())?,
            kind,
            mode,
            mtime: Timestamp {
                secs: 1_700_000_000,
                nanos: 0,
            },
            ..Entry::default()
        })
    };
    let layer = NewLayer::write(Compression::Gzip, |to| {
        let mut tar = TarWriter::new(to);
        for i in 0..files {
            let dir = format!("opt/{seed}/{}", i / 100);
            if i % 100 == 0 {
                tar.entry(&entry(dir.clone(), EntryKind::Directory, 0o755)?, None)?;
            }
            let text: String = (0..size / 40)
                .map(|n| {
                    format!(
                        "line {n} of file {i}, layer {seed}: {}\n",
                        n * i * 7919 + seed
                    )
                })
                .collect();
            let len = text.len() as u64;
            let kind = EntryKind::File {
                size: len,
                extents: vec![Extent { offset: 0, len }],
            };
            let file = entry(format!("{dir}/{i}.txt"), kind, 0o644)?;
            tar.entry(&file, Some(&mut text.as_bytes()))?;
        }
        tar.finish().map(drop)
    });
    Ok(layer?)
}

/// Two layers: a web server on a system.
pub fn medium(work: &Path) -> Result<Vec<NewLayer>> {
    Ok(vec![base(work)?, packages(work, "nginx", "nginx")?])
}

/// Two layers: compilers, Python with numpy and git on a system.
pub fn large(work: &Path) -> Result<Vec<NewLayer>> {
    let tools = "build-essential,python3-numpy,git";
    Ok(vec![base(work)?, packages(work, "large", tools)?])
}

/// Sixty layers, of which 59 have many small files.
pub fn many60(work: &Path) -> Result<Vec<NewLayer>> {
    let mut all = vec![base(work)?];
    for seed in 1..60 {
        all.push(files(seed, 850, 4000)?);
    }
    Ok(all)
}
