//! Two trees, attribute by attribute.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use image::bundle::{Listing, Seen, list};

pub fn listing(root: &Path) -> Listing {
    list(File::open(root).unwrap().as_fd()).unwrap()
}

fn shown(path: &[u8]) -> String {
    format!("/{}", path.escape_ascii())
}

/// The first path that has the same inode.
fn link_groups(all: &Listing) -> HashMap<&[u8], &[u8]> {
    let mut first: HashMap<(u64, u64), &[u8]> = HashMap::new();
    let mut groups = HashMap::new();
    for (path, seen) in all {
        if seen.mode & 0o170_000 != 0o040_000 {
            groups.insert(path.as_slice(), *first.entry(seen.inode).or_insert(path));
        }
    }
    groups
}

/// What may differ.
#[derive(Clone, Copy, Default)]
pub struct Allow {
    /// Directories in the first tree that are younger than this: nothing in the image gave them
    /// a time.
    pub younger_than: i64,
}

/// All differences, one a line.
pub fn differences(a_root: &Path, b_root: &Path, allow: Allow) -> Vec<String> {
    let (a, b) = (listing(a_root), listing(b_root));
    let (a_groups, b_groups) = (link_groups(&a), link_groups(&b));
    let mut all = Vec::new();
    for path in b.keys().filter(|p| !a.contains_key(*p)) {
        all.push(format!("{}: only in the second", shown(path)));
    }
    for (path, x) in &a {
        let Some(y) = b.get(path) else {
            all.push(format!("{}: only in the first", shown(path)));
            continue;
        };
        let mut differ = |what: &str, x: String, y: String| {
            if x != y {
                all.push(format!("{}: {what} {x} {y}", shown(path)));
            }
        };
        let is_directory = x.mode & 0o170_000 == 0o040_000;
        differ("mode", format!("{:o}", x.mode), format!("{:o}", y.mode));
        differ("owner", format!("{:?}", x.owner), format!("{:?}", y.owner));
        differ("size", x.size.to_string(), y.size.to_string());
        differ("device", x.device.to_string(), y.device.to_string());
        differ("target", shown(&x.target), shown(&y.target));
        differ("attributes", attributes(x), attributes(y));
        differ(
            "link",
            format!("{:?}", a_groups.get(path.as_slice()).map(|p| shown(p))),
            format!("{:?}", b_groups.get(path.as_slice()).map(|p| shown(p))),
        );
        if !(is_directory && x.mtime.0 >= allow.younger_than) {
            differ("time", format!("{:?}", x.mtime), format!("{:?}", y.mtime));
        }
        if x.mode & 0o170_000 == 0o100_000 && x.size == y.size {
            let read = |root: &Path| std::fs::read(on_disk(root, path)).unwrap();
            if read(a_root) != read(b_root) {
                all.push(format!("{}: contents", shown(path)));
            }
        }
    }
    all
}

fn attributes(seen: &Seen) -> String {
    format!("{:?}", seen.xattrs)
}

fn on_disk(root: &Path, path: &[u8]) -> PathBuf {
    root.join(std::ffi::OsStr::from_bytes(path))
}

/// Fails with the first differences.
pub fn same(what: &str, a: &Path, b: &Path, allow: Allow) {
    let all = differences(a, b, allow);
    let first: Vec<_> = all.iter().take(20).collect();
    assert!(
        all.is_empty(),
        "{what}: {} differences: {first:#?}",
        all.len()
    );
}
