//! What a client or a runtime may leave behind, seen from outside the arena.

use std::fs;
use std::path::{Path, PathBuf};

/// Mount points of a process, in order.
pub(crate) fn mount_points(pid: u32) -> Vec<String> {
    let table = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    let points = table.lines().filter_map(|l| l.split(' ').nth(4));
    points.map(str::to_owned).collect()
}

/// The processes of `init`'s pid namespace and of those below it, but for `init` itself, the
/// sleeper that it waits for, and the dead that it is about to reap.
pub(crate) fn processes(init: u32) -> Vec<(u32, String)> {
    let Ok(namespace) = fs::read_link(format!("/proc/{init}/ns/pid")) else {
        return Vec::new();
    };
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    let mut found = Vec::new();
    for pid in pids.filter(|&pid| pid != init) {
        let inside = fs::read_link(format!("/proc/{pid}/ns/pid")).is_ok_and(|n| n == namespace);
        let nested = || descends_from(pid, init);
        if !(inside || nested()) {
            continue;
        }
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let command = command.trim_end().to_owned();
        // A process without a command line is a zombie.
        if !command.is_empty() && command != "sleep infinity" {
            found.push((pid, command));
        }
    }
    found
}

/// Whether `ancestor` is among the parents of `pid`.
fn descends_from(mut pid: u32, ancestor: u32) -> bool {
    while pid > 1 {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let parent = status.lines().find_map(|l| l.strip_prefix("PPid:\t"));
        match parent.and_then(|p| p.trim().parse().ok()) {
            Some(parent) if parent == ancestor => return true,
            Some(parent) => pid = parent,
            None => return false,
        }
    }
    false
}

/// State files of OCI runtimes (`state.json` of runc and hull, `status` of crun) below a
/// directory: a container that no one deleted.
pub(crate) fn runtime_states(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![(dir.to_owned(), 0)];
    while let Some((dir, depth)) = left.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let is_dir = entry.file_type().is_ok_and(|t| t.is_dir());
            // What hull remembers of containers that have gone.
            if entry.file_name() == "@ended" {
                continue;
            }
            if is_dir && depth < 6 {
                left.push((entry.path(), depth + 1));
            } else if entry.file_name() == "state.json" || entry.file_name() == "status" {
                found.push(entry.path());
            }
        }
    }
    found
}
