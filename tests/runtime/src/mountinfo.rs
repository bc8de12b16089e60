//! `/proc/PID/mountinfo` (proc_pid_mountinfo(5)).

use std::path::{Path, PathBuf};

/// One line.
#[derive(Clone, Debug)]
pub struct Mount {
    /// Mount id.
    pub id: u64,
    /// Parent's mount id.
    pub parent: u64,
    /// `major:minor` of the file system.
    pub device: String,
    /// The directory of the file system that is the root of this mount.
    pub root: String,
    /// Where it is mounted.
    pub point: PathBuf,
    /// Per-mount options.
    pub options: Vec<String>,
    /// Propagation: `shared:N`, `master:N`, `propagate_from:N`, `unbindable`.
    pub propagation: Vec<String>,
    /// File-system type.
    pub kind: String,
    /// Source as given to mount(2).
    pub source: String,
    /// Per-superblock options.
    pub super_options: Vec<String>,
}

impl Mount {
    /// Whether the mount, not the file system, has this option.
    #[must_use]
    pub fn has(&self, option: &str) -> bool {
        self.options.iter().any(|o| o == option)
    }

    /// Whether the file system has this option.
    #[must_use]
    pub fn super_has(&self, option: &str) -> bool {
        self.super_options.iter().any(|o| o == option)
    }

    /// Whether a propagation tag begins so.
    #[must_use]
    pub fn propagates(&self, tag: &str) -> bool {
        self.propagation.iter().any(|p| p.starts_with(tag))
    }
}

/// Parses the whole file.
#[must_use]
pub fn parse(text: &str) -> Vec<Mount> {
    text.lines().filter_map(line).collect()
}

/// The mounts of this process.
#[must_use]
pub fn own() -> Vec<Mount> {
    parse(&std::fs::read_to_string("/proc/self/mountinfo").expect("read mountinfo"))
}

/// The topmost mount at exactly this path.
#[must_use]
pub fn at<'m>(mounts: &'m [Mount], point: &str) -> Option<&'m Mount> {
    mounts.iter().rev().find(|m| m.point == Path::new(point))
}

fn line(text: &str) -> Option<Mount> {
    let (left, right) = text.split_once(" - ")?;
    let mut left = left.split(' ');
    let mut right = right.split(' ');
    let words = |s: &str| s.split(',').map(str::to_owned).collect::<Vec<_>>();
    Some(Mount {
        id: left.next()?.parse().ok()?,
        parent: left.next()?.parse().ok()?,
        device: left.next()?.to_owned(),
        root: unescape(left.next()?),
        point: unescape(left.next()?).into(),
        options: words(left.next()?),
        propagation: left.map(str::to_owned).collect(),
        kind: right.next()?.to_owned(),
        source: unescape(right.next()?),
        super_options: words(right.next().unwrap_or("")),
    })
}

/// Undoes the octal escapes of blanks and backslashes.
fn unescape(text: &str) -> String {
    [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ]
    .iter()
    .fold(text.to_owned(), |t, (from, to)| t.replace(from, to))
}
