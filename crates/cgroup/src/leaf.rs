//! A group below a container's own for one command, so that it can be killed with all that it has
//! started.
//!
//! It is in one hierarchy only, the unified tree or else the version 1 freezer: limits and
//! accounts stay the container's.

use crate::create::Made;
use crate::dir::Dir;
use crate::error::Result;
use crate::exec::SubCgroups;
use crate::manager::Manager;
use crate::{v1, v2};

impl Manager {
    /// The leaf of this name, which need not exist; `None` where there is no hierarchy for it.
    #[must_use]
    pub fn leaf(&self, name: &str) -> Option<Self> {
        let unified = self.unified.as_ref().map(|tree| v2::Tree {
            mountpoint: tree.mountpoint.clone(),
            dir: Dir::new(tree.dir.path().join(name)),
        });
        let freezer = self.v1.iter().find(|group| group.has("freezer"));
        let freezer = freezer.filter(|_| unified.is_none());
        let v1: Vec<v1::Group> = freezer
            .map(|group| v1::Group {
                controllers: group.controllers.clone(),
                mountpoint: group.mountpoint.clone(),
                dir: Dir::new(group.dir.path().join(name)),
            })
            .into_iter()
            .collect();
        (unified.is_some() || !v1.is_empty()).then(|| self.part(v1, unified))
    }

    /// Makes the leaf of this name; what sends a command there, or `None` where there is no
    /// hierarchy for it.
    ///
    /// # Errors
    /// mkdir(2)'s.
    pub fn make_leaf(&self, name: &str) -> Result<Option<SubCgroups>> {
        let Some(leaf) = self.leaf(name) else {
            return Ok(None);
        };
        let mut made = Made::default();
        let unified = leaf.unified.as_ref().map(|tree| &tree.dir);
        let sub = match (unified, v1::find(&leaf.v1, "freezer")) {
            (Some(dir), _) => {
                made.mkdir_all(dir.path(), &|_| Ok(()))?;
                SubCgroups::in_unified(name)
            }
            (None, Some(dir)) => {
                made.mkdir_all(dir.path(), &|_| Ok(()))?;
                SubCgroups::in_controller("freezer", name)
            }
            (None, None) => return Ok(None),
        };
        made.keep();
        Ok(Some(sub))
    }

    /// Removes a leaf unless somebody is in it; whether it is gone.
    #[must_use]
    pub fn remove_if_empty(&self) -> bool {
        let v1 = self.v1.iter().map(|group| &group.dir);
        let mut dirs = v1.chain(self.unified.iter().map(|tree| &tree.dir));
        dirs.all(|dir| dir.rmdir().is_ok())
    }
}
