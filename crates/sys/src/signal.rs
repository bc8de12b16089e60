//! Signals: blocking them, reading them from a descriptor, handing a clean state to a program.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

use crate::process::last_errno;
use crate::{Error, Result};

/// SIGRTMAX of signal(7).
const LAST: i32 = 64;
/// Size of the kernel's sets, in bytes.
const SET: usize = size_of::<u64>();

/// A set of signals, as the kernel has it. The C libraries' own functions do not let programs name
/// signals that they use themselves, and do not agree on which: for musl 34 is one of them, for
/// the rest of the world it is SIGRTMIN.
#[derive(Clone, Copy)]
pub struct SignalSet(u64);

impl std::fmt::Debug for SignalSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let members = (1..=LAST).filter(|&n| self.contains(n));
        f.debug_set().entries(members).finish()
    }
}

impl SignalSet {
    /// No signal.
    #[must_use]
    pub const fn empty() -> Self {
        Self(0)
    }

    /// Every signal but 32 and 33, which C libraries send themselves where there are threads.
    #[must_use]
    pub const fn full() -> Self {
        Self(u64::MAX).without(32).without(33)
    }

    /// With one signal more; numbers that are no signal are passed over.
    #[must_use]
    pub const fn with(self, signal: i32) -> Self {
        Self(self.0 | bit(signal))
    }

    /// Without one signal.
    #[must_use]
    pub const fn without(self, signal: i32) -> Self {
        Self(self.0 & !bit(signal))
    }

    /// Whether a signal is in it.
    #[must_use]
    pub const fn contains(&self, signal: i32) -> bool {
        self.0 & bit(signal) != 0
    }
}

const fn bit(signal: i32) -> u64 {
    if signal < 1 || signal > LAST {
        0
    } else {
        1 << (signal - 1)
    }
}

/// sigprocmask(2) with SIG_SETMASK for the calling thread; returns the mask before.
///
/// # Errors
/// sigprocmask(2)'s.
pub fn set_mask(set: &SignalSet) -> Result<SignalSet> {
    let mut old = SignalSet::empty();
    let (call, how) = (libc::SYS_rt_sigprocmask, libc::SIG_SETMASK);
    // SAFETY: both sets are initialised, have the size given, and live through the call.
    let r = unsafe { libc::syscall(call, how, &raw const set.0, &raw mut old.0, SET) };
    if r == 0 {
        Ok(old)
    } else {
        let args = format!("SIG_SETMASK, {set:?}");
        Err(Error::new("sigprocmask", args, last_errno()))
    }
}

/// signalfd(2): a descriptor, close-on-exec and non-blocking, that reads the signals of `set`.
/// They must be blocked.
///
/// # Errors
/// signalfd(2)'s.
pub fn signalfd(set: &SignalSet) -> Result<OwnedFd> {
    let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
    // SAFETY: the set is initialised, has the size given, and lives through the call.
    let fd = unsafe { libc::syscall(libc::SYS_signalfd4, -1, &raw const set.0, SET, flags) };
    match i32::try_from(fd) {
        // SAFETY: the kernel has just made this descriptor for us and nobody else owns it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(Error::new("signalfd", format!("-1, {set:?}"), last_errno())),
    }
}

/// sigaction(2) with SIG_DFL. Numbers that are no signal, SIGKILL and SIGSTOP are refused, which
/// changes nothing.
fn set_default(signal: i32) {
    // The kernel's struct is no longer than this on any architecture; SIG_DFL, no flags, an empty
    // set are zeros, wherever they are in it.
    let action = [0_u64; 4];
    let old: *mut libc::c_void = std::ptr::null_mut();
    let call = libc::SYS_rt_sigaction;
    // SAFETY: `action` is readable, the old one is not asked for, SIG_DFL installs no handler.
    unsafe { libc::syscall(call, signal, &raw const action, old, SET) };
}

/// The next signal waiting on a descriptor from [`signalfd`], if any.
///
/// # Errors
/// read(2)'s.
pub fn read_signal(fd: &OwnedFd) -> Result<Option<i32>> {
    let mut info = [0_u8; size_of::<libc::signalfd_siginfo>()];
    match rustix::io::read(fd, &mut info) {
        Ok(n) if n == info.len() => {
            // `ssi_signo` is the first field of signalfd_siginfo.
            let number = u32::from_ne_bytes([info[0], info[1], info[2], info[3]]);
            Ok(i32::try_from(number).ok())
        }
        Ok(_) | Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(e) => Err(Error::new(
            "read",
            format!("signalfd {}", fd.as_raw_fd()),
            e,
        )),
    }
}

/// Gives the program about to be executed what this one has changed: no signal blocked, SIGPIPE
/// with its default action (the Rust start-up code ignores it, and execve(2) keeps that).
///
/// # Errors
/// sigprocmask(2)'s.
pub fn reset_for_exec() -> Result<()> {
    set_default(libc::SIGPIPE);
    set_mask(&SignalSet::empty()).map(drop)
}

/// For a child that is to become another program: no signal is blocked, and none ignored but
/// SIGPIPE, which [`reset_for_exec`] leaves to the last. Whoever started us may have had some
/// ignored, a shell SIGINT and SIGQUIT in the background, nohup(1) SIGHUP; execve(2) keeps that.
///
/// # Errors
/// sigprocmask(2)'s.
pub fn forget_inherited() -> Result<()> {
    for signal in (1..=LAST).filter(|&signal| signal != libc::SIGPIPE) {
        set_default(signal);
    }
    set_mask(&SignalSet::empty()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_knows_its_members() {
        let set = SignalSet::empty().with(libc::SIGWINCH).with(libc::SIGTERM);
        assert!(set.contains(libc::SIGWINCH));
        assert!(!set.without(libc::SIGTERM).contains(libc::SIGTERM));
        for (signal, is_in) in [
            (0, false),
            (1, true),
            (32, false),
            (34, true),
            (64, true),
            (65, false),
        ] {
            assert_eq!(SignalSet::full().contains(signal), is_in, "{signal}");
        }
        assert_eq!(SignalSet::empty().with(0).with(65).0, 0);
        assert_eq!(format!("{:?}", SignalSet::empty().with(15)), "{15}");
    }

    #[test]
    fn a_blocked_signal_is_read_from_the_descriptor() {
        std::thread::spawn(|| {
            let set = SignalSet::empty().with(libc::SIGUSR1);
            let before = set_mask(&set).unwrap();
            let fd = signalfd(&set).unwrap();
            assert_eq!(read_signal(&fd).unwrap(), None);
            // SAFETY: the calling thread is alive.
            let me = unsafe { libc::pthread_self() };
            // SAFETY: as above; the signal is blocked in this thread.
            unsafe { libc::pthread_kill(me, libc::SIGUSR1) };
            assert_eq!(read_signal(&fd).unwrap(), Some(libc::SIGUSR1));
            set_mask(&before).unwrap();
        })
        .join()
        .unwrap();
    }
}
