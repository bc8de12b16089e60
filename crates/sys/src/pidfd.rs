//! Processes by descriptor.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::process::{Pid, PidfdFlags};

use crate::process::last_errno;
use crate::{Context, Errno, Error, Result, knob};

/// pidfd_open(2): a close-on-exec descriptor of the process.
///
/// # Errors
/// pidfd_open(2)'s; ESRCH where there is no such process.
pub fn open(pid: Pid) -> Result<OwnedFd> {
    let describe = || pid.as_raw_nonzero().to_string();
    knob::check("pidfd_open").map_err(|e| Error::new("pidfd_open", describe(), e))?;
    match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        // Older kernels say this of a process that is reaped at this moment; without flags there
        // is no other reason but a thread's number, and that names no process either.
        Err(Errno::INVAL) => Err(Errno::SRCH),
        other => other,
    }
    .context("pidfd_open", describe)
}

/// pidfd_send_signal(2), with any signal number (rustix knows no real-time signals); 0 only
/// checks that the process is there.
///
/// # Errors
/// pidfd_send_signal(2)'s; ESRCH where the process has ended and been reaped.
pub fn send_signal(pidfd: impl AsFd, signal: i32) -> Result<()> {
    let fd = pidfd.as_fd().as_raw_fd();
    let info: *const libc::siginfo_t = std::ptr::null();
    // SAFETY: the descriptor is borrowed for the call, no siginfo is passed.
    let r = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, info, 0) };
    if r == 0 {
        Ok(())
    } else {
        let args = format!("{fd}, {signal}");
        Err(Error::new("pidfd_send_signal", args, last_errno()))
    }
}

/// kill(2) of one process with any signal number, for kernels without pidfd_open.
///
/// # Errors
/// kill(2)'s.
pub fn kill(pid: Pid, signal: i32) -> Result<()> {
    let pid = pid.as_raw_nonzero().get();
    // SAFETY: integers only.
    if unsafe { libc::kill(pid, signal) } == 0 {
        Ok(())
    } else {
        Err(Error::new("kill", format!("{pid}, {signal}"), last_errno()))
    }
}

/// `struct pidfd_info` of linux/pidfd.h, first version.
#[repr(C)]
#[derive(Default)]
struct Info {
    mask: u64,
    cgroup: u64,
    ids: [u32; 11],
    exit_code: i32,
}

/// PIDFD_INFO_EXIT: the exit code is wanted, and is known.
const INFO_EXIT: u64 = 1 << 3;
/// PIDFD_GET_INFO: `_IOWR(0xff, 11, struct pidfd_info)`.
const GET_INFO: libc::Ioctl = 0xc040_ff0b;

/// How a process ended that somebody else has waited for, as wait4(2) would have told it
/// (PIDFD_GET_INFO, Linux 6.15); `None` while it has not been waited for.
///
/// # Errors
/// ioctl(2)'s; ENOTTY and EINVAL on older kernels.
pub fn exit_status(pidfd: impl AsFd) -> Result<Option<i32>> {
    let fd = pidfd.as_fd().as_raw_fd();
    let fail = |errno| Error::new("ioctl", format!("{fd}, PIDFD_GET_INFO"), errno);
    knob::check("pidfd_info").map_err(fail)?;
    let mut info = Info {
        mask: INFO_EXIT,
        ..Info::default()
    };
    // SAFETY: `info` is writable and as long as the request's number says.
    let r = unsafe { libc::ioctl(fd, GET_INFO, &raw mut info) };
    match r {
        0 => Ok((info.mask & INFO_EXIT != 0).then_some(info.exit_code)),
        // A kernel that tells of living processes only.
        _ => Err(fail(last_errno())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    #[test]
    fn a_process_is_signalled_by_descriptor() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        let pidfd = open(pid).unwrap();
        send_signal(&pidfd, 0).unwrap();
        send_signal(&pidfd, libc::SIGRTMIN() + 3).unwrap();
        let status = child.wait().unwrap();
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        assert_eq!(signal, Some(libc::SIGRTMIN() + 3));
        assert_eq!(send_signal(&pidfd, 0).unwrap_err().errno, Errno::SRCH);
        assert_eq!(kill(pid, 0).unwrap_err().errno, Errno::SRCH);
    }

    #[test]
    fn the_end_of_a_process_that_was_waited_for_is_known() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "read x; exit 7"])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        let pidfd = open(pid).unwrap();
        drop(child.stdin.take());
        child.wait().unwrap();
        match exit_status(&pidfd) {
            Ok(status) => assert_eq!(status, Some(7 << 8)),
            Err(e) => assert!(matches!(e.errno, Errno::NOTTY | Errno::INVAL), "{e}"),
        }
    }
}
