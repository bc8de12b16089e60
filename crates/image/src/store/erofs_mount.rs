//! Layers that are images: each is mounted once and used by all containers that need it, so that
//! they share its page cache.

use std::collections::HashSet;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::{fsconfig_create, fsconfig_set_flag, fsconfig_set_string};
use sys::Context as _;

use super::Store;
use super::build::IMAGE;
use super::mount::{is_mounted, open_path, remove_mount_point, unmount};
use super::place::{Temporary, make_dir, open_dir};
use super::record::LayerRecord;
use crate::erofs::ErofsWriter;
use crate::layer::dir::names;
use crate::layer::{LayerWriter as _, NoLower};
use crate::{Digest, Error, Result};

/// MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV of linux/mount.h: what a container
/// may do is settled by the overlay above.
const ATTRS: u64 = 1 | 2 | 4;

impl Store {
    /// The root of a layer's image, mounted.
    pub(crate) fn mounted_image(&self, record: &LayerRecord) -> Result<OwnedFd> {
        let hex = record.chain.hex();
        let point = self.layer_mount_point(hex);
        if !is_mounted(&point)? {
            make_dir(self.place.root(), &Path::new("mnt/layers").join(hex))?;
            let image = self.place.path().join("layers").join(hex).join(IMAGE);
            let tree = mount_image(&image)?;
            let target = open_dir(rustix::fs::CWD, &point)?;
            sys::mount::attach(tree.as_fd(), target.as_fd(), c"")
                .context("move_mount", || format!("{point:?}"))?;
        }
        open_path(rustix::fs::CWD, &point)
    }

    fn layer_mount_point(&self, hex: &str) -> PathBuf {
        self.place.path().join("mnt/layers").join(hex)
    }

    /// Unmounts layers that no mounted container is made of.
    pub(crate) fn drop_layer_mounts(&self) -> Result<()> {
        let mount_points = open_dir(self.place.root(), Path::new("mnt/layers"))?;
        let points = names(mount_points.as_fd())?;
        if points.is_empty() {
            return Ok(());
        }
        let mut needed = HashSet::new();
        for record in self.containers.all() {
            if is_mounted(&self.place.path().join("mnt/containers").join(&record.id))? {
                needed.extend(record.layers.iter().map(|c| c.hex().to_owned()));
            }
        }
        for name in points {
            let hex = name.to_string_lossy();
            if needed.contains(hex.as_ref()) {
                continue;
            }
            let point = self.layer_mount_point(&hex);
            if is_mounted(&point)? {
                unmount(&point)?;
            }
            remove_mount_point(&point)?;
        }
        Ok(())
    }
}

impl Store {
    /// Unmounts layers whose files are not what was mounted any more.
    pub(crate) fn forget_layer_mounts(&self, chains: &[Digest]) -> Result<()> {
        for chain in chains {
            let point = self.layer_mount_point(chain.hex());
            if is_mounted(&point)? {
                unmount(&point)?;
            }
        }
        Ok(())
    }
}

/// A detached mount of an image: from the file itself (Linux 6.12), else through a loop device.
fn mount_image(path: &Path) -> Result<OwnedFd> {
    let mounted = sys::knob::check("erofs_file").and_then(|()| mount_file(path));
    match mounted {
        Ok(tree) => Ok(tree),
        Err(Errno::NOTBLK | Errno::NOSYS | Errno::INVAL) => {
            let file = std::fs::File::open(path)
                .map_err(|e| Error::io(format!("open {}", path.display()), e))?;
            let (device, _held) = sys::loopback::attach(file.as_fd())?;
            mount_source(Path::new(&device), None)
                .context("fsconfig", || format!("erofs, source={device}, {path:?}"))
                .map_err(Into::into)
        }
        Err(e) => Err(e)
            .context("fsconfig", || format!("erofs, source={path:?}"))
            .map_err(Into::into),
    }
}

/// Through the image's own page cache everything would be copied and kept twice: measured, a
/// first sequential read takes three times as long as from the disk's file system. So the image
/// is read past it where the kernel can (`directio`, Linux 6.14).
fn mount_file(path: &Path) -> rustix::io::Result<OwnedFd> {
    match mount_source(path, Some("directio")) {
        Err(Errno::INVAL | Errno::OPNOTSUPP) => mount_source(path, None),
        other => other,
    }
}

fn mount_source(source: &Path, option: Option<&str>) -> rustix::io::Result<OwnedFd> {
    let context = sys::mount::fsopen(c"erofs")?;
    fsconfig_set_string(&context, "source", source)?;
    // A loop device that cannot be written to is not opened for writing.
    fsconfig_set_flag(&context, "ro")?;
    if let Some(option) = option {
        fsconfig_set_flag(&context, option)?;
    }
    fsconfig_create(&context)?;
    sys::mount::fsmount(context.as_fd(), ATTRS)
}

/// Whether this kernel, and this process, can mount images: tried with an empty one.
pub(crate) fn can_mount(tmp: &Temporary) -> bool {
    let try_it = || -> Result<()> {
        let file = super::build::create(tmp, IMAGE)?;
        let mut writer = ErofsWriter::new(file.into());
        writer.finish(&NoLower)?;
        let path = format!(
            "/proc/self/fd/{}/{IMAGE}",
            std::os::fd::AsRawFd::as_raw_fd(&tmp.fd)
        );
        mount_image(Path::new(&path)).map(drop)
    };
    try_it().is_ok()
}
