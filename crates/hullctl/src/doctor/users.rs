//! Whether a process still uses a thing that no record speaks for: it may belong to a container
//! whose state root we were not told of.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

fn processes() -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.map(|e| e.path()).filter(|path| {
        let name = path.file_name().and_then(|n| n.to_str());
        name.is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()))
    })
}

/// The inodes of all network namespaces that processes are in.
pub fn network_namespaces() -> BTreeSet<u64> {
    let found = processes().filter_map(|p| fs::metadata(p.join("ns/net")).ok());
    found.map(|metadata| metadata.ino()).collect()
}

/// The mounts of all mount namespaces but ours, as text.
pub fn foreign_mounts() -> Vec<String> {
    let inode = |path: PathBuf| fs::metadata(path).ok().map(|m| m.ino());
    let mut seen = BTreeSet::from([inode("/proc/self/ns/mnt".into())]);
    let others = processes().filter(|p| seen.insert(inode(p.join("ns/mnt"))));
    let others: Vec<PathBuf> = others.collect();
    let read = others
        .iter()
        .map(|p| fs::read_to_string(p.join("mountinfo")));
    read.filter_map(Result::ok).collect()
}
