//! Intel RDT (`linux.intelRdt`) through the resctrl file system
//! (Linux, Documentation/filesystems/resctrl.rst).

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use spec::oci::IntelRdt;
use sys::Context as _;

use crate::{Doing as _, Error, Result};

/// What is written down about a container's class and monitoring group, to remove what was made.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Rdt {
    /// Directory of the class of service.
    pub class: PathBuf,
    /// The class is the container's own: made by us, named after it.
    pub own_class: bool,
    /// Monitoring group made by us.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub monitor: Option<PathBuf>,
}

/// Where resctrl is mounted.
///
/// # Errors
/// [`Error::Invalid`] where it is not: the kernel or the processor has no RDT, or nobody has
/// mounted it.
pub fn mount_point() -> Result<PathBuf> {
    let path = "/proc/self/mountinfo";
    let text = std::fs::read_to_string(path).context("read", || path)?;
    find_mount(&text).ok_or_else(|| {
        let reason = if Path::new("/sys/fs/resctrl").exists() {
            "the resctrl file system is not mounted (mount -t resctrl resctrl /sys/fs/resctrl)"
        } else {
            "this kernel has no resctrl file system: the processor lacks RDT or it is not configured"
        };
        Error::Invalid(format!("intelRdt is asked for, but {reason}"))
    })
}

/// proc_pid_mountinfo(5): the mount point is field 5, the type follows the lone hyphen.
fn find_mount(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let is_resctrl = right.split(' ').next() == Some("resctrl");
        is_resctrl
            .then(|| left.split(' ').nth(4).map(PathBuf::from))
            .flatten()
    })
}

impl Rdt {
    /// Makes or finds the class of container `id` in the resctrl tree `root`, writes its schemata
    /// and places process `pid` in it. What was made is removed again on an error.
    ///
    /// # Errors
    /// A class that must exist and does not, or the kernel's refusal, with its own explanation
    /// from `info/last_cmd_status`.
    pub fn apply(config: &IntelRdt, id: &str, root: &Path, pid: i32) -> Result<Self> {
        let mut made = Self::default();
        let result = made.fill(config, id, root, pid);
        let Err(error) = result else {
            // A class with a name of its own stays when the container goes.
            made.own_class &= config.clos_id.is_empty();
            return Ok(made);
        };
        let mut errors = vec![error];
        errors.extend(made.remove().err());
        Err(Error::from_several(errors).unwrap_or(Error::NotRunning))
    }

    fn fill(&mut self, config: &IntelRdt, id: &str, root: &Path, pid: i32) -> Result<()> {
        let limits = lines(config);
        let name = if config.clos_id.is_empty() {
            id
        } else {
            &config.clos_id
        };
        if name == "/" {
            root.clone_into(&mut self.class);
        } else {
            check_name(name)?;
            self.class = root.join(name);
            if !config.clos_id.is_empty() && limits.is_empty() && !self.class.exists() {
                let text = format!(
                    "intelRdt: class {name:?} does not exist and no schema is given for it"
                );
                return Err(Error::Invalid(text));
            }
            self.own_class = make_dir(&self.class)?;
        }
        let schemata = self.class.join("schemata");
        for line in limits {
            write(&schemata, line).doing(|| last_status(root))?;
        }
        write(&self.class.join("tasks"), &pid.to_string()).doing(|| last_status(root))?;
        if config.enable_monitoring {
            let monitor = self.class.join("mon_groups").join(id);
            if make_dir(&monitor)? {
                self.monitor = Some(monitor.clone());
            }
            write(&monitor.join("tasks"), &pid.to_string()).doing(|| last_status(root))?;
        }
        Ok(())
    }

    /// Places a further process of the container in its class and monitoring group.
    ///
    /// # Errors
    /// write(2)'s.
    pub fn join(&self, pid: i32) -> Result<()> {
        for directory in std::iter::once(&self.class).chain(&self.monitor) {
            write(&directory.join("tasks"), &pid.to_string()).doing(|| "intelRdt")?;
        }
        Ok(())
    }

    /// Writes new schemata of a running container (`update`).
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn update(&self, config: &IntelRdt, root: &Path) -> Result<()> {
        for line in lines(config) {
            write(&self.class.join("schemata"), line).doing(|| last_status(root))?;
        }
        Ok(())
    }

    /// Removes what [`Self::apply`] made, and nothing else.
    ///
    /// # Errors
    /// rmdir(2)'s.
    pub fn remove(&self) -> Result<()> {
        let class = self.own_class.then_some(&self.class);
        let mut errors = Vec::new();
        for directory in self.monitor.iter().chain(class) {
            match rustix::fs::rmdir(directory) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(e) => {
                    let args = directory.display().to_string();
                    errors.push(sys::Error::new("rmdir", args, e).into());
                }
            }
        }
        Error::from_several(errors).map_or(Ok(()), Err)
    }
}

/// The lines for `schemata` in their order: L3, MB, then the free ones.
fn lines(config: &IntelRdt) -> Vec<&str> {
    let given = [&config.l3_cache_schema, &config.mem_bw_schema];
    let single = given.into_iter().flat_map(|s| s.lines());
    single
        .chain(config.schemata.iter().map(String::as_str))
        .filter(|line| !line.trim().is_empty())
        .collect()
}

fn check_name(name: &str) -> Result<()> {
    let reserved = ["", ".", "..", "info", "mon_data", "mon_groups"];
    if reserved.contains(&name) || name.contains('/') || name.contains('\0') {
        return Err(Error::Invalid(format!(
            "intelRdt: {name:?} is not a class name"
        )));
    }
    Ok(())
}

/// Whether it was made now.
fn make_dir(path: &Path) -> Result<bool> {
    match rustix::fs::mkdir(path, Mode::from_raw_mode(0o755)) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        Err(e) => Err(sys::Error::new("mkdir", path.display().to_string(), e).into()),
    }
}

/// resctrl takes one line a write(2).
fn write(path: &Path, line: &str) -> Result<()> {
    let args = || format!("{}, {line:?}", path.display());
    let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file: OwnedFd = openat(CWD, path, flags, Mode::empty()).context("openat", args)?;
    rustix::io::write(&file, format!("{line}\n").as_bytes()).context("write", args)?;
    Ok(())
}

/// The kernel's own words for what it refused.
fn last_status(root: &Path) -> String {
    let text = std::fs::read_to_string(root.join("info/last_cmd_status")).unwrap_or_default();
    match text.trim() {
        "" | "ok" => "intelRdt".to_owned(),
        words => format!("intelRdt: the kernel says {words:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_mount_by_its_type() {
        let text = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - tmpfs tmpfs rw\n\
                    41 23 0:35 / /sys/fs/resctrl rw shared:9 - resctrl resctrl rw\n";
        assert_eq!(find_mount(text).unwrap(), Path::new("/sys/fs/resctrl"));
        assert_eq!(
            find_mount("41 23 0:35 / /resctrl rw - tmpfs resctrl rw"),
            None
        );
    }

    #[test]
    fn absence_is_told() {
        if let Err(e) = mount_point() {
            assert!(
                e.to_string().starts_with("intelRdt is asked for, but "),
                "{e}"
            );
        }
    }

    #[test]
    fn lines_come_in_their_order() {
        let config = IntelRdt {
            l3_cache_schema: "L3:0=f\n".to_owned(),
            mem_bw_schema: "MB:0=50".to_owned(),
            schemata: vec!["L2:0=1".to_owned(), String::new()],
            ..IntelRdt::default()
        };
        assert_eq!(lines(&config), ["L3:0=f", "MB:0=50", "L2:0=1"]);
    }

    #[test]
    fn names_stay_inside_the_tree() {
        for bad in ["", ".", "..", "a/b", "info", "mon_groups"] {
            assert!(check_name(bad).is_err());
        }
        check_name("guaranteed").unwrap();
    }
}
