//! The kernel's part: the same namespaces, mounts and pivot_root, then the program, with nothing
//! around them. No runtime that isolates the same way can be faster.

use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use rustix::fs::{CWD, Mode, OFlags, mkdir, mkdirat, open};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind_recursive, mount_change,
    mount_remount, unmount,
};
use rustix::process::{fchdir, pivot_root};
use sys::process::{CloneArgs, Cloned, clone3, execve, exit_now};

use crate::child::{self, Took};

/// CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWPID, CLONE_NEWNET of clone(2).
const NAMESPACES: u64 = 0x0002_0000 | 0x0400_0000 | 0x0800_0000 | 0x2000_0000 | 0x4000_0000;

/// Runs `/bin/true` of `root` in fresh namespaces.
///
/// # Errors
/// A failed clone; a child that failed shows in the exit code.
pub fn run(root: &Path) -> Result<Took> {
    let hierarchies = v1_hierarchies();
    let began = Instant::now();
    let args = CloneArgs {
        flags: NAMESPACES,
        ..CloneArgs::default()
    };
    match clone3(&args)? {
        Cloned::Child => {
            if isolate(root, &hierarchies).is_ok() {
                execve(c"/bin/true", &[c"true"], &[c"PATH=/bin"]);
            }
            exit_now(1)
        }
        Cloned::Parent { pid, pidfd } => child::wait(pid, &pidfd, began),
    }
}

/// The directories that a version 1 cgroup mount shows.
fn v1_hierarchies() -> Vec<PathBuf> {
    let entries = std::fs::read_dir("/sys/fs/cgroup")
        .into_iter()
        .flatten()
        .flatten();
    let all = entries.map(|e| e.path());
    all.filter(|p| p.join("tasks").exists()).collect()
}

fn isolate(root: &Path, hierarchies: &[PathBuf]) -> rustix::io::Result<()> {
    let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    mount_change("/", slave)?;
    mount_bind_recursive(root, root)?;
    let root_fd = open(
        root,
        OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::PATH,
        Mode::empty(),
    )?;
    fchdir(&root_fd)?;
    let guarded = MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV;
    let none: Option<&CStr> = None;
    mount("proc", "proc", "proc", MountFlags::empty(), none)?;
    let strict = MountFlags::NOSUID | MountFlags::STRICTATIME;
    mount("tmpfs", "dev", "tmpfs", strict, c"mode=755,size=65536k")?;
    let mode = Mode::from_raw_mode(0o755);
    for dir in ["dev/pts", "dev/shm", "dev/mqueue"] {
        mkdirat(CWD, dir, mode)?;
    }
    let pts = MountFlags::NOSUID | MountFlags::NOEXEC;
    mount(
        "devpts",
        "dev/pts",
        "devpts",
        pts,
        c"newinstance,ptmxmode=0666,mode=0620,gid=5",
    )?;
    mount("shm", "dev/shm", "tmpfs", guarded, c"mode=1777,size=65536k")?;
    mount("mqueue", "dev/mqueue", "mqueue", guarded, none)?;
    mount("sysfs", "sys", "sysfs", guarded | MountFlags::RDONLY, none)?;
    mount_cgroups(hierarchies)?;
    enter(&root_fd)
}

/// A tmpfs with the hierarchies bound into it, read-only.
fn mount_cgroups(hierarchies: &[PathBuf]) -> rustix::io::Result<()> {
    let guarded = MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV;
    mount("tmpfs", "sys/fs/cgroup", "tmpfs", guarded, c"mode=755")?;
    for hierarchy in hierarchies {
        let name = hierarchy.file_name().unwrap_or_default();
        let target = Path::new("sys/fs/cgroup").join(name);
        mkdir(&target, Mode::from_raw_mode(0o755))?;
        mount_bind_recursive(hierarchy, &target)?;
        let bound = MountFlags::BIND | guarded | MountFlags::RDONLY;
        mount_remount(&target, bound, c"")?;
    }
    Ok(())
}

/// Makes the current directory the root, read-only, and lets go of the old one.
fn enter(root: &OwnedFd) -> rustix::io::Result<()> {
    pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    fchdir(root)?;
    mount_remount("/", MountFlags::BIND | MountFlags::RDONLY, c"")
}
