//! Which control-group hierarchies this machine has, and where we are in them.

use std::path::{Path, PathBuf};

use rustix::fs::statfs;
use serde::{Deserialize, Serialize};
use sys::file::read_text;

use crate::error::{Error, Result};

/// Where control groups are mounted by convention (file-hierarchy(7)).
pub const MOUNT_ROOT: &str = "/sys/fs/cgroup";

/// CGROUP2_SUPER_MAGIC of linux/magic.h.
const CGROUP2_MAGIC: rustix::fs::FsWord = 0x6367_7270;

/// The three shapes of cgroups(7).
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Version 1 hierarchies only.
    V1,
    /// Version 1 hierarchies, and a version 2 tree beside them.
    Hybrid,
    /// The version 2 tree only.
    V2,
}

/// One mounted hierarchy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Hierarchy {
    /// Controllers bound to it; `name=…` for a named one; empty for version 2.
    pub controllers: Vec<String>,
    /// Where it is mounted.
    pub mountpoint: PathBuf,
    /// The control group that is visible at the mount point, `/` normally.
    pub root: String,
    /// The control group this process is in, as /proc/self/cgroup names it.
    pub own: String,
}

/// All of them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Layout {
    /// The shape.
    pub mode: Mode,
    /// Version 1 hierarchies, in the kernel's order.
    pub v1: Vec<Hierarchy>,
    /// The version 2 tree.
    pub unified: Option<Hierarchy>,
}

impl Layout {
    /// Looks at this machine.
    ///
    /// /proc/self/cgroup tells which hierarchies there are, and file-hierarchy(7) where they are
    /// mounted. Where that is so, /proc/self/mountinfo is not read: it has a line for every
    /// mount of every container of the machine.
    ///
    /// # Errors
    /// No control-group file system is mounted, or /proc cannot be read.
    pub fn detect() -> Result<Self> {
        let own = read_text(Path::new("/proc/self/cgroup"))?;
        if let Some(layout) = Self::conventional(&own, whole_tree_at) {
            return Ok(layout);
        }
        let mounts = read_text(Path::new("/proc/self/mountinfo"))?;
        let layout = Self::parse(&mounts, &own, is_cgroup2(Path::new(MOUNT_ROOT)));
        layout.ok_or_else(|| Error::Unavailable {
            reason: format!("no cgroup file system is mounted below {MOUNT_ROOT}"),
        })
    }

    /// The layout of the text of /proc/self/cgroup, if each hierarchy is mounted whole in its
    /// usual place. `tree_at` tells the version of a hierarchy whose top is a directory.
    fn conventional(own: &str, tree_at: impl Fn(&Path) -> Option<Version>) -> Option<Self> {
        let hierarchy = |controllers: &str, path: &str, mountpoint: PathBuf| Hierarchy {
            controllers: match controllers {
                "" => Vec::new(),
                some => some.split(',').map(str::to_owned).collect(),
            },
            mountpoint,
            root: "/".to_owned(),
            own: path.to_owned(),
        };
        let top = Path::new(MOUNT_ROOT);
        if tree_at(top) == Some(Version::Two) {
            let (_, path) = own
                .lines()
                .filter_map(own_line)
                .find(|(c, _)| c.is_empty())?;
            return Some(Self {
                mode: Mode::V2,
                v1: Vec::new(),
                unified: Some(hierarchy("", path, top.to_owned())),
            });
        }
        let mut v1 = Vec::new();
        let mut unified = None;
        for line in own.lines() {
            let (controllers, path) = own_line(line)?;
            let (name, version) = match controllers {
                "" => ("unified", Version::Two),
                c => (c.strip_prefix("name=").unwrap_or(c), Version::One),
            };
            let mountpoint = top.join(name);
            match (tree_at(&mountpoint), version) {
                (found, _) if found == Some(version) => {}
                // The kernel always has one. Where it is mounted somewhere else, it is somebody's
                // own (Cilium's, for example), not the machine's.
                (None, Version::Two) => continue,
                _ => return None,
            }
            let found = hierarchy(controllers, path, mountpoint);
            match version {
                Version::One => v1.push(found),
                Version::Two => unified = Some(found),
            }
        }
        if v1.is_empty() {
            return None;
        }
        let mode = match unified {
            Some(_) => Mode::Hybrid,
            None => Mode::V1,
        };
        Some(Self { mode, v1, unified })
    }

    /// The layout by texts of /proc/self/mountinfo and /proc/self/cgroup,
    /// and whether /sys/fs/cgroup is a version 2 tree. Lines it does not understand are skipped.
    #[must_use]
    pub fn parse(mountinfo: &str, own: &str, root_is_v2: bool) -> Option<Self> {
        let mounts: Vec<Mount> = mountinfo.lines().filter_map(Mount::parse).collect();
        let unified = mounts
            .iter()
            .filter(|m| m.v2)
            .min_by_key(|m| m.preference())
            .map(|m| m.hierarchy(Vec::new(), own));
        if root_is_v2 {
            // Version 1 mounts elsewhere are somebody's own; the machine's convention decides.
            return Some(Self {
                mode: Mode::V2,
                v1: Vec::new(),
                unified,
            });
        }
        let v1: Vec<Hierarchy> = own
            .lines()
            .filter_map(|line| v1_hierarchy(line, &mounts, own))
            .collect();
        let mode = match (v1.is_empty(), unified.is_some()) {
            (true, false) => return None,
            (true, true) => Mode::V2,
            (false, true) => Mode::Hybrid,
            (false, false) => Mode::V1,
        };
        Some(Self { mode, v1, unified })
    }
}

impl Hierarchy {
    /// Directory of the control group this process is in, as far as the mount shows it.
    #[must_use]
    pub fn own_dir(&self) -> PathBuf {
        let below = strip_root(&self.own, &self.root);
        self.mountpoint.join(below.trim_start_matches('/'))
    }
}

/// Whether a directory is on a version 2 tree.
#[must_use]
pub fn is_cgroup2(path: &Path) -> bool {
    statfs(path).is_ok_and(|s| s.f_type == CGROUP2_MAGIC)
}

/// Versions of the interface.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Version {
    One,
    Two,
}

/// CGROUP_SUPER_MAGIC of linux/magic.h.
const CGROUP1_MAGIC: rustix::fs::FsWord = 0x0027_e0eb;

/// Whether the top of a whole hierarchy is at a path, and of which version. The top's inode
/// number is 1 (fs/kernfs/dir.c, `kernfs_create_root`); a mount of a part of the tree, or one
/// made in a cgroup namespace, shows another.
fn whole_tree_at(path: &Path) -> Option<Version> {
    let version = match statfs(path).ok()?.f_type {
        CGROUP1_MAGIC => Version::One,
        CGROUP2_MAGIC => Version::Two,
        _ => return None,
    };
    (rustix::fs::stat(path).ok()?.st_ino == 1).then_some(version)
}

/// `own` relative to the mount's root. A process outside of what is mounted (a container given
/// a part of the tree) sees itself at the mount's top.
fn strip_root<'a>(own: &'a str, root: &str) -> &'a str {
    if root == "/" {
        return own;
    }
    match own.strip_prefix(root) {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => rest,
        _ => "",
    }
}

/// What a line of mountinfo says of a cgroup mount (proc_pid_mountinfo(5)).
struct Mount {
    v2: bool,
    root: String,
    mountpoint: PathBuf,
    options: Vec<String>,
}

impl Mount {
    fn parse(line: &str) -> Option<Self> {
        let (front, back) = line.split_once(" - ")?;
        let mut back = back.split(' ');
        let v2 = match back.next()? {
            "cgroup" => false,
            "cgroup2" => true,
            _ => return None,
        };
        let options = back.nth(1).unwrap_or_default();
        let mut front = front.split(' ').skip(3);
        Some(Self {
            v2,
            root: unescape(front.next()?),
            mountpoint: unescape(front.next()?).into(),
            options: options.split(',').map(str::to_owned).collect(),
        })
    }

    /// Small is better: the conventional place, and the whole tree rather than a part of it.
    fn preference(&self) -> (bool, bool) {
        (!self.mountpoint.starts_with(MOUNT_ROOT), self.root != "/")
    }

    fn hierarchy(&self, controllers: Vec<String>, own: &str) -> Hierarchy {
        let own = own.lines().find_map(|line| {
            let (names, path) = own_line(line)?;
            let same = if controllers.is_empty() {
                names.is_empty()
            } else {
                names.split(',').eq(controllers.iter().map(String::as_str))
            };
            same.then(|| path.to_owned())
        });
        Hierarchy {
            controllers,
            mountpoint: self.mountpoint.clone(),
            root: self.root.clone(),
            own: own.unwrap_or_else(|| "/".to_owned()),
        }
    }
}

/// `ID:CONTROLLERS:PATH` of cgroups(7).
fn own_line(line: &str) -> Option<(&str, &str)> {
    let mut fields = line.splitn(3, ':').skip(1);
    Some((fields.next()?, fields.next()?))
}

fn v1_hierarchy(line: &str, mounts: &[Mount], own: &str) -> Option<Hierarchy> {
    let (names, _) = own_line(line)?;
    let controllers: Vec<String> = names.split(',').map(str::to_owned).collect();
    if names.is_empty() {
        return None;
    }
    mounts
        .iter()
        .filter(|m| !m.v2 && controllers.iter().all(|c| m.options.contains(c)))
        .min_by_key(|m| m.preference())
        .map(|m| m.hierarchy(controllers, own))
}

/// Octal escapes of mountinfo (`\040` is a space).
fn unescape(field: &str) -> String {
    let mut out = Vec::with_capacity(field.len());
    let bytes = field.as_bytes();
    let mut i = 0;
    while let Some(&byte) = bytes.get(i) {
        let code = (byte == b'\\')
            .then(|| bytes.get(i + 1..i + 4))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        out.push(code.unwrap_or(byte));
        i += if code.is_some() { 4 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
garbage
";
    const OWN: &str = "4:memory:/a/b\n2:cpu,cpuacct:/\n1:name=systemd:/x:y\n0::/u\n";

    fn names(layout: &Layout) -> Vec<String> {
        layout.v1.iter().map(|h| h.controllers.join(",")).collect()
    }

    #[test]
    fn hybrid() {
        let l = Layout::parse(HYBRID, OWN, false).unwrap();
        assert_eq!(l.mode, Mode::Hybrid);
        assert_eq!(names(&l), ["memory", "cpu,cpuacct", "name=systemd"]);
        assert_eq!(l.v1[0].own_dir(), Path::new("/sys/fs/cgroup/memory/a/b"));
        assert_eq!(l.v1[2].own, "/x:y");
        let unified = l.unified.unwrap();
        assert_eq!(unified.own_dir(), Path::new("/sys/fs/cgroup/unified/u"));
    }

    #[test]
    fn a_hierarchy_that_is_not_mounted_is_left_out() {
        let l = Layout::parse(HYBRID, "9:pids:/p\n4:memory:/\n", false).unwrap();
        assert_eq!(names(&l), ["memory"]);
        // No unified line: the process is not in it, so it is taken to be at the top.
        assert_eq!(l.unified.unwrap().own, "/");
    }

    #[test]
    fn v2_and_v1_only_and_nothing() {
        let v2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let l = Layout::parse(v2, "0::/user.slice\n", true).unwrap();
        assert_eq!(l.mode, Mode::V2);
        assert!(l.v1.is_empty());
        assert_eq!(
            l.unified.unwrap().own_dir(),
            Path::new("/sys/fs/cgroup/user.slice")
        );
        let v1 = HYBRID.replace("cgroup2", "nothing");
        assert_eq!(Layout::parse(&v1, OWN, false).unwrap().mode, Mode::V1);
        assert_eq!(Layout::parse("", OWN, false), None);
        assert_eq!(Layout::parse("x - \n - cgroup", "::\n:", false), None);
    }

    #[test]
    fn a_mounted_part_of_a_hierarchy() {
        let mounts = "\
50 31 0:32 /docker/c1 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory
51 31 0:32 / /mnt/with\\040space rw - cgroup cgroup rw,memory
";
        let l = Layout::parse(mounts, "4:memory:/docker/c1/sub\n", false).unwrap();
        assert_eq!(l.v1[0].own_dir(), Path::new("/sys/fs/cgroup/memory/sub"));
        let l = Layout::parse(mounts, "4:memory:/docker/c10\n", false).unwrap();
        assert_eq!(l.v1[0].own_dir(), Path::new("/sys/fs/cgroup/memory"));
        let last = mounts.lines().last().unwrap();
        let l = Layout::parse(last, "4:memory:/\n", false).unwrap();
        assert_eq!(l.v1[0].mountpoint, Path::new("/mnt/with space"));
    }

    #[test]
    fn the_usual_places() {
        let tree = |path: &Path| match path.to_str()? {
            "/sys/fs/cgroup/unified" => Some(Version::Two),
            "/sys/fs/cgroup" | "/sys/fs/cgroup/pids" => None,
            _ => Some(Version::One),
        };
        // The same as by the mounts.
        let short = Layout::conventional(OWN, tree).unwrap();
        assert_eq!(Some(short), Layout::parse(HYBRID, OWN, false));
        // A hierarchy that is elsewhere.
        assert_eq!(
            Layout::conventional(&format!("9:pids:/\n{OWN}"), tree),
            None
        );
        // No unified tree, or none in its place.
        for own in ["4:memory:/\n", "4:memory:/\n0::/\n"] {
            let one = |path: &Path| path.ends_with("memory").then_some(Version::One);
            let short = Layout::conventional(own, one).unwrap();
            assert_eq!((short.mode, short.v1.len()), (Mode::V1, 1));
            assert_eq!(short.unified, None);
        }
        let v2 = |_: &Path| Some(Version::Two);
        let short = Layout::conventional("1:name=x:/\n0::/a\n", v2).unwrap();
        assert_eq!((short.mode, short.v1.len()), (Mode::V2, 0));
        assert_eq!(
            short.unified.unwrap().own_dir(),
            Path::new("/sys/fs/cgroup/a")
        );
        assert_eq!(Layout::conventional("", v2), None);
    }

    #[test]
    fn this_machine_has_one_and_both_ways_find_it() {
        let l = Layout::detect().unwrap();
        assert!(l.unified.is_some() || !l.v1.is_empty());
        let read = |path| std::fs::read_to_string(path).unwrap();
        let is_v2 = is_cgroup2(Path::new(MOUNT_ROOT));
        let long = Layout::parse(
            &read("/proc/self/mountinfo"),
            &read("/proc/self/cgroup"),
            is_v2,
        );
        assert_eq!(Some(l), long);
    }
}
