//! Root file systems from the store of images. All calls may block.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;

use image::Digest;
use image::document::RunConfig;
use image::store::{MountOptions, Store};

use crate::error::{Doing, Error, Kind, Result};

/// An image that is here.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) id: Digest,
    /// By digest, where it came by one; else its id.
    pub(crate) reference: String,
    pub(crate) config: RunConfig,
}

fn translate(error: &image::Error) -> Error {
    let kind = match error {
        image::Error::Missing { .. } => Kind::NotFound,
        image::Error::Busy { .. } => Kind::State,
        image::Error::Digest { .. } | image::Error::Reference { .. } => Kind::Invalid,
        _ => Kind::Failed,
    };
    Error::new(kind, error.to_string())
}

/// Finds an image by reference, digest or id.
pub(crate) fn find(store: &Store, name: &str) -> Result<Image> {
    let record = store.find(name).map_err(|e| translate(&e))?;
    let details = store.inspect(&record.id).map_err(|e| translate(&e))?;
    let reference = record
        .digests
        .first()
        .cloned()
        .unwrap_or_else(|| record.id.to_string());
    Ok(Image {
        id: record.id,
        reference,
        config: details.config.config.unwrap_or_default(),
    })
}

/// A writable root file system for a container; its files have the ids of the user namespace of
/// process `pid`, where one is given.
pub(crate) fn mount(store: &Store, image: &Digest, id: &str, pid: Option<i32>) -> Result<PathBuf> {
    let userns = pid.map(userns).transpose()?;
    let options = MountOptions {
        volatile: true,
        mount_points: true,
        user_namespace: userns.as_ref().map(AsFd::as_fd),
        ..MountOptions::default()
    };
    let root = store.mount(image, id, &options);
    Ok(root.map_err(|e| translate(&e))?.path)
}

fn userns(pid: i32) -> Result<File> {
    let path = format!("/proc/{pid}/ns/user");
    File::open(&path).doing(|| format!("open({path})"))
}

/// An image to look at only, under a key.
pub(crate) fn mount_read_only(
    store: &Store,
    name: &str,
    key: &str,
    pid: Option<i32>,
) -> Result<PathBuf> {
    let userns = pid.map(userns).transpose()?;
    let image = store.find(name).map_err(|e| translate(&e))?;
    let options = MountOptions {
        read_only: true,
        user_namespace: userns.as_ref().map(AsFd::as_fd),
        ..MountOptions::default()
    };
    Ok(store
        .mount(&image.id, key, &options)
        .map_err(|e| translate(&e))?
        .path)
}

/// Undoes either, with all that was written.
pub(crate) fn unmount(store: &Store, key: &str) -> Result<()> {
    store
        .remove_rootfs(key)
        .doing(|| format!("root file system {key}"))
}
