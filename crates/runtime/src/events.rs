//! A container's events and statistics, in runc's shape.

use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use cgroup::OomEvent;
use cgroup::stats::Stats;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use serde::Serialize;

use crate::pause::manager_of;
use crate::{Container, Error, Result, Status, Warn};

/// One line of `hull events`.
#[derive(Clone, Debug, Serialize)]
pub struct Event {
    /// `stats` or `oom`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The container's id.
    pub id: String,
    /// Statistics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Data>,
}

/// `data` of a `stats` event.
#[derive(Clone, Debug, Serialize)]
pub struct Data {
    /// From the control groups.
    #[serde(flatten)]
    pub stats: Stats,
    /// Nothing: its fields are all optional.
    pub intel_rdt: Empty,
    /// Null, as with runc: interfaces belong to whoever made them.
    pub network_interfaces: Option<Empty>,
}

/// An object without fields.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Empty {}

/// Statistics of this moment.
///
/// # Errors
/// The container does not run, or a file cannot be read.
pub fn stats(container: &Container) -> Result<Event> {
    require_running(container)?;
    Ok(Event {
        kind: "stats",
        id: container.id.to_string(),
        data: Some(Data {
            stats: manager_of(container)?.stats()?,
            intel_rdt: Empty {},
            network_interfaces: None,
        }),
    })
}

/// Reports statistics every `interval` and each time the container runs out of memory, until it
/// ends.
///
/// # Errors
/// The container does not run, what `report` returns, or a call that failed.
pub fn follow(
    container: &Container,
    interval: Duration,
    report: &mut dyn FnMut(Event) -> Result<()>,
    warn: Warn<'_>,
) -> Result<()> {
    if interval.is_zero() {
        let text = "duration interval must be greater than 0";
        return Err(Error::Invalid(text.to_owned()));
    }
    require_running(container)?;
    let init = container.init()?;
    let pidfd = init.pidfd().ok().flatten();
    let mut oom = manager_of(container)?.watch_oom()?;
    let mut next = Instant::now() + interval;
    loop {
        let left = next.saturating_duration_since(Instant::now());
        let mut fds = vec![PollFd::from_borrowed_fd(oom.as_fd(), PollFlags::IN)];
        fds.extend(pidfd.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
        match poll(&mut fds, Timespec::try_from(left).ok().as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(sys::Error::new("poll", "events", e).into()),
        }
        match oom.take()? {
            OomEvent::Oom => report(Event {
                kind: "oom",
                id: container.id.to_string(),
                data: None,
            })?,
            OomEvent::Gone => return Ok(()),
            OomEvent::None => {}
        }
        if !init.is_alive()? {
            return Ok(());
        }
        if Instant::now() >= next {
            next += interval;
            match stats(container) {
                Ok(event) => report(event)?,
                // The next time may do; the end of the container is noticed above.
                Err(e) => warn(&e.to_string()),
            }
        }
    }
}

fn require_running(container: &Container) -> Result<()> {
    if container.status()? == Status::Stopped {
        let text = format!("container with id {} is not running", container.id);
        return Err(Error::WrongState(text));
    }
    Ok(())
}
