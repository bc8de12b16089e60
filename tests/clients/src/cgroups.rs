//! The cgroup parents that a test owns: one directory of the same name in every hierarchy.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::eventually;

const ROOT: &str = "/sys/fs/cgroup";

/// Every mounted hierarchy: the root itself on a v2 machine, else its children.
fn hierarchies() -> Vec<PathBuf> {
    let root = Path::new(ROOT);
    if root.join("cgroup.procs").exists() {
        return vec![root.to_owned()];
    }
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    entries
        .map(|e| e.path())
        // `cpu,cpuacct` and the like have links with the single names beside them.
        .filter(|p| !p.is_symlink() && p.join("cgroup.procs").exists())
        .collect()
}

/// The directories of `name` that exist, one a hierarchy.
fn parents(name: &str) -> Vec<PathBuf> {
    let all = hierarchies().into_iter().map(|h| h.join(name));
    all.filter(|p| p.exists()).collect()
}

/// All cgroups strictly below the parents, children first.
pub(crate) fn below(name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for parent in parents(name) {
        collect(&parent, &mut found);
    }
    found
}

fn collect(dir: &Path, found: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    for path in entries.map(|e| e.path()).filter(|p| p.is_dir()) {
        collect(&path, found);
        found.push(path);
    }
}

/// Thaws all below the parents: a frozen process cannot even be killed in a v1 freezer.
pub(crate) fn thaw(name: &str) {
    for dir in below(name) {
        // Only one of the two exists; a cgroup that has just gone needs no thawing.
        let _ = fs::write(dir.join("freezer.state"), "THAWED");
        let _ = fs::write(dir.join("cgroup.freeze"), "0");
    }
}

/// Removes the parents and all below; what could not be removed comes back.
pub(crate) fn remove(name: &str) -> Vec<PathBuf> {
    let gone = || {
        for dir in below(name).into_iter().chain(parents(name)) {
            let _ = fs::remove_dir(dir);
        }
        parents(name).is_empty()
    };
    if eventually(Duration::from_secs(20), gone) {
        Vec::new()
    } else {
        parents(name)
    }
}
