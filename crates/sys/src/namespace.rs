//! setns(2) and unshare(2) with any namespace flag.

use std::os::fd::{AsFd, AsRawFd};

use crate::process::last_errno;
use crate::{Error, Result};

/// setns(2) into one namespace: `fd` refers to it (`/proc/PID/ns/…`), `kind` is its CLONE_NEW…
/// flag, and the kernel refuses another kind with EINVAL.
///
/// # Errors
/// setns(2)'s.
pub fn setns(fd: impl AsFd, kind: u64) -> Result<()> {
    set(fd.as_fd().as_raw_fd(), kind)
}

/// setns(2) into several namespaces of one process at once, by its pidfd: the kernel checks all
/// rights before it changes anything (Linux 5.8).
///
/// # Errors
/// setns(2)'s; ENOSYS where [`knob`](crate::knob) fakes it. Before Linux 5.8 it is EINVAL.
pub fn setns_all(pidfd: impl AsFd, kinds: u64) -> Result<()> {
    let fd = pidfd.as_fd().as_raw_fd();
    let describe = || format!("pidfd {fd}, {kinds:#x}");
    crate::knob::check("setns_pidfd").map_err(|e| Error::new("setns", describe(), e))?;
    set(fd, kinds)
}

fn set(fd: i32, flags: u64) -> Result<()> {
    let describe = || format!("{fd}, {flags:#x}");
    let bits = i32::try_from(flags)
        .map_err(|_| Error::new("setns", describe(), rustix::io::Errno::INVAL))?;
    // SAFETY: integers only; the descriptor is borrowed by the caller for the call.
    if unsafe { libc::setns(fd, bits) } == 0 {
        Ok(())
    } else {
        Err(Error::new("setns", describe(), last_errno()))
    }
}

/// unshare(2) with CLONE_NEW… flags only.
///
/// # Errors
/// unshare(2)'s; EINVAL for a flag that is not of a namespace.
pub fn unshare(kinds: u64) -> Result<()> {
    /// CLONE_NEW{TIME,NS,CGROUP,UTS,IPC,USER,PID,NET}.
    const NAMESPACES: u64 = 0x7e02_0080;
    let describe = || format!("{kinds:#x}");
    let bits = i32::try_from(kinds)
        .ok()
        .filter(|_| kinds & !NAMESPACES == 0);
    let bits = bits.ok_or_else(|| Error::new("unshare", describe(), rustix::io::Errno::INVAL))?;
    // SAFETY: namespaces only: no table of descriptors or of memory is unshared under Rust's feet.
    if unsafe { libc::unshare(bits) } == 0 {
        Ok(())
    } else {
        Err(Error::new("unshare", describe(), last_errno()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    const NEWUTS: u64 = 0x0400_0000;
    const NEWIPC: u64 = 0x0800_0000;

    #[test]
    fn there_and_back() {
        std::thread::spawn(|| {
            let link = || std::fs::read_link("/proc/thread-self/ns/uts").unwrap();
            let (home, before) = (
                std::fs::File::open("/proc/thread-self/ns/uts").unwrap(),
                link(),
            );
            unshare(NEWUTS).unwrap();
            assert_ne!(link(), before);
            assert_eq!(setns(&home, NEWIPC).unwrap_err().errno, Errno::INVAL);
            setns(&home, NEWUTS).unwrap();
            assert_eq!(link(), before);
            assert_eq!(unshare(0x400).unwrap_err().errno, Errno::INVAL);
        })
        .join()
        .unwrap();
    }
}
