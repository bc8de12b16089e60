//! Handing controllers down the tree, and saying why one is missing.

use std::path::{Path, PathBuf};

use crate::dir::Dir;
use crate::error::{Error, Result};

const CONTROLLERS: &str = "cgroup.controllers";
const SUBTREE: &str = "cgroup.subtree_control";

/// Makes all controllers that the tree has available in `leaf`, as far as the kernel lets us.
///
/// Failures are not reported here: a controller matters only once a limit asks for it, and
/// [`why_missing`] finds the reason then.
pub(crate) fn enable_all(mountpoint: &Path, leaf: &Path) -> Result<()> {
    let available = Dir::new(mountpoint).read(CONTROLLERS)?;
    let names: Vec<&str> = available.split_ascii_whitespace().collect();
    enable(mountpoint, leaf, &names);
    Ok(())
}

/// Makes some controllers available in `leaf`, as far as the kernel lets us.
pub(crate) fn enable(mountpoint: &Path, leaf: &Path, names: &[&str]) {
    for dir in ancestors(mountpoint, leaf) {
        let dir = Dir::new(dir);
        if hand_down(&dir, names).is_ok() {
            continue;
        }
        // The write is all or nothing: one controller that cannot go further must not keep the
        // others back.
        for &name in names {
            let _ = hand_down(&dir, &[name]);
        }
    }
}

/// Hands controllers down to the children of one group, unless that is done already.
fn hand_down(dir: &Dir, names: &[&str]) -> Result<()> {
    let present = dir.read(SUBTREE)?;
    let present: Vec<&str> = present.split_ascii_whitespace().collect();
    let words: Vec<String> = names
        .iter()
        .filter(|n| !present.contains(n))
        .map(|n| format!("+{n}"))
        .collect();
    if words.is_empty() {
        return Ok(());
    }
    // The kernel refuses most controllers where processes are, but would take those that can
    // work on threads, and make the children unfit for processes (cgroups(7), threaded mode).
    if is_inner(dir) && !dir.read("cgroup.procs")?.is_empty() {
        return Err(Error::value(
            format!("{:?}", dir.path().join(SUBTREE)),
            words.join(" "),
            "the cgroup has processes of its own",
        ));
    }
    Ok(dir.write(SUBTREE, &words.join(" "))?)
}

/// Whether this is not the top of the whole tree, to which the rules about processes do not
/// apply. Only the top has no type.
fn is_inner(dir: &Dir) -> bool {
    dir.has("cgroup.type")
}

/// Whether the tree has a controller at all.
pub(crate) fn tree_has(mountpoint: &Path, name: &str) -> bool {
    has(&Dir::new(mountpoint), CONTROLLERS, name)
}

/// Whether a group was handed a controller by its parent.
pub(crate) fn handed_down(dir: &Dir, name: &str) -> bool {
    has(dir, CONTROLLERS, name)
}

fn has(dir: &Dir, file: &str, name: &str) -> bool {
    dir.read_opt(file)
        .ok()
        .flatten()
        .is_some_and(|text| text.split_ascii_whitespace().any(|c| c == name))
}

/// Why `leaf` lacks a controller: the highest place that does not hand it down, and the kernel's
/// reason.
pub(crate) fn why_missing(mountpoint: &Path, leaf: &Path, name: &str) -> String {
    for path in ancestors(mountpoint, leaf) {
        let dir = Dir::new(&path);
        if !has(&dir, CONTROLLERS, name) {
            return format!("not in {:?}", path.join(CONTROLLERS));
        }
        if let Err(e) = hand_down(&dir, &[name]) {
            return e.to_string();
        }
    }
    format!("{leaf:?} lacks its files")
}

/// The groups from the mount point down to the parent of `leaf`.
fn ancestors(mountpoint: &Path, leaf: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = leaf
        .ancestors()
        .skip(1)
        .take_while(|dir| dir.starts_with(mountpoint))
        .map(Path::to_owned)
        .collect();
    all.reverse();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_the_top_down() {
        let got = ancestors(Path::new("/m"), Path::new("/m/a/b"));
        assert_eq!(got, [PathBuf::from("/m"), PathBuf::from("/m/a")]);
        assert!(ancestors(Path::new("/m"), Path::new("/m")).is_empty());
    }
}
