//! Version 1 hierarchies: a directory for the container in each of them.

pub(crate) mod devices;
pub(crate) mod freezer;
pub(crate) mod oom;
pub(crate) mod resources;
pub(crate) mod stats;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sys::file::read_text;

use crate::dir::Dir;
use crate::error::{Error, Result};

/// The container's control group in one hierarchy.
#[derive(Debug)]
pub(crate) struct Group {
    /// Controllers bound to the hierarchy; `name=…` for a named one.
    pub(crate) controllers: Vec<String>,
    /// Where the hierarchy is mounted.
    pub(crate) mountpoint: PathBuf,
    /// The directory.
    pub(crate) dir: Dir,
}

/// The lasting part of a [`Group`].
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct GroupState {
    controllers: Vec<String>,
    mountpoint: PathBuf,
    path: PathBuf,
}

impl Group {
    pub(crate) fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|c| c == controller)
    }

    pub(crate) fn state(&self) -> GroupState {
        GroupState {
            controllers: self.controllers.clone(),
            mountpoint: self.mountpoint.clone(),
            path: self.dir.path().to_owned(),
        }
    }

    /// Gives a cpuset that was just made the CPUs and memory nodes of its parent: it starts with
    /// none, and no process can enter it so (cpuset(7)).
    pub(crate) fn after_mkdir(&self, made: &Path) -> Result<()> {
        if !self.has("cpuset") {
            return Ok(());
        }
        for file in ["cpuset.cpus", "cpuset.mems"] {
            self.inherit(made, file)?;
        }
        Ok(())
    }

    /// Copies a list from the parent of `dir`; what it says. A parent without one was made just
    /// now by somebody who has not come so far: it gets its own from above, the same that the
    /// other is about to write.
    fn inherit(&self, dir: &Path, file: &str) -> Result<String> {
        let parent = dir.parent().filter(|p| p.starts_with(&self.mountpoint));
        let Some(parent) = parent else {
            let reason = format!("{:?} is empty", dir.join(file));
            return Err(Error::Unavailable { reason });
        };
        let mut list = read_text(&parent.join(file))?.trim().to_owned();
        if list.is_empty() {
            list = self.inherit(parent, file)?;
        }
        Dir::new(dir).write(file, &list)?;
        Ok(list)
    }
}

impl From<GroupState> for Group {
    fn from(state: GroupState) -> Self {
        Self {
            controllers: state.controllers,
            mountpoint: state.mountpoint,
            dir: Dir::new(state.path),
        }
    }
}

/// The directory in the hierarchy that has a controller.
pub(crate) fn find<'a>(groups: &'a [Group], controller: &str) -> Option<&'a Dir> {
    groups.iter().find(|g| g.has(controller)).map(|g| &g.dir)
}
