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
        let Some(parent) = made.parent() else {
            return Ok(());
        };
        let made = Dir::new(made);
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let from = parent.join(file);
            let inherited = read_text(&from)?;
            match inherited.trim() {
                "" => {
                    return Err(Error::Unavailable {
                        reason: format!("{from:?} is empty"),
                    });
                }
                list => made.write(file, list)?,
            }
        }
        Ok(())
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
