//! An image becomes a bundle: `rootfs`, `config.json`, and `hull.json` with what `repack` needs.

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat};
use serde::{Deserialize, Serialize};
use spec::oci::{IdMapping, Mount, Spec};
use sys::Context as _;

use super::tree::{Listing, list};
use super::{Users, apply_config, volumes};
use crate::document::{ImageConfig, Manifest};
use crate::layer::dir::{DirWriter, Target};
use crate::layer::{IdMap, LayerWriter as _, Limits, NoLower, Ownership};
use crate::store::{Plan, Watch, stream};
use crate::transport::Source;
use crate::{Digest, Error, Platform, Result};

/// The file that says what a bundle was made from.
pub const ORIGIN: &str = "hull.json";
/// The file with the tree as it was unpacked.
pub const TREE: &str = "hull.tree.zst";

/// How to unpack.
#[derive(Clone, Copy, Default)]
pub struct UnpackOptions<'a> {
    /// Which image of an index.
    pub platform: Option<&'a Platform>,
    /// Who owns the files.
    pub ownership: Option<&'a Ownership>,
    /// What a layer may ask for.
    pub limits: Limits,
    /// Is told the layer, counted from the lowest, and how many more bytes of it have come.
    pub progress: Option<&'a (dyn Fn(usize, u64) + Sync)>,
}

impl std::fmt::Debug for UnpackOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UnpackOptions")
            .field("ownership", &self.ownership)
            .finish_non_exhaustive()
    }
}

/// What a bundle was made from.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Origin {
    /// Digest of the manifest.
    pub manifest_digest: Digest,
    /// The manifest.
    pub manifest: Manifest,
    /// The configuration.
    pub config: ImageConfig,
    /// No owner but the user who unpacked.
    pub rootless: bool,
    /// Map of users, where there is one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uid_map: Vec<IdMapping>,
    /// Map of groups, where there is one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gid_map: Vec<IdMapping>,
}

impl Origin {
    /// Who owns what in the bundle.
    #[must_use]
    pub fn ownership(&self) -> Ownership {
        let maps = |all: &[IdMapping]| {
            let map = |m: &IdMapping| IdMap {
                container: m.container_id,
                host: m.host_id,
                count: m.size,
            };
            all.iter().map(map).collect()
        };
        if self.rootless {
            Ownership::Rootless
        } else if self.uid_map.is_empty() && self.gid_map.is_empty() {
            Ownership::AsWritten
        } else {
            Ownership::Mapped {
                uids: maps(&self.uid_map),
                gids: maps(&self.gid_map),
            }
        }
    }

    /// Reads a bundle's.
    ///
    /// # Errors
    /// The directory is no bundle of ours.
    pub fn read(bundle: &Path) -> Result<Self> {
        let path = bundle.join(ORIGIN);
        let text =
            std::fs::read(&path).map_err(|e| Error::io(format!("read {}", path.display()), e))?;
        serde_json::from_slice(&text)
            .map_err(|e| Error::store(format!("read {}", path.display()), e))
    }
}

/// Unpacks the image that `source` has into the directory `bundle`, which must not have a
/// `rootfs` or a `config.json`.
///
/// # Errors
/// Not readable, broken, hostile or too large; not written. What was written is removed.
pub fn unpack(source: &dyn Source, bundle: &Path, options: &UnpackOptions<'_>) -> Result<Origin> {
    let host = Platform::host();
    let plan = Plan::new(source, options.platform.unwrap_or(&host))?;
    let rootfs = bundle.join("rootfs");
    for path in [&rootfs, &bundle.join("config.json")] {
        if path.symlink_metadata().is_ok() {
            return Err(Error::Busy {
                what: path.display().to_string(),
                why: "it is there already: unpack elsewhere or remove it".to_owned(),
            });
        }
    }
    std::fs::create_dir_all(bundle)
        .map_err(|e| Error::io(format!("make {}", bundle.display()), e))?;
    let done = fill(source, &plan, bundle, options);
    if done.is_err() {
        let parent = openat(
            CWD,
            bundle,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        );
        if let Ok(parent) = parent {
            // The first error is the one to show.
            let _ = crate::layer::dir::remove_tree(parent.as_fd(), b"rootfs");
        }
    }
    done
}

fn fill(
    source: &dyn Source,
    plan: &Plan,
    bundle: &Path,
    options: &UnpackOptions<'_>,
) -> Result<Origin> {
    let rootfs = bundle.join("rootfs");
    rustix::fs::mkdirat(CWD, &rootfs, Mode::from_raw_mode(0o755))
        .context("mkdir", || rootfs.display().to_string())?;
    let open = || {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(CWD, &rootfs, flags, Mode::empty()).context("open", || rootfs.display().to_string())
    };
    let ownership = options.ownership.cloned().unwrap_or_default();
    let mut writer = DirWriter::new(open()?, Target::Tree, ownership.clone())?;
    let diff_ids = &plan.config.rootfs.diff_ids;
    for (index, (blob, diff_id)) in plan.blobs.iter().zip(diff_ids).enumerate() {
        let taken = |count| {
            if let Some(progress) = options.progress {
                progress(index, count);
            }
        };
        let watch = Watch {
            taken: &taken,
            cancelled: &|| false,
        };
        stream(
            source,
            blob,
            diff_id,
            options.limits,
            &watch,
            &mut writer,
            None,
        )?;
        writer.next_layer();
    }
    writer.finish(&NoLower)?;
    let crate::document::Document::Manifest(manifest) = plan.raw.parse()? else {
        return Err(Error::store("unpack", "an index where a manifest was"));
    };
    let maps = |all: &[IdMap]| -> Vec<IdMapping> {
        let map = |m: &IdMap| IdMapping {
            container_id: m.container,
            host_id: m.host,
            size: m.count,
        };
        all.iter().map(map).collect()
    };
    let (uid_map, gid_map) = match &ownership {
        Ownership::Mapped { uids, gids } => (maps(uids), maps(gids)),
        _ => (Vec::new(), Vec::new()),
    };
    let origin = Origin {
        manifest_digest: plan.raw.digest.clone(),
        manifest: *manifest,
        config: plan.config.clone(),
        rootless: ownership.is_rootless(),
        uid_map,
        gid_map,
    };
    let root = open()?;
    let spec = runtime_config(&origin, &Users::read(root.as_fd())?)?;
    write_listing(bundle, &list(root.as_fd())?)?;
    write_json(&bundle.join(ORIGIN), &origin)?;
    write_json(&bundle.join("config.json"), &spec)?;
    Ok(origin)
}

/// The configuration of a container made from the image.
fn runtime_config(origin: &Origin, users: &Users) -> Result<Spec> {
    let mut spec = spec::default_spec(origin.rootless);
    if let Some(root) = &mut spec.root {
        root.readonly = false;
    }
    apply_config(&origin.config, users, &mut spec)?;
    if let Some(process) = &mut spec.process
        && process.args.is_empty()
    {
        process.args = vec!["sh".to_owned()];
    }
    for volume in volumes(&origin.config) {
        spec.mounts.push(Mount {
            destination: volume,
            kind: "tmpfs".to_owned(),
            source: "none".to_owned(),
            options: ["rw", "nosuid", "nodev", "noexec", "relatime"]
                .map(str::to_owned)
                .to_vec(),
            ..Mount::default()
        });
    }
    let Some(linux) = &mut spec.linux else {
        return Ok(spec);
    };
    if origin.rootless {
        let (uid, gid) = (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        );
        linux.uid_mappings = vec![IdMapping {
            container_id: 0,
            host_id: uid,
            size: 1,
        }];
        linux.gid_mappings = vec![IdMapping {
            container_id: 0,
            host_id: gid,
            size: 1,
        }];
    } else if !origin.uid_map.is_empty() {
        linux.uid_mappings.clone_from(&origin.uid_map);
        linux.gid_mappings.clone_from(&origin.gid_map);
        linux.namespaces.push(spec::oci::Namespace {
            kind: "user".to_owned(),
            ..Default::default()
        });
    }
    Ok(spec)
}

pub(super) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let describe = || format!("write {}", path.display());
    let mut text = serde_json::to_vec_pretty(value).map_err(|e| Error::store(describe(), e))?;
    text.push(b'\n');
    std::fs::write(path, text).map_err(|e| Error::io(describe(), e))
}

pub(super) fn write_listing(bundle: &Path, listing: &Listing) -> Result<()> {
    let path = bundle.join(TREE);
    let describe = || format!("write {}", path.display());
    let write = || -> std::io::Result<()> {
        let file = std::fs::File::create(&path)?;
        let mut to = std::io::BufWriter::new(zstd::Encoder::new(file, 1)?);
        // Paths are bytes, which a key of JSON cannot be.
        let pairs: Vec<_> = listing.iter().collect();
        serde_json::to_writer(&mut to, &pairs)?;
        to.flush()?;
        let encoder = to
            .into_inner()
            .map_err(std::io::IntoInnerError::into_error)?;
        encoder.finish()?;
        Ok(())
    };
    write().map_err(|e| Error::io(describe(), e))
}

pub(super) fn read_listing(bundle: &Path) -> Result<Listing> {
    let path = bundle.join(TREE);
    let describe = || format!("read {}", path.display());
    let file = std::fs::File::open(&path).map_err(|e| Error::io(describe(), e))?;
    let from = zstd::Decoder::new(file).map_err(|e| Error::io(describe(), e))?;
    let pairs: Vec<(Vec<u8>, super::tree::Seen)> =
        serde_json::from_reader(std::io::BufReader::new(from))
            .map_err(|e| Error::store(describe(), e))?;
    Ok(pairs.into_iter().collect())
}
