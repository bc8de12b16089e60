//! The version 2 tree (admin-guide/cgroup-v2.rst).

pub(crate) mod controllers;
pub(crate) mod convert;
pub(crate) mod devices;
pub(crate) mod freezer;
pub(crate) mod hugetlb;
pub(crate) mod oom;
pub(crate) mod resources;
pub(crate) mod stats;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::dir::Dir;
use crate::error::{Error, Result};

/// The container's control group in the version 2 tree.
#[derive(Debug)]
pub(crate) struct Tree {
    /// Where the tree is mounted.
    pub(crate) mountpoint: PathBuf,
    /// The directory.
    pub(crate) dir: Dir,
}

/// The lasting part of a [`Tree`].
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct TreeState {
    mountpoint: PathBuf,
    path: PathBuf,
}

impl Tree {
    pub(crate) fn state(&self) -> TreeState {
        TreeState {
            mountpoint: self.mountpoint.clone(),
            path: self.dir.path().to_owned(),
        }
    }

    /// Refuses a group that cannot hold processes of its own together with domain controllers.
    pub(crate) fn check_type(&self) -> Result<()> {
        match self.dir.read_opt("cgroup.type")?.as_deref().map(str::trim) {
            None | Some("domain" | "domain threaded") => Ok(()),
            Some(kind) => Err(Error::Threaded {
                path: self.dir.path().to_owned(),
                kind: kind.to_owned(),
            }),
        }
    }

    /// Gives the directory and the files that the kernel names for delegation to a user, so that
    /// a container with a cgroup namespace of its own can make groups below
    /// (config-linux.md, Cgroup ownership).
    pub(crate) fn delegate(&self, uid: rustix::fs::Uid) -> Result<()> {
        use rustix::fs::{AtFlags, chownat};
        use sys::{Context, Errno};
        let dir = self.dir.fd()?;
        let describe =
            |file: &str| format!("{:?}, {}, -1", self.dir.path().join(file), uid.as_raw());
        chownat(dir, "", Some(uid), None, AtFlags::EMPTY_PATH).context("chown", || describe(""))?;
        for file in delegated_files().lines() {
            match chownat(dir, file, Some(uid), None, AtFlags::SYMLINK_NOFOLLOW) {
                // The list has files of controllers that this group may not have.
                Ok(()) | Err(Errno::NOENT) => {}
                other => other.context("chown", || describe(file))?,
            }
        }
        Ok(())
    }
}

impl From<TreeState> for Tree {
    fn from(state: TreeState) -> Self {
        Self {
            mountpoint: state.mountpoint,
            dir: Dir::new(state.path),
        }
    }
}

/// /sys/kernel/cgroup/delegate (Linux 4.15), or what it said when it came.
fn delegated_files() -> String {
    std::fs::read_to_string("/sys/kernel/cgroup/delegate")
        .unwrap_or_else(|_| "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n".to_owned())
}
