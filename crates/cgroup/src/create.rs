//! Making control groups all or nothing, and removing them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sys::{Errno, trace};

use crate::dir::Dir;
use crate::error::{Error, Result};

/// Directories made so far; removes them again, newest first, unless kept.
#[derive(Debug, Default)]
pub(crate) struct Made {
    paths: Vec<PathBuf>,
}

impl Made {
    /// Makes a directory and the parents it lacks. Tells whether the directory itself is new.
    ///
    /// `after` runs on each directory made, from the top down.
    pub(crate) fn mkdir_all(
        &mut self,
        path: &Path,
        after: &dyn Fn(&Path) -> Result<()>,
    ) -> Result<bool> {
        match self.mkdir(path) {
            Err(e) if e.errno == Errno::NOENT => {}
            other => {
                let made = other?;
                if made {
                    after(path)?;
                }
                return Ok(made);
            }
        }
        let parent = path
            .parent()
            .ok_or_else(|| sys::Error::new("mkdir", format!("{path:?}"), Errno::NOENT))?;
        self.mkdir_all(parent, after)?;
        let made = self.mkdir(path)?;
        if made {
            after(path)?;
        }
        Ok(made)
    }

    fn mkdir(&mut self, path: &Path) -> sys::Result<bool> {
        let mode = rustix::fs::Mode::from_raw_mode(0o755);
        let made = trace::step(
            "mkdir",
            || path.to_string_lossy(),
            || rustix::fs::mkdir(path, mode),
        );
        match made {
            Ok(()) => {
                self.paths.push(path.to_owned());
                Ok(true)
            }
            Err(Errno::EXIST) => Ok(false),
            Err(e) => Err(sys::Error::new("mkdir", format!("{path:?}"), e)),
        }
    }

    /// All is well: nothing is to be removed any more.
    pub(crate) fn keep(mut self) {
        self.paths.clear();
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for path in self.paths.drain(..).rev() {
            // The failure that led here is the one to report; somebody who has entered the
            // directory in the meantime keeps it.
            let _ = rustix::fs::rmdir(&path);
        }
    }
}

/// Delays between the attempts to remove a directory that is still in use: a process that was
/// killed leaves its control group some time after the signal. 1.3 seconds in all.
const BACKOFF_MS: [u64; 10] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 768];

/// Removes control groups with all below them. What is gone already is no error; every
/// directory is attempted, and every failure is returned.
pub(crate) fn remove_all(dirs: &[&Dir]) -> Vec<Error> {
    let mut left: Vec<(&Dir, sys::Error)> = dirs
        .iter()
        .filter_map(|dir| remove_tree(dir).err().map(|e| (*dir, e)))
        .collect();
    for pause in BACKOFF_MS {
        if !left.iter().any(|(_, e)| is_in_use(e.errno)) {
            break;
        }
        std::thread::sleep(Duration::from_millis(pause));
        left = left
            .into_iter()
            .filter_map(|(dir, _)| remove_tree(dir).err().map(|e| (dir, e)))
            .collect();
    }
    left.into_iter().map(|(_, e)| Error::Sys(e)).collect()
}

fn is_in_use(errno: Errno) -> bool {
    matches!(errno, Errno::BUSY | Errno::NOTEMPTY)
}

/// Most levels below a container's control group that are followed; each level of the
/// recursion is bounded by it.
const MAX_DEPTH: u32 = 256;

fn remove_tree(dir: &Dir) -> sys::Result<()> {
    trace::step(
        "rmdir",
        || dir.path().to_string_lossy(),
        || remove_below(dir, MAX_DEPTH),
    )
}

fn remove_below(dir: &Dir, depth: u32) -> sys::Result<()> {
    match dir.rmdir() {
        Ok(_) => return Ok(()),
        // EBUSY stands for processes as well as for children in cgroupfs.
        Err(e) if is_in_use(e.errno) && depth > 0 => {}
        Err(e) => return Err(e),
    }
    for child in dir.children()? {
        remove_below(&child, depth - 1)?;
    }
    dir.rmdir().map(drop)
}
