//! Waiting for a child and learning what it used: wait4(2).

use std::time::Duration;

use rustix::process::Pid;

use crate::process::last_errno;
use crate::{Error, Result};

/// How a child ended, and what it and the descendants that it waited for used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ended {
    /// The exit code, or 128 and the number of the signal that killed it.
    pub code: i32,
    /// User and system time.
    pub cpu: Duration,
    /// The largest resident set of any of them, in KiB. Counts from the fork on: a child that
    /// executes a program starts from its parent's pages.
    pub max_rss_kib: u64,
}

/// wait4(2) for one child, until it ends.
///
/// # Errors
/// wait4(2)'s.
pub fn wait(pid: Pid) -> Result<Ended> {
    let mut status = 0;
    // SAFETY: an all-zero rusage is a valid value of that plain C struct.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    let raw = pid.as_raw_nonzero().get();
    // SAFETY: both pointers are to writable values that outlive the call.
    let r = unsafe { libc::wait4(raw, &raw mut status, 0, &raw mut usage) };
    if r == -1 {
        return Err(Error::new("wait4", raw.to_string(), last_errno()));
    }
    let code = if libc::WIFEXITED(status) {
        libc::WEXITSTATUS(status)
    } else {
        128 + libc::WTERMSIG(status)
    };
    Ok(Ended {
        code,
        cpu: duration(usage.ru_utime) + duration(usage.ru_stime),
        max_rss_kib: u64::try_from(usage.ru_maxrss).unwrap_or(0),
    })
}

fn duration(t: libc::timeval) -> Duration {
    let secs = u64::try_from(t.tv_sec).unwrap_or(0);
    let micros = u64::try_from(t.tv_usec).unwrap_or(0);
    Duration::from_secs(secs) + Duration::from_micros(micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_ends_with_its_code_and_its_costs() {
        #[expect(
            clippy::zombie_processes,
            reason = "the function under test waits for it"
        )]
        let child = std::process::Command::new("sh")
            .args(["-c", "exit 7"])
            .spawn()
            .expect("sh starts");
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let ended = wait(pid.expect("a pid is positive")).expect("it is our child");
        assert_eq!(ended.code, 7);
        assert!(ended.max_rss_kib > 0);
    }
}
