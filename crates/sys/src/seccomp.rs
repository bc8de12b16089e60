//! seccomp(2): installing a filter, and asking the kernel what it can do.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;

use crate::process::last_errno;
use crate::{Error, Result};

/// Operations of linux/seccomp.h.
const SET_MODE_FILTER: u32 = 1;
const GET_ACTION_AVAIL: u32 = 2;
/// SECCOMP_FILTER_FLAG_NEW_LISTENER.
const NEW_LISTENER: u32 = 1 << 3;
/// SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV.
const WAIT_KILLABLE_RECV: u32 = 1 << 5;

/// Installs a filter for the calling thread, for good; with NEW_LISTENER in `flags` the
/// listener's descriptor comes back, close-on-exec.
///
/// `program` is a sequence of `struct sock_filter` in this machine's byte order. The caller has
/// set no_new_privs or has CAP_SYS_ADMIN in its user namespace.
///
/// # Errors
/// seccomp(2)'s; EINVAL where the program's length is not that of 1 to 65535 instructions; ESRCH
/// where TSYNC could not reach a thread.
pub fn install(program: &[u8], flags: u32) -> Result<Option<OwnedFd>> {
    let describe = |reason: &str| {
        let count = program.len() / size_of::<libc::sock_filter>();
        format!("SECCOMP_SET_MODE_FILTER, {flags:#x}, {count} instructions{reason}")
    };
    let fail = |reason: &str, errno: Errno| Error::new("seccomp", describe(reason), errno);
    let (instructions, rest) = program.as_chunks::<8>();
    let mut filter: Vec<libc::sock_filter> = instructions.iter().map(decode).collect();
    let len = u16::try_from(filter.len()).unwrap_or(0);
    if len == 0 || !rest.is_empty() {
        return Err(fail("", Errno::INVAL));
    }
    let prog = libc::sock_fprog {
        len,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: `prog` and the `len` instructions it points to live until the call returns; the
    // kernel copies and checks them.
    let r = unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, flags, &raw const prog) };
    match (r, flags & NEW_LISTENER) {
        (0, 0) => Ok(None),
        (-1, _) => Err(fail("", last_errno())),
        // Without TSYNC_ESRCH the kernel names the thread that has another filter.
        (thread, 0) => Err(fail(&format!(", thread {thread}"), Errno::SRCH)),
        (fd, _) => {
            let fd = RawFd::try_from(fd).map_err(|_| fail("", Errno::RANGE))?;
            // SAFETY: the kernel has just made this descriptor for us and nobody else owns it.
            Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }))
        }
    }
}

const fn decode(b: &[u8; 8]) -> libc::sock_filter {
    libc::sock_filter {
        code: u16::from_ne_bytes([b[0], b[1]]),
        jt: b[2],
        jf: b[3],
        k: u32::from_ne_bytes([b[4], b[5], b[6], b[7]]),
    }
}

/// Whether the kernel knows a filter flag (SECCOMP_FILTER_FLAG_…).
///
/// A call with flags it knows gets as far as the missing program (EFAULT), one with others does
/// not (EINVAL); nothing is installed either way.
#[must_use]
pub fn knows_flag(flag: u32) -> bool {
    // This one is only taken beside a listener.
    let flags = if flag == WAIT_KILLABLE_RECV {
        flag | NEW_LISTENER
    } else {
        flag
    };
    let none: *const libc::sock_fprog = std::ptr::null();
    // SAFETY: the kernel refuses the null pointer with EFAULT.
    let r = unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, flags, none) };
    r == -1 && last_errno() == Errno::FAULT
}

/// Whether the kernel knows a filter's return value (SECCOMP_RET_…).
#[must_use]
pub fn knows_action(action: u32) -> bool {
    // SAFETY: the kernel reads one u32, which lives until the call returns.
    let r = unsafe { libc::syscall(libc::SYS_seccomp, GET_ACTION_AVAIL, 0, &raw const action) };
    r == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_asked() {
        let known = [0, 0x0003_0000, 0x0005_0000, 0x7ff0_0000, 0x7fff_0000];
        assert!(known.into_iter().all(knows_action));
        assert!(!knows_action(0x1234_0000));
        assert!(knows_flag(1) && knows_flag(WAIT_KILLABLE_RECV));
        assert!(!knows_flag(1 << 30));
    }

    #[test]
    fn a_program_of_the_wrong_length_is_refused() {
        let e = install(&[0; 7], 0).unwrap_err();
        assert_eq!(
            e.to_string(),
            "seccomp(SECCOMP_SET_MODE_FILTER, 0x0, 0 instructions): invalid argument"
        );
    }
}
