//! Signals: blocking them, reading them from a descriptor, handing a clean state to a program.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

use crate::process::last_errno;
use crate::{Error, Result};

/// A set of signals.
#[derive(Clone, Copy)]
pub struct SignalSet(libc::sigset_t);

impl std::fmt::Debug for SignalSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let members = (1..=64).filter(|&n| self.contains(n));
        f.debug_set().entries(members).finish()
    }
}

impl SignalSet {
    /// No signal.
    #[must_use]
    pub fn empty() -> Self {
        let mut set = std::mem::MaybeUninit::uninit();
        // SAFETY: sigemptyset writes the whole set.
        unsafe { libc::sigemptyset(set.as_mut_ptr()) };
        // SAFETY: sigemptyset has just initialised it.
        Self(unsafe { set.assume_init() })
    }

    /// Every signal.
    #[must_use]
    pub fn full() -> Self {
        let mut set = std::mem::MaybeUninit::uninit();
        // SAFETY: sigfillset writes the whole set.
        unsafe { libc::sigfillset(set.as_mut_ptr()) };
        // SAFETY: sigfillset has just initialised it.
        Self(unsafe { set.assume_init() })
    }

    /// With one signal more; numbers that are no signal are passed over.
    #[must_use]
    pub fn with(mut self, signal: i32) -> Self {
        // SAFETY: the set is initialised; a bad number is EINVAL, not undefined.
        unsafe { libc::sigaddset(&raw mut self.0, signal) };
        self
    }

    /// Without one signal.
    #[must_use]
    pub fn without(mut self, signal: i32) -> Self {
        // SAFETY: the set is initialised; a bad number is EINVAL, not undefined.
        unsafe { libc::sigdelset(&raw mut self.0, signal) };
        self
    }

    /// Whether a signal is in it.
    #[must_use]
    pub fn contains(&self, signal: i32) -> bool {
        // SAFETY: the set is initialised; a bad number is -1, not undefined.
        unsafe { libc::sigismember(&raw const self.0, signal) == 1 }
    }
}

/// sigprocmask(2) with SIG_SETMASK for the calling thread; returns the mask before.
///
/// # Errors
/// sigprocmask(2)'s.
pub fn set_mask(set: &SignalSet) -> Result<SignalSet> {
    let mut old = SignalSet::empty();
    // SAFETY: both sets are initialised and live through the call.
    let r = unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const set.0, &raw mut old.0) };
    if r == 0 {
        Ok(old)
    } else {
        let args = format!("SIG_SETMASK, {set:?}");
        Err(Error::new("sigprocmask", args, Errno::from_raw_os_error(r)))
    }
}

/// signalfd(2): a descriptor, close-on-exec and non-blocking, that reads the signals of `set`.
/// They must be blocked.
///
/// # Errors
/// signalfd(2)'s.
pub fn signalfd(set: &SignalSet) -> Result<OwnedFd> {
    let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
    // SAFETY: the set is initialised and lives through the call.
    let fd = unsafe { libc::signalfd(-1, &raw const set.0, flags) };
    if fd < 0 {
        return Err(Error::new("signalfd", format!("-1, {set:?}"), last_errno()));
    }
    // SAFETY: the kernel has just made this descriptor for us and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
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
    // SAFETY: SIG_DFL installs no handler.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    set_mask(&SignalSet::empty()).map(drop)
}

/// For a child that is to become another program: no signal is blocked, and none ignored but
/// SIGPIPE, which [`reset_for_exec`] leaves to the last. Whoever started us may have had some
/// ignored, a shell SIGINT and SIGQUIT in the background, nohup(1) SIGHUP; execve(2) keeps that.
///
/// # Errors
/// sigprocmask(2)'s.
pub fn forget_inherited() -> Result<()> {
    /// SIGRTMAX of signal(7).
    const LAST: i32 = 64;
    for signal in (1..=LAST).filter(|&signal| signal != libc::SIGPIPE) {
        // SAFETY: SIG_DFL installs no handler. SIGKILL, SIGSTOP and what is the C library's own are
        // refused.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
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
        assert!(SignalSet::full().contains(libc::SIGHUP));
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
