//! What the program finds: clocks, propagation, root, working directory, proc.

use std::path::Path;

use anyhow::{Context as _, Result};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};

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
