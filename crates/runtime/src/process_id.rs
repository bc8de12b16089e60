//! A process named so that a reused pid cannot be taken for it.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Pid;
use serde::{Deserialize, Serialize};
use sys::Errno;

use crate::{Error, Result};

/// How often a process is looked at that cannot be waited for.
const TICK: Duration = Duration::from_millis(10);

/// A pid and the start time that goes with it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessId {
    /// As our own pid namespace numbers it.
    pub pid: i32,
    /// Field 22 of proc_pid_stat(5): clock ticks after boot.
    pub start_time: u64,
}

impl ProcessId {
    /// The process that has this pid now; `None` if there is none.
    ///
    /// # Errors
    /// /proc cannot be read.
    pub fn of(pid: i32) -> Result<Option<Self>> {
        let stat = stat(pid)?;
        Ok(stat.map(|(_, start_time)| Self { pid, start_time }))
    }

    /// The calling process.
    ///
    /// # Errors
    /// /proc cannot be read.
    pub fn own() -> Result<Self> {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        let stat = parse_stat(&sys::process::own_stat()?);
        let stat = stat.ok_or_else(|| sys::Error::new("read", "/proc/self/stat", Errno::INVAL));
        let (_, start_time) = stat?;
        Ok(Self { pid, start_time })
    }

    /// Whether it still runs. A zombie does not.
    ///
    /// # Errors
    /// /proc cannot be read.
    pub fn is_alive(&self) -> Result<bool> {
        let now = stat(self.pid)?;
        Ok(now.is_some_and(|(state, start)| {
            start == self.start_time && !matches!(state, b'Z' | b'X')
        }))
    }

    /// Waits until it has ended; for one that was killed.
    ///
    /// # Errors
    /// [`Error::WrongState`] when it still runs after `patience`; poll(2)'s.
    pub fn await_end(&self, patience: Duration) -> Result<()> {
        let pidfd = match self.pidfd() {
            Ok(None) => return Ok(()),
            Ok(pidfd) => pidfd,
            // A kernel without them: look now and then.
            Err(Error::Sys(e)) if e.errno == Errno::NOSYS => None,
            Err(e) => return Err(e),
        };
        let deadline = Instant::now() + patience;
        while self.is_alive()? {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::WrongState("container init still running".to_owned()));
            }
            match &pidfd {
                Some(pidfd) => {
                    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
                    match poll(&mut fds, Timespec::try_from(left).ok().as_ref()) {
                        Ok(_) | Err(Errno::INTR) => {}
                        Err(e) => return Err(sys::Error::new("poll", "pidfd", e).into()),
                    }
                }
                None => std::thread::sleep(TICK),
            }
        }
        Ok(())
    }

    /// A descriptor of it; `None` if it has ended.
    ///
    /// # Errors
    /// pidfd_open(2)'s.
    pub fn pidfd(&self) -> Result<Option<OwnedFd>> {
        let Some(pid) = Pid::from_raw(self.pid) else {
            return Ok(None);
        };
        let pidfd = match sys::pidfd::open(pid) {
            Err(e) if e.errno == Errno::SRCH => return Ok(None),
            other => other?,
        };
        // The pid may have been reused before the descriptor was opened, not after.
        Ok(self.is_alive()?.then_some(pidfd))
    }

    /// Sends it a signal; false if it has ended.
    ///
    /// # Errors
    /// pidfd_send_signal(2)'s or kill(2)'s.
    pub fn signal(&self, signal: i32) -> Result<bool> {
        let sent = match self.pidfd() {
            Ok(Some(pidfd)) => sys::pidfd::send_signal(pidfd, signal),
            Ok(None) => return Ok(false),
            Err(Error::Sys(e)) if e.errno == Errno::NOSYS => {
                match Pid::from_raw(self.pid).filter(|_| self.is_alive().unwrap_or(false)) {
                    Some(pid) => sys::pidfd::kill(pid, signal),
                    None => return Ok(false),
                }
            }
            Err(e) => return Err(e),
        };
        match sent {
            Err(e) if e.errno == Errno::SRCH => Ok(false),
            other => Ok(other.map(|()| true)?),
        }
    }
}

/// State letter and start time.
fn stat(pid: i32) -> Result<Option<(u8, u64)>> {
    let path = format!("/proc/{pid}/stat");
    let text = match sys::file::read(path.as_ref()) {
        Err(e) if matches!(e.errno, Errno::NOENT | Errno::SRCH) => return Ok(None),
        other => other?,
    };
    let parsed = parse_stat(&text);
    parsed
        .map(Some)
        .ok_or_else(|| sys::Error::new("read", path, Errno::INVAL).into())
}

/// The second field is the program's name in parentheses and may contain anything.
fn parse_stat(text: &[u8]) -> Option<(u8, u64)> {
    let end = text.iter().rposition(|&b| b == b')')?;
    let rest = std::str::from_utf8(text.get(end + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    // The state is field 3, the start time field 22.
    Some((state, fields.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_names_that_try_to_confuse() {
        let line = b"7 (a) R 1 (b) S 1 1 1 0 -1 4194560 9 9 9 9 9 9 9 9 20 0 1 0 4711 1 1";
        assert_eq!(parse_stat(line), Some((b'S', 4711)));
        assert_eq!(parse_stat(b"7 (a) S 1"), None);
        assert_eq!(parse_stat(b""), None);
    }

    #[test]
    fn a_reused_pid_is_another_process() {
        let own = ProcessId::own().unwrap();
        assert!(own.is_alive().unwrap());
        let before = ProcessId {
            start_time: own.start_time - 1,
            ..own
        };
        assert!(!before.is_alive().unwrap());
        assert!(before.pidfd().unwrap().is_none());
        assert!(!before.signal(0).unwrap());
    }

    #[test]
    fn a_zombie_is_not_alive() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let id = ProcessId::of(i32::try_from(child.id()).unwrap()).unwrap();
        let id = id.unwrap();
        while id.is_alive().unwrap() {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(ProcessId::of(id.pid).unwrap().is_none_or(|now| now != id));
    }
}
