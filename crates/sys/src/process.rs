//! Processes: clone3, close_range, and the calls of a task about itself that rustix lacks.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::io::Errno;
use rustix::process::Pid;

use crate::{Context as _, Error, Result, knob};

/// What [`clone3`] is asked for.
#[derive(Debug, Default)]
pub struct CloneArgs<'fd> {
    /// CLONE_NEW… flags and CLONE_PARENT.
    pub flags: u64,
    /// Place the child in this cgroup v2 directory.
    pub cgroup: Option<BorrowedFd<'fd>>,
}

/// The two sides of a clone.
#[derive(Debug)]
pub enum Cloned {
    /// In the child.
    Child,
    /// In the parent: the child's pid and a pidfd for it.
    Parent {
        /// In the caller's pid namespace.
        pid: Pid,
        /// Close-on-exec.
        pidfd: OwnedFd,
    },
}

/// What [`own_stat`] has read; nothing in a child.
static OWN_STAT: Mutex<Option<Vec<u8>>> = Mutex::new(None);

/// proc_pid_stat(5) of this process, as it was when this was first called: the kernel takes a
/// while to write it.
///
/// # Errors
/// open(2)'s, read(2)'s.
pub fn own_stat() -> Result<Vec<u8>> {
    let mut kept = OWN_STAT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(text) = &*kept {
        return Ok(text.clone());
    }
    let text = crate::file::read("/proc/self/stat".as_ref())?;
    Ok(kept.insert(text).clone())
}

const CLONE_PIDFD: u64 = 0x1000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
/// CLONE_PARENT of clone(2): the child becomes a sibling.
pub const CLONE_PARENT: u64 = 0x8000;

/// `struct clone_args` of linux/sched.h, version 2.
#[repr(C)]
#[derive(Default)]
struct RawCloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// fork(2) with namespaces, a pidfd, and a cgroup: clone3(2) without shared memory.
///
/// Must only be called by a single-threaded process: the child goes on with a copy of the heap,
/// and a lock held by another thread would stay locked in it for ever.
///
/// On kernels before 5.3 clone(2) does it, which knows no cgroup.
///
/// # Errors
/// clone3(2)'s; ENOSYS also where [`knob`] fakes it and a cgroup is asked for.
pub fn clone3(args: &CloneArgs<'_>) -> Result<Cloned> {
    let cloned = knob::check("clone3")
        .map_err(|e| Error::new("clone3", args.describe(), e))
        .and_then(|()| raw_clone3(args));
    match cloned {
        Err(e) if e.errno == Errno::NOSYS && args.cgroup.is_none() => raw_clone(args),
        other => other,
    }
}

impl CloneArgs<'_> {
    fn describe(&self) -> String {
        format!("flags={:#x}, cgroup={:?}", self.flags, self.cgroup)
    }

    /// The child's death is told by SIGCHLD; CLONE_PARENT takes that over from the caller.
    const fn exit_signal(&self) -> libc::c_int {
        if self.flags & CLONE_PARENT == 0 {
            libc::SIGCHLD
        } else {
            0
        }
    }
}

/// clone(2), Linux 5.2 for CLONE_PIDFD.
fn raw_clone(args: &CloneArgs<'_>) -> Result<Cloned> {
    /// The low byte is the exit signal here, where clone3(2) has CLONE_NEWTIME.
    const SIGNAL_MASK: u64 = 0xff;
    if args.flags & SIGNAL_MASK != 0 {
        return Err(Error::new("clone", args.describe(), Errno::NOSYS));
    }
    let signal = u64::from(args.exit_signal().unsigned_abs());
    let flags = args.flags | CLONE_PIDFD | signal;
    let mut pidfd: i32 = -1;
    let null: *mut libc::c_void = std::ptr::null_mut();
    // SAFETY: `pidfd` is writable and stands where clone(2) takes the parent's tid on every
    // architecture; without CLONE_VM and with a null stack the child runs on a copy of this one.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, null, &raw mut pidfd, null, null) };
    outcome("clone", pid, pidfd, args)
}

fn raw_clone3(args: &CloneArgs<'_>) -> Result<Cloned> {
    let mut pidfd: i32 = -1;
    let mut raw = RawCloneArgs {
        flags: args.flags | CLONE_PIDFD,
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: u64::from(args.exit_signal().unsigned_abs()),
        ..RawCloneArgs::default()
    };
    if let Some(cgroup) = args.cgroup {
        raw.flags |= CLONE_INTO_CGROUP;
        raw.cgroup = u64::try_from(cgroup.as_raw_fd()).unwrap_or(u64::MAX);
    }
    // SAFETY: `raw` is a valid clone_args that outlives the call, `pidfd` is writable, and
    // without CLONE_VM and with stack 0 the child runs on a copy of this stack, like after fork.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut raw, size_of::<RawCloneArgs>()) };
    outcome("clone3", pid, pidfd, args)
}

fn outcome(
    call: &'static str,
    pid: libc::c_long,
    pidfd: i32,
    args: &CloneArgs<'_>,
) -> Result<Cloned> {
    match pid {
        0 => {
            *OWN_STAT.lock().unwrap_or_else(PoisonError::into_inner) = None;
            Ok(Cloned::Child)
        }
        -1 => Err(Error::new(call, args.describe(), last_errno())),
        pid => {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
            let pid = pid.filter(|_| pidfd >= 0);
            let pid = pid.ok_or_else(|| Error::new(call, args.describe(), Errno::RANGE))?;
            // SAFETY: the kernel has just made this descriptor for us and nobody else owns it.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Cloned::Parent { pid, pidfd })
        }
    }
}

/// Marks all descriptors from `first` upwards close-on-exec: close_range(2), or one by one on
/// kernels before 5.11.
///
/// # Errors
/// close_range(2)'s; those of reading /proc/self/fd where that is all there is.
pub fn close_on_exec_from(first: u32) -> Result<()> {
    match close_range(first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) {
        Err(e) if matches!(e.errno, Errno::NOSYS | Errno::INVAL) => {
            for_all_from(first, |fd| {
                // SAFETY: integers only; a number that is no descriptor is EBADF.
                unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
            })
        }
        other => other,
    }
}

/// Whether `fd` is open and not close-on-exec: passed to this program by whoever started it.
#[must_use]
pub fn is_inherited(fd: u32) -> bool {
    let fd = i32::try_from(fd).unwrap_or(-1);
    // SAFETY: integers only; a number that is no descriptor is EBADF.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    flags >= 0 && flags & libc::FD_CLOEXEC == 0
}

/// Closes all descriptors from `first` upwards except those of `keep`, in ascending order.
///
/// Rust values that own a closed one must never be used or dropped again: this is for a forked
/// child that never returns to the frames of its parent.
///
/// # Errors
/// close_range(2)'s; those of reading /proc/self/fd where that is all there is.
pub fn close_all_from(first: u32, keep: &[u32]) -> Result<()> {
    let mut start = first;
    for &kept in keep.iter().filter(|&&kept| kept >= first) {
        if start < kept {
            close_between(start, kept - 1)?;
        }
        start = kept.saturating_add(1);
    }
    close_between(start, u32::MAX)
}

fn close_between(first: u32, last: u32) -> Result<()> {
    match close_range(first, last, 0) {
        Err(e) if matches!(e.errno, Errno::NOSYS | Errno::INVAL) => for_all_from(first, |fd| {
            if u32::try_from(fd).is_ok_and(|fd| fd <= last) {
                // SAFETY: the caller vouches that no Rust value uses this descriptor any more.
                unsafe { libc::close(fd) };
            }
        }),
        other => other,
    }
}

fn close_range(first: u32, last: u32, flags: libc::c_uint) -> Result<()> {
    let describe = || format!("{first}, {last}, {flags}");
    knob::check("close_range").map_err(|e| Error::new("close_range", describe(), e))?;
    // SAFETY: takes integers only; the callers see to it that nobody owns what is closed.
    let r = unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
    if r == 0 {
        Ok(())
    } else {
        Err(Error::new("close_range", describe(), last_errno()))
    }
}

/// Calls `f` for every open descriptor from `first` upwards. They are listed before, because `f`
/// may close the one that lists.
fn for_all_from(first: u32, f: impl Fn(i32)) -> Result<()> {
    let path = "/proc/self/fd";
    let entries = std::fs::read_dir(path).context("open", || path)?;
    let numbers: Vec<i32> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|&fd: &i32| u32::try_from(fd).is_ok_and(|fd| fd >= first))
        .collect();
    numbers.into_iter().for_each(f);
    Ok(())
}

/// execve(2); returns only on failure.
pub fn execve(path: &CStr, argv: &[&CStr], envp: &[&CStr]) -> Error {
    let terminated = |words: &[&CStr]| -> Vec<*const libc::c_char> {
        words
            .iter()
            .map(|w| w.as_ptr())
            .chain([std::ptr::null()])
            .collect()
    };
    let (argv, envp) = (terminated(argv), terminated(envp));
    // SAFETY: all pointers are to NUL-terminated strings or NULL-terminated arrays of them that
    // live until the call returns.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    Error::new("execve", format!("{path:?}"), last_errno())
}

/// A child that has ended and waits to be waited for, if there is one (waitid(2), WNOWAIT).
///
/// # Errors
/// waitid(2)'s, except that there are no children.
pub fn peek_ended_child() -> Result<Option<Pid>> {
    // SAFETY: an all-zero siginfo is a valid value of that plain C struct.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `info` is writable and outlives the call.
    let r = unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, options) };
    if r != 0 {
        return match last_errno() {
            Errno::CHILD | Errno::INTR => Ok(None),
            errno => Err(Error::new("waitid", "P_ALL, WNOHANG|WNOWAIT", errno)),
        };
    }
    // SAFETY: waitid(2) filled in the variant for children, or left all of it zero.
    let pid = unsafe { info.si_pid() };
    Ok(Pid::from_raw(pid))
}

/// _exit(2): ends the process without running destructors or flushing buffers, as a forked child
/// must that shares them with its parent.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: takes an integer and does not return.
    unsafe { libc::_exit(code) }
}

/// The calling thread's errno.
pub(crate) fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// The descriptors that a service manager has passed to this process (sd_listen_fds(3)), close-on-exec
/// from now on. They are handed out once: a second call has none.
pub fn passed_descriptors() -> Vec<OwnedFd> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let number = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    let ours = number("LISTEN_PID") == Some(std::process::id());
    let count = number("LISTEN_FDS").filter(|_| ours).unwrap_or(0);
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Vec::new();
    }
    let mut passed = Vec::new();
    for fd in (3..).take(count as usize) {
        // SAFETY: a number is no memory; F_SETFD of one that is not open is EBADF.
        if unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } == 0 {
            // SAFETY: it is open, and was opened for us by whoever started us; nobody here has it,
            // and nobody gets it a second time.
            passed.push(unsafe { OwnedFd::from_raw_fd(fd) });
        }
    }
    passed
}
