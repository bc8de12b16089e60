//! The embedded default bundle: this machine's own root file system, under a throw-away layer.
//!
//! Nothing is downloaded and nothing of the machine can be changed: the container sees `/` as the
//! lower layer of an overlay whose upper layer is a tmpfs that ends with the container. All of it
//! is mounted in a mount namespace of our own, so it ends with us however we end.

use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::CWD;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
};
use spec::plan::{IdMaps, MountAttrs, NamespaceKind};
use sys::mount::SetAttr;

use super::{pieces, rootless};

/// The mounted root; unmounted and removed when dropped.
#[derive(Debug)]
pub struct HostRoot {
    dir: PathBuf,
}

impl HostRoot {
    /// Mounts the overlay in a new mount namespace of this process.
    pub fn mount(userns: Option<&IdMaps>) -> Result<Self> {
        sys::trace::step(
            "unshare(CLONE_NEWNS) + mount(MS_SLAVE)",
            || "a private view of the mounts",
            private_mounts,
        )?;
        // One directory below it for each container that runs.
        let base = &rootless::run_dir();
        fs::DirBuilder::new()
            .mode(0o700)
            .recursive(true)
            .create(base)
            .with_context(|| format!("mkdir({})", base.display()))?;
        remove_leftovers();
        let dir = base.join(std::process::id().to_string());
        fs::create_dir(&dir).with_context(|| format!("mkdir({})", dir.display()))?;
        let root = Self { dir };
        root.layers(userns)?;
        Ok(root)
    }

    /// The directory of the layers.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The overlay.
    pub fn path(&self) -> PathBuf {
        self.dir.join("root")
    }

    fn layers(&self, userns: Option<&IdMaps>) -> Result<()> {
        let dir = &self.dir;
        mount_fs("tmpfs", "tmpfs", dir, "mode=755", "the throw-away layer")?;
        for name in ["lower", "upper", "work", "root"] {
            let path = dir.join(name);
            fs::create_dir(&path).with_context(|| format!("mkdir({})", path.display()))?;
        }
        // An id-mapped view of `/` as the lower layer makes the machine's root the container's
        // root without a chown of anything.
        let lower = match userns {
            None => PathBuf::from("/"),
            Some(maps) => {
                let lower = dir.join("lower");
                idmapped_root(maps, &lower)?;
                lower
            }
        };
        if runtime::is_rootless() {
            return pieces::mount(dir, &self.path());
        }
        let data = format!(
            "lowerdir={},upperdir={},workdir={}",
            lower.display(),
            dir.join("upper").display(),
            dir.join("work").display(),
        );
        mount_fs(
            "overlay",
            "overlay",
            &self.path(),
            &data,
            "`/` below the throw-away layer",
        )
    }
}

impl Drop for HostRoot {
    fn drop(&mut self) {
        // The namespace ends with this process anyhow; only the empty directory would stay.
        let _ = unmount(&self.dir, UnmountFlags::DETACH);
        let _ = fs::remove_dir(&self.dir);
    }
}

/// A mount namespace of this process's own.
pub fn private_mounts() -> Result<()> {
    sys::namespace::unshare(NamespaceKind::Mount.clone_flag())?;
    mount_change(
        "/",
        MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC,
    )
    .context("mount(/, MS_SLAVE | MS_REC)")
}

pub(super) fn mount_fs(
    kind: &str,
    source: &str,
    target: &Path,
    data: &str,
    why: &str,
) -> Result<()> {
    let c_data = CString::new(data).with_context(|| format!("mount data {data:?}"))?;
    sys::trace::step(
        "mount",
        || format!("{kind} on {}: {why}", target.display()),
        || {
            mount(
                source,
                target,
                kind,
                MountFlags::NODEV,
                Some(c_data.as_c_str()),
            )
        },
    )
    .with_context(|| format!("mount({kind}, {}, {data:?})", target.display()))
}

/// Attaches a clone of the root mount at `target` whose files belong to the mapped ids.
fn idmapped_root(maps: &IdMaps, target: &Path) -> Result<()> {
    let userns = rootfs::user_namespace(maps)?;
    let why = || format!("id-mapped view of / on {}", target.display());
    sys::trace::step("open_tree + mount_setattr + move_mount", why, || {
        let clone = sys::mount::clone_tree(CWD, c"/", false, false).context("open_tree(/)")?;
        let idmap = SetAttr {
            set: MountAttrs::IDMAP,
            userns: Some(userns.as_fd()),
            ..SetAttr::default()
        };
        sys::mount::mount_setattr(clone.as_fd(), false, &idmap).context(
            "mount_setattr(/, MOUNT_ATTR_IDMAP): the root's file system cannot do --userns",
        )?;
        let point = File::open(target).with_context(|| format!("open({})", target.display()))?;
        sys::mount::attach(clone.as_fd(), point.as_fd(), c"")
            .with_context(|| format!("move_mount(/, {})", target.display()))
    })
}

/// Removes the directories of those who were killed.
fn remove_leftovers() {
    for dir in leftovers() {
        // Not empty or not ours: then it is not a leftover of the kind that we clear away.
        let _ = fs::remove_dir(dir);
    }
}

/// The directories of those who were killed: their pid is gone, or is somebody else's, who would
/// be using another directory.
pub fn leftovers() -> Vec<PathBuf> {
    let entries = fs::read_dir(rootless::run_dir())
        .into_iter()
        .flatten()
        .flatten();
    let gone = entries.filter(|e| !Path::new("/proc").join(e.file_name()).exists());
    gone.map(|e| e.path()).collect()
}
