//! Out-of-memory events of a version 2 memory group.

use std::os::fd::OwnedFd;

use rustix::fs::inotify;
use sys::Context;

use crate::dir::Dir;
use crate::error::Result;

/// An inotify descriptor that becomes readable when memory.events or cgroup.events change: the
/// kernel announces changes of both as modifications. The second tells when the group empties.
pub(crate) fn watch(dir: &Dir) -> Result<OwnedFd> {
    let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
    let fd = inotify::init(flags).context("inotify_init1", || "")?;
    for file in ["memory.events", "cgroup.events"] {
        let path = dir.path().join(file);
        inotify::add_watch(&fd, &path, inotify::WatchFlags::MODIFY)
            .context("inotify_add_watch", || format!("{path:?}, IN_MODIFY"))?;
    }
    Ok(fd)
}

/// Processes that the OOM killer has killed in the group and below so far.
pub(crate) fn kills(dir: &Dir) -> Result<Option<u64>> {
    let text = dir.read_opt("memory.events")?;
    Ok(text.and_then(|t| crate::parse::field(&t, "oom_kill")))
}
