//! What of a container comes from outside of it, and is neither dumped nor restored by criu.
//!
//! All of it is taken from the configuration. An image in which something else is external fails
//! to be restored, because criu then lacks the key to it.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use cgroup::Manager;
use rootfs::{Last, Root};
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};
use spec::Plan;
use spec::plan::{MountKind, NamespaceKind, NamespaceMode};
use sys::Context as _;

use super::message::Options;
use crate::Result;

/// A mount from outside: its place in the container, and its source on the host.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct External {
    pub(super) place: PathBuf,
    pub(super) source: PathBuf,
}

/// The mounts of the configuration that show something of the host: bind mounts, the control
/// groups without a namespace of their own, device nodes that are bound.
pub(super) fn mounts(plan: &Plan, manager: &Manager) -> Vec<External> {
    let mut list = Vec::new();
    for mount in &plan.mounts {
        match &mount.kind {
            MountKind::Bind { source, .. } => list.push(External {
                place: mount.destination.clone(),
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

/// Masked files of the container whose root is `root`: they are covered by the host's /dev/null.
/// Directories are covered by a file system of their own.
pub(super) fn masks(plan: &Plan, root: &Root) -> Vec<External> {
    let is_file = |path: &Path| {
        let found = root.resolve(path, Last::Follow).ok();
        let stat = found.and_then(|fd| fstat(&fd).ok());
        stat.is_some_and(|s| FileType::from_raw_mode(s.st_mode) != FileType::Directory)
    };
    let masked = plan.masked_paths.iter().filter(|path| is_file(path));
    let mask = |path: &PathBuf| External {
        place: path.clone(),
        source: PathBuf::from("/dev/null"),
    };
    masked.map(mask).collect()
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

/// For a restore: opens joined namespaces, which criu must inherit under the same numbers.
pub(super) fn open_namespaces(plan: &Plan, options: &mut Options) -> Result<Vec<OwnedFd>> {
    use std::os::fd::AsRawFd as _;
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
