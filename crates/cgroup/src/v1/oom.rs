//! Out-of-memory events of a version 1 memory group
//! (admin-guide/cgroup-v1/memory.rst, "OOM Control").

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::event::EventfdFlags;
use rustix::fs::OFlags;
use sys::Context;

use crate::dir::Dir;
use crate::error::Result;

/// An eventfd that counts the times the group ran out of memory; it is also signalled when the
/// group is removed.
pub(crate) fn watch(dir: &Dir) -> Result<OwnedFd> {
    let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
    let event = rustix::event::eventfd(0, flags).context("eventfd", || "0")?;
    let control = dir.open("memory.oom_control", OFlags::RDONLY)?;
    let line = format!("{} {}", event.as_raw_fd(), control.as_raw_fd());
    dir.write("cgroup.event_control", &line)?;
    Ok(event)
}

/// Processes that the OOM killer has killed in the group so far (Linux 4.13).
pub(crate) fn kills(dir: &Dir) -> Result<Option<u64>> {
    let text = dir.read_opt("memory.oom_control")?;
    Ok(text.and_then(|t| crate::parse::field(&t, "oom_kill")))
}
