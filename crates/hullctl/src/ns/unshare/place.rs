//! What the program finds: clocks, propagation, root, working directory, proc.

use std::path::Path;

use anyhow::{Context as _, Result};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use spec::plan::NamespaceKind;

use super::args::{Plan, Propagation};

/// The offsets of a new time namespace; they can only be set before anybody is in it.
pub fn set_clocks(plan: &Plan) -> Result<()> {
    let clocks = [("monotonic", plan.monotonic), ("boottime", plan.boottime)];
    for (clock, offset) in clocks {
        if let Some(seconds) = offset {
            let path = "/proc/self/timens_offsets";
            let text = format!("{clock} {seconds} 0");
            std::fs::write(path, &text).with_context(|| format!("write({path}, {text:?})"))?;
        }
    }
    Ok(())
}

/// A mount namespace can only be bound to a file in one that is older, and the kernel goes by
/// their numbers, of which each processor gives out its own: on another processor than the old
/// namespace's a new one may look older. Makes new ones until it does not; `old` is the number of
/// the one that this process has left.
pub fn look_newer(old: u64) -> Result<()> {
    let allowed = sched_getaffinity(None).context("sched_getaffinity")?;
    let processors = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu));
    for cpu in processors {
        if mount_namespace_number().is_none_or(|new| new > old) {
            break;
        }
        let mut only = CpuSet::new();
        only.set(cpu);
        sched_setaffinity(None, &only).with_context(|| format!("sched_setaffinity({cpu})"))?;
        sys::namespace::unshare(NamespaceKind::Mount.clone_flag())?;
    }
    sched_setaffinity(None, &allowed).context("sched_setaffinity")
}

/// The number of this process's mount namespace, where the kernel tells numbers.
pub fn mount_namespace_number() -> Option<u64> {
    let file = std::fs::File::open("/proc/self/ns/mnt").ok()?;
    sys::nsfs::id(&file).ok()
}

/// How mounts go from one namespace to the other from now on.
pub fn propagate(plan: &Plan) -> Result<()> {
    let flag = match plan.propagation {
        Propagation::Unchanged => return Ok(()),
        Propagation::Private => MountPropagationFlags::PRIVATE,
        Propagation::Shared => MountPropagationFlags::SHARED,
        Propagation::Slave => MountPropagationFlags::DOWNSTREAM,
    };
    mount_change("/", flag | MountPropagationFlags::REC)
        .with_context(|| format!("mount(/, {flag:?} | MS_REC)"))
}

/// Root, working directory and mounts, in this order.
pub fn arrange(plan: &Plan) -> Result<()> {
    if let Some(root) = &plan.root {
        rustix::process::chroot(root).with_context(|| format!("chroot({})", root.display()))?;
        rustix::process::chdir("/").context("chdir(/)")?;
    }
    if let Some(dir) = &plan.workdir {
        rustix::process::chdir(dir).with_context(|| format!("chdir({})", dir.display()))?;
    }
    if let Some(dir) = &plan.mount_proc {
        if plan.root.is_some() || plan.propagation != Propagation::Private {
            // A new root may not be a mount at all: then there is nothing to make private.
            let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            let _ = mount_change(dir, private);
        }
        let flags = MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV;
        mount_fs("proc", dir, flags)?;
    }
    if let Some(dir) = &plan.mount_binfmt {
        let flags = MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV;
        mount_fs("binfmt_misc", dir, flags)?;
        if let Some(interpreter) = &plan.load_interp {
            let path = dir.join("register");
            std::fs::write(&path, interpreter)
                .with_context(|| format!("write({}, {interpreter:?})", path.display()))?;
        }
    }
    Ok(())
}

fn mount_fs(kind: &str, dir: &Path, flags: MountFlags) -> Result<()> {
    mount(kind, dir, kind, flags, None).with_context(|| format!("mount({kind}, {})", dir.display()))
}
