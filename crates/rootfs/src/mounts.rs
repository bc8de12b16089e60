//! One mount of the plan.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, PROC_SUPER_MAGIC, fstatfs, statat};
use spec::plan::{MountAttrs, MountKind, MountPlan, NamespaceKind, SuperblockFlags};
use sys::Errno;

use crate::error::{Error, Result, Step as _};
use crate::filesystem::NewFs;
use crate::mounter::{Mounter, Target, is_directory};
use crate::prepare::Prepared;
use crate::root::{Last, Root, Want};

/// Magic number of devpts (linux/magic.h).
pub(crate) const DEVPTS_SUPER_MAGIC: rustix::fs::FsWord = 0x1cd1;

/// Files of a procfs that may be replaced: those that lxcfs emulates, and two that CRIU and FIPS
/// tests need. Anything else over procfs could fool whoever reads or writes it as root.
const REPLACEABLE: [&str; 11] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/net/dev",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/sys/crypto/fips_enabled",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/uptime",
];

/// For messages: `mount proc on "/proc"`.
pub(crate) fn step_of(mount: &MountPlan) -> String {
    let what = match &mount.kind {
        MountKind::Bind { source, .. } => format!("{source:?}"),
        MountKind::Cgroup => "cgroup".to_owned(),
        MountKind::Filesystem { fstype, .. } => fstype.clone(),
    };
    let verb = if mount.remount { "remount" } else { "mount" };
    format!("{verb} {what} on {:?}", mount.destination)
}

/// The kernel calls of a mount, for the record of steps.
pub(crate) fn calls_of(mount: &MountPlan) -> &'static str {
    match mount.kind {
        _ if mount.remount => "mount_setattr",
        MountKind::Bind { .. } => "open_tree + move_mount",
        _ => "fsopen + fsmount + move_mount",
    }
}

impl<'p> Prepared<'p> {
    /// Makes the plan's mount number `index`.
    pub(crate) fn mount(&mut self, index: usize, mount: &'p MountPlan) -> Result<()> {
        if mount.remount {
            return self.remount(mount);
        }
        let fd = match &mount.kind {
            MountKind::Bind { source, recursive } => {
                match self.bind(index, mount, source, *recursive)? {
                    Some(fd) => fd,
                    None => return Ok(()),
                }
            }
            MountKind::Cgroup => self.mount_cgroup(mount)?,
            MountKind::Filesystem {
                fstype,
                source,
                data,
            } => self.mount_filesystem(mount, fstype, source, data)?,
        };
        let step = || step_of(mount);
        if !mount.recursive_attrs.is_empty() {
            let attrs = mount.recursive_attrs;
            self.mounter
                .set_attrs(fd.as_fd(), attrs, true, None)
                .step(step)?;
        }
        if let Some(propagation) = mount.propagation {
            self.mounter
                .set_propagation(fd.as_fd(), propagation)
                .step(step)?;
        }
        self.remember(mount, fd);
        Ok(())
    }

    /// Keeps the mounts that later steps work on.
    fn remember(&mut self, mount: &'p MountPlan, fd: OwnedFd) {
        let destination = mount.destination.as_path();
        let magic = |fd: &OwnedFd| fstatfs(fd).map_or(0, |s| s.f_type);
        // What this mount covers is not there any more.
        if Path::new("/proc").starts_with(destination) {
            self.procfs = None;
        }
        if Path::new("/dev/pts").starts_with(destination) {
            self.devpts = None;
        }
        if destination == Path::new("/") {
            self.mounter.root = Root::from_fd(fd);
        } else if destination == Path::new("/proc") && magic(&fd) == PROC_SUPER_MAGIC {
            self.procfs = Some(fd);
        } else if destination == Path::new("/dev/pts") && magic(&fd) == DEVPTS_SUPER_MAGIC {
            self.devpts = Some(fd);
        } else if writable_until_done(mount) {
            self.readonly_later.push((fd, destination));
        }
    }

    /// The mount point; created where it is missing.
    pub(crate) fn target(
        &self,
        mount: &'p MountPlan,
        want: Want,
        last: Last,
    ) -> Result<Target<'p>> {
        let path = mount.destination.as_path();
        let (fd, fresh) =
            (self.mounter.root.place_noting(path, want, last)).step(|| step_of(mount))?;
        Ok(Target {
            fd,
            path,
            last,
            fresh,
        })
    }

    /// Refuses what would shadow the procfs that later steps and programs inside trust.
    /// `over` is what is mounted, if that is a descriptor already.
    pub(crate) fn check_target(
        &self,
        mount: &MountPlan,
        target: &Target<'_>,
        is_procfs: impl FnOnce() -> bool,
    ) -> Result<()> {
        let inside = match mount.destination.strip_prefix("/proc") {
            Ok(rest) if rest.as_os_str().is_empty() => {
                return if is_procfs() {
                    Ok(())
                } else {
                    let why = format!(
                        "{:?} cannot be mounted because it is not of type proc",
                        target.path
                    );
                    Err(Error::refused(step_of(mount), why))
                };
            }
            Ok(_) => true,
            // Some other name for the same place.
            Err(_) => self.is_in_procfs(target.fd.as_fd()),
        };
        let allowed = || {
            REPLACEABLE
                .iter()
                .any(|p| mount.destination == Path::new(p))
        };
        if inside && !allowed() {
            let why = format!(
                "{:?} cannot be mounted because it is inside /proc",
                target.path
            );
            return Err(Error::refused(step_of(mount), why));
        }
        Ok(())
    }

    fn is_in_procfs(&self, fd: BorrowedFd<'_>) -> bool {
        let device = |fd: BorrowedFd<'_>| statat(fd, c"", AtFlags::EMPTY_PATH).map(|s| s.st_dev);
        match &self.procfs {
            Some(procfs) => device(procfs.as_fd()).is_ok_and(|d| device(fd) == Ok(d)),
            None => false,
        }
    }

    fn mount_filesystem(
        &self,
        mount: &'p MountPlan,
        fstype: &str,
        source: &str,
        data: &[String],
    ) -> Result<OwnedFd> {
        let step = || step_of(mount);
        // What is trusted by its place must not be put elsewhere by a symlink of the image.
        let trusted = matches!(fstype, "proc" | "sysfs");
        let last = last_of(mount.dest_nofollow || trusted);
        let target = self.target(mount, Want::Directory, last)?;
        if trusted && !is_directory(&target.fd) {
            let why = format!("{fstype} must be mounted on an ordinary directory");
            return Err(Error::refused(step(), why));
        }
        self.check_target(mount, &target, || fstype == "proc")?;
        let mode = if fstype == "tmpfs" && !target.fresh {
            mode_of_existing(&target.fd, data)
        } else {
            None
        };
        let with_mode: Vec<String>;
        let data = match mode {
            Some(word) => {
                with_mode = std::iter::once(word).chain(data.iter().cloned()).collect();
                &with_mode
            }
            None => data,
        };
        let later = writable_until_done(mount);
        let fs = NewFs {
            fstype,
            source,
            data,
            superblock: SuperblockFlags {
                ro: mount.superblock.ro && !later,
                ..mount.superblock
            },
            attrs: without_readonly(mount.attrs.set, later),
            label: self.label_for(fstype),
        };
        let fd = match self.mounter.mount_new(&fs, &target) {
            Err(e) if e.errno == Errno::PERM => match self.host_substitute(fstype) {
                Some(path) => self.bind_host_instead(path, mount, &target).step(step)?,
                None => return Err(e).step(step),
            },
            result => result.step(step)?,
        };
        if mount.tmpcopyup && fstype == "tmpfs" {
            crate::copyup::copy(&target.fd, &fd).step(|| format!("{}: copy up", step()))?;
        }
        Ok(fd)
    }

    /// Where the host has the same instance of a file system that a user namespace may not mount:
    /// sysfs shows a network namespace, mqueue an IPC namespace, proc a pid namespace, and each
    /// can only be mounted by who owns that. If it is the host's, so is the mount.
    fn host_substitute(&self, fstype: &str) -> Option<&'static Path> {
        let (namespace, path) = match fstype {
            "sysfs" => (NamespaceKind::Network, "/sys"),
            "mqueue" => (NamespaceKind::Ipc, "/dev/mqueue"),
            "proc" => (NamespaceKind::Pid, "/proc"),
            _ => return None,
        };
        let shared = !self.plan.namespaces.is_new(namespace);
        (self.context.in_userns && shared).then(|| Path::new(path))
    }

    fn bind_host_instead(
        &self,
        path: &Path,
        mount: &MountPlan,
        target: &Target<'_>,
    ) -> sys::Result<OwnedFd> {
        let object = Mounter::clone_host(path, true, Last::Follow)?;
        let fd = self.mounter.attach(object, target)?;
        let mut attrs = mount.attrs;
        if path == Path::new("/sys") {
            attrs.set |= MountAttrs::RDONLY;
        }
        // Access times of a mount that a user namespace inherits are locked.
        attrs.set &= !MountAttrs::ATIME_MASK;
        attrs.clear &= !MountAttrs::ATIME_MASK;
        self.mounter.set_attrs(fd.as_fd(), attrs, false, None)?;
        Ok(fd)
    }

    /// The SELinux context option, for file systems that take it.
    pub(crate) fn label_for(&self, fstype: &str) -> Option<&'p str> {
        match fstype {
            "proc" | "sysfs" | "cgroup" | "cgroup2" | "mqueue" => None,
            _ => self.plan.mount_label.as_deref(),
        }
    }

    /// Changes a mount that is there: its attributes, and its file system's options for kinds
    /// other than bind.
    fn remount(&mut self, mount: &'p MountPlan) -> Result<()> {
        let step = || step_of(mount);
        let last = last_of(mount.dest_nofollow);
        let fd = self
            .mounter
            .root
            .resolve(&mount.destination, last)
            .step(step)?;
        if let MountKind::Filesystem { data, .. } = &mount.kind {
            self.mounter
                .reconfigure(fd.as_fd(), mount.superblock, data)
                .step(step)?;
        }
        self.mounter
            .set_attrs(fd.as_fd(), mount.attrs, false, None)
            .step(step)?;
        if !mount.recursive_attrs.is_empty() {
            self.mounter
                .set_attrs(fd.as_fd(), mount.recursive_attrs, true, None)
                .step(step)?;
        }
        match mount.propagation {
            Some(p) => self.mounter.set_propagation(fd.as_fd(), p).step(step),
            None => Ok(()),
        }
    }
}

/// Mounts that further mount points, device nodes or copies are made in.
fn writable_until_done(mount: &MountPlan) -> bool {
    let tmpfs = matches!(&mount.kind, MountKind::Filesystem { fstype, .. } if fstype == "tmpfs");
    let readonly = mount.attrs.set & MountAttrs::RDONLY != 0;
    readonly && (tmpfs || mount.destination == Path::new("/dev"))
}

fn without_readonly(attrs: u64, without: bool) -> u64 {
    if without {
        attrs & !MountAttrs::RDONLY
    } else {
        attrs
    }
}

pub(crate) fn last_of(nofollow: bool) -> Last {
    if nofollow {
        Last::Nofollow
    } else {
        Last::Follow
    }
}

/// A tmpfs over a directory keeps its mode unless the options say another.
fn mode_of_existing(dir: &OwnedFd, data: &[String]) -> Option<String> {
    if data.iter().any(|word| word.starts_with("mode=")) {
        return None;
    }
    let stat = statat(dir, c"", AtFlags::EMPTY_PATH).ok()?;
    Some(format!("mode={:o}", stat.st_mode & 0o7777))
}
