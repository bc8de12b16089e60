//! This machine's root file system for a user who is root in a user namespace only.
//!
//! There the kernel takes no part of a mount from below others: `/` with something mounted in it
//! cannot be the lower layer of an overlay. So each directory of it gets an overlay of its own, and
//! those with mounts in them are shown as they are, read-only.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::CWD;
use spec::plan::MountAttrs;
use sys::mount::SetAttr;

use super::host::mount_fs;

/// What the container gets anew, or has its own of.
const OWN: [&str; 5] = ["dev", "proc", "run", "sys", "tmp"];

/// Puts the root together at `root`, with the throw-away layers in `layers`.
pub fn mount(layers: &Path, root: &Path) -> Result<()> {
    let entries = fs::read_dir("/").context("open(/)")?;
    for entry in entries {
        let entry = entry.context("getdents(/)")?;
        let (from, name) = (entry.path(), entry.file_name());
        let to = root.join(&name);
        let kind = entry
            .file_type()
            .with_context(|| format!("stat({})", from.display()))?;
        if kind.is_symlink() {
            let target = fs::read_link(&from);
            let target = target.with_context(|| format!("readlink({})", from.display()))?;
            symlink(target, &to).with_context(|| format!("symlink({})", to.display()))?;
        } else if kind.is_dir() {
            make_dir(&from, &to)?;
            if !OWN.iter().any(|own| name == *own) {
                directory(
                    &from,
                    &to,
                    &layers.join("upper").join(&name),
                    &layers.join("work").join(&name),
                )?;
            }
        }
    }
    Ok(())
}

/// A directory with the permissions of another.
fn make_dir(like: &Path, path: &Path) -> Result<()> {
    let mode = fs::metadata(like).with_context(|| format!("stat({})", like.display()))?;
    fs::create_dir(path).with_context(|| format!("mkdir({})", path.display()))?;
    let mode = fs::Permissions::from_mode(mode.permissions().mode());
    fs::set_permissions(path, mode).with_context(|| format!("chmod({})", path.display()))
}

/// Below a throw-away layer where that can be, else read-only.
fn directory(from: &Path, to: &Path, upper: &Path, work: &Path) -> Result<()> {
    // What we may not look into stays empty.
    if fs::read_dir(from).is_err_and(|e| e.kind() == ErrorKind::PermissionDenied) {
        return Ok(());
    }
    make_dir(from, upper)?;
    fs::create_dir(work).with_context(|| format!("mkdir({})", work.display()))?;
    let data = format!(
        "lowerdir={},upperdir={},workdir={},userxattr",
        from.display(),
        upper.display(),
        work.display()
    );
    match mount_fs("overlay", "overlay", to, &data, "below a throw-away layer") {
        Ok(()) => Ok(()),
        // A mount is in it; or a kernel before 5.11.
        Err(_) => read_only(from, to),
    }
}

/// The directory with all that is mounted in it.
fn read_only(from: &Path, to: &Path) -> Result<()> {
    let why = || format!("{}: read-only, it has mounts in it", from.display());
    sys::trace::step("open_tree + mount_setattr + move_mount", why, || {
        let path = CString::new(from.as_os_str().as_bytes()).context("a path with a NUL")?;
        let clone = sys::mount::clone_tree(CWD, &path, true, false)
            .with_context(|| format!("open_tree({})", from.display()))?;
        let attrs = SetAttr {
            set: MountAttrs::RDONLY,
            ..SetAttr::default()
        };
        sys::mount::mount_setattr(clone.as_fd(), true, &attrs)
            .with_context(|| format!("mount_setattr({}, MOUNT_ATTR_RDONLY)", from.display()))?;
        let point = File::open(to).with_context(|| format!("open({})", to.display()))?;
        sys::mount::attach(clone.as_fd(), point.as_fd(), c"")
            .with_context(|| format!("move_mount({})", to.display()))
    })
}
