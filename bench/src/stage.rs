//! Where the measuring happens: a mount namespace and cgroups of its own.

use std::fs::{self, File};
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
};

const CGROUPS: &str = "/sys/fs/cgroup";
/// CLONE_NEWNS of clone(2).
const NEWNS: u64 = 0x0002_0000;

/// Where a hybrid machine mounts its cgroup v2 tree, if this is one.
pub fn unified() -> Option<PathBuf> {
    let path = Path::new(CGROUPS).join("unified");
    path.join("cgroup.procs").exists().then_some(path)
}

/// Moves this process into a mount namespace of its own. With `plain`, the cgroup v2 tree of a
/// hybrid machine is not mounted there: crun refuses to work beside it.
///
/// # Errors
/// Kernel errors.
pub fn enter(plain: bool) -> Result<()> {
    sys::namespace::unshare(NEWNS)?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).context("mount / private")?;
    if let Some(path) = unified().filter(|_| plain) {
        unmount(&path, UnmountFlags::DETACH).with_context(|| format!("umount {path:?}"))?;
    }
    Ok(())
}

/// A directory in memory below `work`, for what runtimes keep below /run. It goes with this
/// process's mount namespace.
///
/// # Errors
/// Kernel errors.
pub fn memory(work: &Path) -> Result<PathBuf> {
    let dir = work.join("state");
    fs::create_dir(&dir)?;
    let none = MountFlags::empty();
    mount("tmpfs", &dir, "tmpfs", none, None).with_context(|| format!("mount tmpfs {dir:?}"))?;
    Ok(dir)
}

/// Processor time of this process and all that it starts, wherever they end up.
#[derive(Debug)]
pub struct Meter(Option<File>);

impl Meter {
    /// Moves this process into the cpuacct cgroup `parent`, which counts for everything in it and
    /// below. Where there is no such controller, nothing is measured.
    ///
    /// # Errors
    /// Kernel errors.
    pub fn join(parent: &str) -> Result<Self> {
        let root = Path::new(CGROUPS).join("cpuacct");
        if !root.join("cgroup.procs").exists() {
            return Ok(Self(None));
        }
        let dir = root.join(parent.trim_start_matches('/'));
        fs::create_dir_all(&dir)?;
        fs::write(dir.join("cgroup.procs"), "0").with_context(|| format!("join {dir:?}"))?;
        Ok(Self(Some(File::open(dir.join("cpuacct.usage"))?)))
    }

    /// Time used so far.
    pub fn read(&self) -> Option<Duration> {
        let mut file = self.0.as_ref()?;
        let mut text = String::new();
        file.rewind().ok()?;
        file.read_to_string(&mut text).ok()?;
        text.trim().parse().ok().map(Duration::from_nanos)
    }
}

/// Ends whatever still runs in the cgroups below `parent` in any hierarchy, and removes them.
pub fn sweep(parent: &str) {
    let root = Path::new(CGROUPS);
    let hierarchies = fs::read_dir(root).into_iter().flatten().flatten();
    let hierarchies = hierarchies.map(|e| e.path()).chain([root.to_owned()]);
    let parents: Vec<PathBuf> = hierarchies
        .map(|h| h.join(parent.trim_start_matches('/')))
        .filter(|p| p.exists())
        .collect();
    // A killed process leaves its cgroups a moment later.
    for _ in 0..100 {
        if parents.iter().all(|p| !p.exists()) {
            break;
        }
        parents.iter().for_each(|p| empty(p));
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// One try: children first, their processes killed, the directory removed if it can be.
fn empty(dir: &Path) {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    for child in entries.map(|e| e.path()).filter(|p| p.is_dir()) {
        empty(&child);
    }
    let procs = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    for pid in procs.lines().filter_map(|l| l.parse().ok()) {
        if let Some(pid) = rustix::process::Pid::from_raw(pid) {
            // It may have ended between the two calls.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
    // Refused while something is left; the caller tries again.
    let _ = fs::remove_dir(dir);
}
