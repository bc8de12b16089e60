//! What of a container comes from outside of it, and is neither dumped nor restored by criu.
//!
//! All of it is taken from the configuration. An image in which something else is external fails
//! to be restored, because criu then lacks the key to it.

use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use cgroup::Manager;
use rootfs::{Last, Root};
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};
use spec::Plan;
use spec::plan::{MountKind, MountPlan, NamespaceKind, NamespaceMode};
use sys::Context as _;

use super::message::Options;
use crate::{Error, Result};

/// A mount from outside: its place in the container, and its source on the host.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct External {
    pub(super) place: PathBuf,
    pub(super) source: PathBuf,
}

/// Where what is on `path` is seen in `root`, whose image may have symlinks on the way: so it is
/// called in mountinfo, and by criu.
pub(super) fn seen(root: &Root, path: &Path) -> PathBuf {
    let place =
        |fd: BorrowedFd<'_>| std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok();
    let found = path.ancestors().find_map(|dir| {
        let fd = root.resolve(dir, Last::Follow).ok()?;
        let inside = place(fd.as_fd())?;
        let inside = inside.strip_prefix(place(root.as_fd())?).ok()?.to_owned();
        Some((inside, path.strip_prefix(dir).ok()?))
    });
    found.map_or_else(
        || path.to_owned(),
        // Collected: joining an empty rest would add a slash.
        |(dir, rest)| Path::new("/").join(dir).join(rest).components().collect(),
    )
}

/// The mounts of the configuration that show something of the host: bind mounts, the control
/// groups without a namespace of their own, device nodes that are bound.
pub(super) fn mounts(plan: &Plan, manager: &Manager, root: &Root) -> Vec<External> {
    let mut list = Vec::new();
    for mount in &plan.mounts {
        match &mount.kind {
            MountKind::Bind { source, .. } => list.push(External {
                place: seen(root, &mount.destination),
                source: source.clone(),
            }),
            MountKind::Cgroup if !plan.namespaces.is_new(NamespaceKind::Cgroup) => {
                list.extend(cgroup_mounts(&mount.destination, manager));
            }
            MountKind::Cgroup | MountKind::Filesystem { .. } => {}
        }
    }
    list.extend(plan.devices.iter().map(|device| External {
        place: device.path.clone(),
        source: device.path.clone(),
    }));
    list
}

fn cgroup_mounts(place: &Path, manager: &Manager) -> Vec<External> {
    let layout = manager.mount_layout();
    let v1 = layout.v1.iter().map(|hierarchy| External {
        place: place.join(&hierarchy.name),
        source: hierarchy.source.clone(),
    });
    let unified = layout.unified.iter().map(|source| External {
        place: if layout.v1.is_empty() {
            place.to_owned()
        } else {
            place.join("unified")
        },
        source: source.clone(),
    });
    v1.chain(unified).collect()
}

/// Masked files of the container whose root is `root`, as far as they are covered by the host's
/// /dev/null. The null device of the container's own /dev is part of the image, and directories
/// are covered by a file system of their own.
pub(super) fn masks(plan: &Plan, root: &Root) -> Vec<External> {
    let stat = |path: &Path| fstat(root.resolve(path, Last::Follow).ok()?).ok();
    let dev = Path::new("/dev");
    let bound = |m: &MountPlan| m.destination == dev && is_bind(m);
    let own = stat(dev).filter(|_| !plan.mounts.iter().any(bound));
    let from_host = |path: &Path| {
        stat(path).is_some_and(|s| {
            FileType::from_raw_mode(s.st_mode) != FileType::Directory
                && own.is_none_or(|dev| dev.st_dev != s.st_dev)
        })
    };
    let masked = plan.masked_paths.iter().filter(|path| from_host(path));
    let mask = |path: &PathBuf| External {
        place: seen(root, path),
        source: PathBuf::from("/dev/null"),
    };
    masked.map(mask).collect()
}

fn is_bind(mount: &MountPlan) -> bool {
    matches!(mount.kind, MountKind::Bind { .. })
}

/// The root of process `pid`.
pub(super) fn root_of(pid: i32) -> Result<Root> {
    let path = format!("/proc/{pid}/root");
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = openat(CWD, &path, flags, Mode::empty()).context("openat", || path)?;
    Ok(Root::from_fd(fd))
}

/// Kinds of joined namespaces that criu can leave alone, and the key by which it then knows them.
const KINDS: [(NamespaceKind, &str); 2] = [
    (NamespaceKind::Network, "extRootNetNS"),
    (NamespaceKind::Pid, "extRootPidNS"),
];

/// For a dump: names joined namespaces by their inodes.
pub(super) fn name_namespaces(plan: &Plan, options: &mut Options) -> Result<()> {
    for (kind, key) in KINDS {
        if let NamespaceMode::Join(path) = plan.namespaces.get(kind) {
            let args = || path.display().to_string();
            let inode = std::fs::metadata(path).context("stat", args)?.ino();
            options
                .external
                .push(format!("{}[{inode}]:{key}", kind.proc_name()));
        }
    }
    Ok(())
}

/// Kinds that criu dumps with the rest, and joins on restore instead of making them.
const JOINED: [NamespaceKind; 5] = [
    NamespaceKind::User,
    NamespaceKind::Ipc,
    NamespaceKind::Uts,
    NamespaceKind::Mount,
    NamespaceKind::Time,
];

/// For a restore: names the namespaces to join. Returns open ones, which criu must inherit under
/// the same numbers.
pub(super) fn open_namespaces(plan: &Plan, options: &mut Options) -> Result<Vec<OwnedFd>> {
    if let NamespaceMode::Join(path) = plan.namespaces.get(NamespaceKind::Cgroup) {
        let path = path.display();
        let text = format!("criu cannot restore into the cgroup namespace {path}");
        return Err(Error::Invalid(text));
    }
    for kind in JOINED {
        if let NamespaceMode::Join(path) = plan.namespaces.get(kind) {
            let file = path.to_string_lossy().into_owned();
            options.joined.push((kind.proc_name().to_owned(), file));
        }
    }
    let mut files = Vec::new();
    for (kind, key) in KINDS {
        if let NamespaceMode::Join(path) = plan.namespaces.get(kind) {
            let file = File::open(path).context("open", || path.display().to_string())?;
            options.inherited.push((key.to_owned(), file.as_raw_fd()));
            files.push(file.into());
        }
    }
    Ok(files)
}
