//! Where an exec'd process goes: the container's own groups, or groups below them.

use std::path::{Path, PathBuf};

use rustix::process::Pid;

use crate::dir::Dir;
use crate::error::{Error, Result};
use crate::v1::Group;
use crate::{parse, v2};

/// The checked form of `exec --cgroup` (runc-exec(8)).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SubCgroups {
    /// For every hierarchy; `Some("")` names the container's own group outright.
    all: Option<PathBuf>,
    /// By controller.
    each: Vec<(String, PathBuf)>,
    /// In the unified tree, whatever the machine's shape.
    unified: Option<PathBuf>,
}

impl SubCgroups {
    /// Takes the arguments: `PATH` once, or any number of `CONTROLLER[,CONTROLLER…]:PATH`.
    ///
    /// # Errors
    /// Another form, or a path with `..`.
    pub fn parse<S: AsRef<str>>(args: &[S]) -> Result<Self> {
        let mut parsed = Self::default();
        for arg in args {
            let arg = arg.as_ref();
            let refuse = |reason| Error::value("--cgroup", arg, reason);
            match arg.split_once(':') {
                None if args.len() == 1 => parsed.all = Some(below(arg)?),
                None => return Err(refuse("a path for all must be the only one")),
                Some((_, path)) if path.contains(':') => return Err(refuse("has two colons")),
                Some((controllers, path)) => {
                    let path = below(path)?;
                    for controller in controllers.split(',') {
                        if controller.is_empty() {
                            return Err(refuse("has an empty controller name"));
                        }
                        parsed.each.push((controller.to_owned(), path.clone()));
                    }
                }
            }
        }
        Ok(parsed)
    }

    /// A group that exists in the unified tree alone.
    pub(crate) fn in_unified(name: &str) -> Self {
        Self {
            unified: Some(name.into()),
            ..Self::default()
        }
    }

    /// A group that exists in one version 1 hierarchy alone.
    pub(crate) fn in_controller(controller: &str, name: &str) -> Self {
        Self {
            each: vec![(controller.to_owned(), name.into())],
            ..Self::default()
        }
    }

    fn is_empty(&self) -> bool {
        self.all.is_none() && self.each.is_empty()
    }

    /// The directory in one hierarchy.
    fn in_group(&self, group: &Group) -> PathBuf {
        let own = self.each.iter().rev().find(|(c, _)| group.has(c));
        let sub = own.map(|(_, path)| path).or(self.all.as_ref());
        sub.map_or_else(
            || group.dir.path().to_owned(),
            |s| join(group.dir.path(), s),
        )
    }

    /// Every controller named must be in some hierarchy.
    fn check(&self, groups: &[Group]) -> Result<()> {
        match self
            .each
            .iter()
            .find(|(c, _)| !groups.iter().any(|g| g.has(c)))
        {
            Some((controller, _)) => {
                Err(Error::value("--cgroup", controller, "unknown controller"))
            }
            None => Ok(()),
        }
    }
}

/// Directories for an exec'd process in version 1 hierarchies.
pub(crate) fn v1_dirs(groups: &[Group], sub: &SubCgroups) -> Result<Vec<Dir>> {
    sub.check(groups)?;
    Ok(groups.iter().map(|g| Dir::new(sub.in_group(g))).collect())
}

/// Directory for an exec'd process in the unified tree.
///
/// On a version 2 machine, a container that manages groups of its own (systemd in it) has
/// handed controllers down and so can hold no process at its top any more. Then the process
/// goes where the container's first one is, unless a path was named.
pub(crate) fn unified_dir(
    tree: &v2::Tree,
    is_v2: bool,
    sub: &SubCgroups,
    init: Option<Pid>,
) -> Result<Dir> {
    let top = tree.dir.path();
    if is_v2 && !sub.each.is_empty() {
        let reason = "cgroup v2 has one hierarchy: a path without controller is needed";
        return Err(Error::value("--cgroup", &sub.each[0].0, reason));
    }
    if let Some(name) = &sub.unified {
        return Ok(Dir::new(join(top, name)));
    }
    if let Some(path) = &sub.all {
        let dir = Dir::new(join(top, path));
        // What the container makes in version 1 hierarchies need not be in the unified tree.
        return Ok(if is_v2 || dir.exists() {
            dir
        } else {
            Dir::new(top)
        });
    }
    if is_v2
        && sub.is_empty()
        && let Some(init) = init
        && hands_down(&tree.dir)?
        && let Some(dir) = find_process(&tree.dir, init)?
    {
        return Ok(dir);
    }
    Ok(Dir::new(top))
}

fn hands_down(dir: &Dir) -> Result<bool> {
    let text = dir.read_opt("cgroup.subtree_control")?;
    Ok(text.is_some_and(|t| !t.trim().is_empty()))
}

/// The group below `top` that a process is in.
fn find_process(top: &Dir, pid: Pid) -> Result<Option<Dir>> {
    let wanted = pid.as_raw_nonzero().get();
    let mut left = top.children()?;
    while let Some(dir) = left.pop() {
        // A group of threads cannot list processes; its processes are listed above.
        let procs = dir.read_opt("cgroup.procs")?.unwrap_or_default();
        if parse::pids(&procs).any(|p| p == wanted) {
            return Ok(Some(dir));
        }
        left.extend(dir.children()?);
    }
    Ok(None)
}

/// A path below the container's group: clean, relative, possibly empty.
fn below(path: &str) -> Result<PathBuf> {
    let mut clean = PathBuf::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => return Err(Error::value("--cgroup", path, "\"..\" is not allowed")),
            part => clean.push(part),
        }
    }
    Ok(clean)
}

fn join(dir: &Path, sub: &Path) -> PathBuf {
    // Joining an empty path would leave a slash at the end.
    if sub.as_os_str().is_empty() {
        dir.to_owned()
    } else {
        dir.join(sub)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(name: &str) -> Group {
        Group {
            controllers: name.split(',').map(str::to_owned).collect(),
            mountpoint: "/m".into(),
            dir: Dir::new(format!("/m/{name}/c1")),
        }
    }

    #[test]
    fn forms() {
        let groups = [group("cpu,cpuacct"), group("memory")];
        let dirs = |args: &[&str]| -> Vec<String> {
            let sub = SubCgroups::parse(args).unwrap();
            let dirs = v1_dirs(&groups, &sub).unwrap();
            dirs.iter()
                .map(|d| d.path().display().to_string())
                .collect()
        };
        assert_eq!(dirs(&[]), ["/m/cpu,cpuacct/c1", "/m/memory/c1"]);
        assert_eq!(dirs(&["/"]), ["/m/cpu,cpuacct/c1", "/m/memory/c1"]);
        assert_eq!(
            dirs(&["a/b"]),
            ["/m/cpu,cpuacct/c1/a/b", "/m/memory/c1/a/b"]
        );
        assert_eq!(
            dirs(&["cpuacct:x", "memory:/y"]),
            ["/m/cpu,cpuacct/c1/x", "/m/memory/c1/y"]
        );
        assert_eq!(
            dirs(&["memory,cpu:x"]),
            ["/m/cpu,cpuacct/c1/x", "/m/memory/c1/x"]
        );
    }

    #[test]
    fn refused() {
        for args in [
            &["a", "b"][..],
            &["a:b:c"],
            &[":x"],
            &["a,:x"],
            &["../x"],
            &["cpu:a/../b"],
        ] {
            assert!(SubCgroups::parse(args).is_err(), "{args:?}");
        }
        let sub = SubCgroups::parse(&["pids:x"]).unwrap();
        let e = v1_dirs(&[group("memory")], &sub).unwrap_err();
        assert_eq!(e.to_string(), "--cgroup: pids: unknown controller");
    }
}
