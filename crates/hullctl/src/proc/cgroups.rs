//! Control groups of processes, found through /proc.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// One line of /proc/PID/cgroup.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Group {
    /// The controllers of the v1 hierarchy, or its name with `name=`; empty for v2.
    pub controllers: String,
    /// From the hierarchy's root.
    pub path: String,
}

/// Where the hierarchies are mounted.
#[derive(Clone, Debug, Default)]
pub struct Mounts(Vec<(String, PathBuf, String)>);

/// The groups of a process.
pub fn of(pid: i32) -> Result<Vec<Group>> {
    let path = format!("/proc/{pid}/cgroup");
    let text = std::fs::read_to_string(&path).with_context(|| format!("read({path})"))?;
    Ok(parse(&text))
}

fn parse(text: &str) -> Vec<Group> {
    let line = |line: &str| {
        let mut fields = line.splitn(3, ':').skip(1);
        Some(Group {
            controllers: fields.next()?.to_owned(),
            path: fields.next()?.to_owned(),
        })
    };
    text.lines().filter_map(line).collect()
}

/// The mounts of the hierarchies, as this process sees them.
pub fn mounts() -> Result<Mounts> {
    let path = "/proc/self/mountinfo";
    let text = std::fs::read_to_string(path).with_context(|| format!("read({path})"))?;
    Ok(Mounts(text.lines().filter_map(hierarchy).collect()))
}

/// Controllers (empty for v2), mount point and root of a line of mountinfo.
fn hierarchy(line: &str) -> Option<(String, PathBuf, String)> {
    let (before, after) = line.split_once(" - ")?;
    let mut fields = before.split(' ').skip(3);
    let (root, point) = (fields.next()?, fields.next()?);
    let mut after = after.split(' ');
    let (kind, _, options) = (after.next()?, after.next()?, after.next()?);
    let options = match kind {
        "cgroup2" => "",
        "cgroup" => options,
        _ => return None,
    };
    Some((options.to_owned(), PathBuf::from(point), root.to_owned()))
}

impl Mounts {
    /// The directory of a group; `None` where its hierarchy is not mounted or shows another part.
    pub fn directory(&self, group: &Group) -> Option<PathBuf> {
        let has = |options: &str| {
            if group.controllers.is_empty() {
                return options.is_empty();
            }
            let mut words = group.controllers.split(',');
            words.all(|word| options.split(',').any(|o| o == word))
        };
        let mut found = self.0.iter().filter(|(options, ..)| has(options));
        found.find_map(|(_, point, root)| {
            let below = Path::new(&group.path).strip_prefix(root).ok()?;
            let dir = point.join(below);
            dir.is_dir().then_some(dir)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_both_versions() {
        let groups = parse("5:cpu,cpuacct:/a\n1:name=systemd:/b:c\n0::/d\n");
        let names: Vec<_> = groups.iter().map(|g| g.controllers.as_str()).collect();
        assert_eq!(names, ["cpu,cpuacct", "name=systemd", ""]);
        assert_eq!(groups[1].path, "/b:c");
        let v1 = "30 25 0:26 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory";
        let (options, point, root) = hierarchy(v1).unwrap();
        assert_eq!(
            (options.as_str(), point.to_str(), root.as_str()),
            ("rw,memory", Some("/sys/fs/cgroup/memory"), "/")
        );
        assert!(hierarchy("30 25 0:26 / / rw - ext4 /dev/vda rw").is_none());
    }
}
