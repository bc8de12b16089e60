//! What a container may leave behind, found by the token that is part of every name.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::{Duration, Instant};

use rustix::mount::UnmountFlags;
use rustix::process::Signal;

use crate::{host, mountinfo, process};

/// All that is left of a case, one line each.
///
/// It gets a moment: a killed process is reaped by whoever became its parent, and systemd removes
/// the group of a scope that has ended when it comes to it.
#[must_use]
pub fn find(token: &str, dir: &Path) -> Vec<String> {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let left = look(token, dir);
        if left.is_empty() || Instant::now() > end {
            return left;
        }
        std::thread::sleep(Duration::from_millis(30));
    }
}

fn look(token: &str, dir: &Path) -> Vec<String> {
    let mut left = Vec::new();
    for pid in processes(token) {
        left.push(format!("process {pid}: {}", command_line(pid)));
    }
    for mount in mountinfo::own() {
        if mount.point.starts_with(dir) {
            left.push(format!("mount {} ({})", mount.point.display(), mount.kind));
        }
    }
    for cgroup in cgroups(token) {
        left.push(format!("cgroup {}", cgroup.display()));
    }
    for place in [dir.join("state"), dir.join("tmp")] {
        for name in names(&place) {
            if name.contains(token) || place.ends_with("tmp") {
                left.push(format!("file {}", place.join(name).display()));
            }
        }
    }
    left
}

/// Processes whose environment, command line or cgroup holds the token.
#[must_use]
pub fn processes(token: &str) -> Vec<i32> {
    let own = std::process::id().to_string();
    names(Path::new("/proc"))
        .into_iter()
        .filter(|name| name.bytes().all(|b| b.is_ascii_digit()) && *name != own)
        .filter(|pid| {
            ["cgroup", "cmdline", "environ"].iter().any(|file| {
                std::fs::read(format!("/proc/{pid}/{file}"))
                    .is_ok_and(|b| contains(&b, token.as_bytes()))
            })
        })
        .filter_map(|pid| pid.parse().ok())
        .filter(|pid| process::is_alive(*pid))
        .collect()
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).enumerate().any(|(at, w)| {
        // rs12x1 must not be found in rs12x10.
        w == word && !text.get(at + word.len()).is_some_and(u8::is_ascii_digit)
    })
}

fn command_line(pid: i32) -> String {
    let text = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&text).replace('\0', " ")
}

/// Cgroups whose name holds the token, parents first.
#[must_use]
pub fn cgroups(token: &str) -> Vec<PathBuf> {
    let mut found = BTreeSet::new();
    for top in host::cgroup_mounts() {
        // Deep enough for a scope of a user's session.
        walk(&top, 8, &mut |dir| {
            let name = dir.file_name().unwrap_or_default();
            if contains(name.as_encoded_bytes(), token.as_bytes()) {
                found.insert(dir.to_owned());
            }
        });
    }
    found.into_iter().collect()
}

fn walk(dir: &Path, depth: u32, visit: &mut impl FnMut(&Path)) {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            visit(&entry.path());
            if depth > 0 {
                walk(&entry.path(), depth - 1, visit);
            }
        }
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect()
}

/// Removes all that is left of a case, by force. Leaves the directory alone while anything is
/// mounted below it.
pub fn scavenge(token: &str, dir: &Path) {
    thaw(token);
    for _ in 0..50 {
        let left = processes(token);
        if left.is_empty() {
            break;
        }
        for pid in left {
            process::kill(pid, Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    for mount in mountinfo::own().iter().rev() {
        if mount.point.starts_with(dir) {
            // The next line but one notices.
            let _ = rustix::mount::unmount(&mount.point, UnmountFlags::DETACH);
        }
    }
    for cgroup in cgroups(token).iter().rev() {
        remove_cgroup(cgroup);
    }
    if !mountinfo::own().iter().any(|m| m.point.starts_with(dir)) {
        let _ = std::fs::remove_dir_all(dir);
    }
}

/// A frozen process does not die of SIGKILL on cgroup v1.
fn thaw(token: &str) {
    for cgroup in cgroups(token) {
        let _ = std::fs::write(cgroup.join("freezer.state"), "THAWED");
        let _ = std::fs::write(cgroup.join("cgroup.freeze"), "0");
    }
}

fn remove_cgroup(dir: &Path) {
    let mut below = Vec::new();
    walk(dir, 5, &mut |d| below.push(d.to_owned()));
    for dir in below.iter().rev().map(PathBuf::as_path).chain([dir]) {
        let _ = std::fs::remove_dir(dir);
    }
}

/// Removes, once, what earlier runs left that were killed.
pub fn sweep() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let tmp = std::env::temp_dir();
        for name in names(&tmp) {
            let Some(pid) = owner(&name) else { continue };
            if !Path::new("/proc").join(pid).exists() {
                scavenge(&name, &tmp.join(&name));
            }
        }
    });
}

/// The process id in a token `rsPIDxN`.
fn owner(name: &str) -> Option<&str> {
    let (pid, n) = name.strip_prefix("rs")?.split_once('x')?;
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    (digits(pid) && digits(n)).then_some(pid)
}
