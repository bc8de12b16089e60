//! Compiled profiles in the kernel: each test installs one in a child and sees what its calls do.

#![allow(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use seccomp::profile::Template;
use seccomp::{Filter, action, compile};

/// How a child ended.
#[derive(Debug, Eq, PartialEq)]
enum Ended {
    /// With this exit status.
    Status(i32),
    /// By this signal.
    Signal(i32),
}

/// Exit status of a child that could not install its filter.
const NOT_INSTALLED: i32 = 99;

fn filter(json: &str) -> Filter {
    compile(&serde_json::from_str(json).unwrap()).unwrap()
}

/// A filter that answers mkdir and mkdirat with `action`, and nothing else.
fn on_mkdir(action: &str) -> Filter {
    filter(&format!(
        r#"{{"defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{{"names": ["mkdir", "mkdirat"], "action": {action}}}]}}"#
    ))
}

/// Starts a child under the filter. It may only make system calls: other threads of the test
/// have not come along.
fn start(filter: &Filter, body: impl FnOnce(Option<OwnedFd>) -> i32) -> i32 {
    let program = filter.to_bytes();
    // SAFETY: the child makes system calls and ends with _exit.
    let pid = unsafe { libc::fork() };
    if pid != 0 {
        return pid;
    }
    rustix::thread::set_no_new_privs(true).unwrap();
    let status = match sys::seccomp::install(&program, filter.flags) {
        Ok(listener) => body(listener),
        Err(_) => NOT_INSTALLED,
    };
    // SAFETY: ends the process.
    unsafe { libc::_exit(status) }
}

fn wait(pid: i32) -> Ended {
    let mut status = 0;
    // SAFETY: `status` is writable.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    if libc::WIFSIGNALED(status) {
        Ended::Signal(libc::WTERMSIG(status))
    } else {
        Ended::Status(libc::WEXITSTATUS(status))
    }
}

fn run(filter: &Filter, body: impl FnOnce() -> i32) -> Ended {
    wait(start(filter, |_| body()))
}

/// The errno of a raw call with three arguments, or 0.
fn call(number: i64, args: [i64; 3]) -> i32 {
    // SAFETY: only called with calls that take integers or null pointers.
    let r = unsafe { libc::syscall(number, args[0], args[1], args[2]) };
    if r == -1 {
        std::io::Error::last_os_error().raw_os_error().unwrap_or(-1)
    } else {
        0
    }
}

/// mkdir of a null pointer: EFAULT where the call is let through.
fn mkdir() -> i32 {
    call(libc::SYS_mkdirat, [0, 0, 0])
}

#[test]
fn an_errno_is_returned() {
    let eperm = on_mkdir(r#""SCMP_ACT_ERRNO""#);
    assert_eq!(run(&eperm, mkdir), Ended::Status(libc::EPERM));
    let ebusy = on_mkdir(r#""SCMP_ACT_ERRNO", "errnoRet": 16"#);
    assert_eq!(run(&ebusy, mkdir), Ended::Status(libc::EBUSY));
    let getpid = || call(libc::SYS_getpid, [0; 3]);
    assert_eq!(run(&ebusy, getpid), Ended::Status(0));
}

#[test]
fn killing_actions_kill_with_sigsys() {
    for word in ["KILL", "KILL_THREAD", "KILL_PROCESS", "TRAP"] {
        let filter = on_mkdir(&format!("\"SCMP_ACT_{word}\""));
        assert_eq!(run(&filter, mkdir), Ended::Signal(libc::SIGSYS), "{word}");
        assert_eq!(run(&filter, || 7), Ended::Status(7), "{word}");
    }
}

#[test]
fn log_lets_pass_and_trace_without_a_tracer_does_not() {
    let log = on_mkdir(r#""SCMP_ACT_LOG""#);
    assert_eq!(run(&log, mkdir), Ended::Status(libc::EFAULT));
    let trace = on_mkdir(r#""SCMP_ACT_TRACE""#);
    assert_eq!(run(&trace, mkdir), Ended::Status(libc::ENOSYS));
}

#[test]
fn arguments_are_compared_as_64_bit_values() {
    let filter = filter(
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{
            "names": ["personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95,
            "args": [{"index": 0, "value": 4294967301, "op": "SCMP_CMP_EQ"},
                     {"index": 1, "value": 255, "valueTwo": 7, "op": "SCMP_CMP_MASKED_EQ"},
                     {"index": 2, "value": 18446744073709551614, "op": "SCMP_CMP_GT"}]}]}"#,
    );
    let tries = [
        ([0x1_0000_0005, 0xff07, -1], libc::EOPNOTSUPP),
        // personality(2) takes an unsigned int: what passes succeeds.
        ([0x1_0000_0006, 0xff07, -1], 0),
        ([0x2_0000_0005, 0xff07, -1], 0),
        ([0x1_0000_0005, 0xff06, -1], 0),
        ([0x1_0000_0005, 0xff07, -2], 0),
    ];
    for (args, errno) in tries {
        let ended = run(&filter, || call(libc::SYS_personality, args));
        assert_eq!(ended, Ended::Status(errno), "{args:x?}");
    }
}

#[test]
fn every_flag_is_taken() {
    for (word, bit) in seccomp::flags() {
        assert!(sys::seccomp::knows_flag(bit), "{word}");
        for action in ["ERRNO", "NOTIFY"] {
            let json = format!(
                r#"{{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["{word}"],
                    "syscalls": [{{"names": ["mkdirat"], "action": "SCMP_ACT_{action}"}}]}}"#
            );
            let filter = filter(&json);
            assert_eq!(
                filter.warnings.is_empty(),
                action == "NOTIFY" || !word.contains("WAIT")
            );
            let ended = wait(start(&filter, |listener| i32::from(listener.is_some())));
            assert_eq!(
                ended,
                Ended::Status(i32::from(action == "NOTIFY")),
                "{word} {action}"
            );
        }
    }
}

/// `struct seccomp_notif` and `struct seccomp_notif_resp` of linux/seccomp.h.
#[repr(C)]
#[derive(Default)]
struct Notification {
    id: u64,
    pid: u32,
    flags: u32,
    nr: i32,
    arch: u32,
    instruction_pointer: u64,
    args: [u64; 6],
}

#[repr(C)]
struct Response {
    id: u64,
    val: i64,
    error: i32,
    flags: u32,
}

/// SECCOMP_IOCTL_NOTIF_RECV and _SEND.
const RECV: u64 = 0xc050_2100;
const SEND: u64 = 0xc018_2101;

fn send_fd(socket: &UnixStream, fd: &OwnedFd) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds = [fd.as_fd()];
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(&fds)));
    let sent = sendmsg(
        socket,
        &[IoSlice::new(b"x")],
        &mut ancillary,
        SendFlags::empty(),
    );
    assert_eq!(sent, Ok(1));
}

fn receive_fd(socket: &UnixStream) -> OwnedFd {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut byte)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )
    .unwrap();
    let mut messages = ancillary.drain();
    match messages.next() {
        Some(RecvAncillaryMessage::ScmRights(mut fds)) => fds.next().unwrap(),
        _ => unreachable!("no descriptor came"),
    }
}

#[test]
fn a_listener_is_asked() {
    let filter = on_mkdir(r#""SCMP_ACT_NOTIFY""#);
    let (ours, theirs) = UnixStream::pair().unwrap();
    let pid = start(&filter, |listener| {
        send_fd(&theirs, &listener.unwrap());
        call(libc::SYS_mkdirat, [1, 0, 3])
    });
    let listener = receive_fd(&ours);
    let mut asked = Notification::default();
    // SAFETY: `asked` is a zeroed seccomp_notif that the kernel fills.
    let r = unsafe { libc::ioctl(listener.as_raw_fd(), RECV, &raw mut asked) };
    assert_eq!(r, 0);
    assert_eq!(i64::from(asked.nr), libc::SYS_mkdirat);
    assert_eq!((asked.pid.cast_signed(), asked.args[2]), (pid, 3));
    let answer = Response {
        id: asked.id,
        val: 0,
        error: -libc::EXDEV,
        flags: 0,
    };
    // SAFETY: `answer` is a seccomp_notif_resp that the kernel reads.
    let r = unsafe { libc::ioctl(listener.as_raw_fd(), SEND, &raw const answer) };
    assert_eq!(r, 0);
    assert_eq!(wait(pid), Ended::Status(libc::EXDEV));
}

#[test]
fn the_default_profile_works() {
    let filter = compile(&Template::default_profile().unwrap().resolve(&[])).unwrap();
    let errno = |number, args| run(&filter, || call(number, args));
    assert_eq!(errno(libc::SYS_getpid, [0; 3]), Ended::Status(0));
    for denied in [
        libc::SYS_chroot,
        libc::SYS_swapon,
        libc::SYS_bpf,
        libc::SYS_userfaultfd,
    ] {
        assert_eq!(errno(denied, [0; 3]), Ended::Status(libc::EPERM));
    }
    let vsock = i64::from(libc::AF_VSOCK);
    assert_eq!(
        errno(libc::SYS_socket, [vsock, 1, 0]),
        Ended::Status(libc::EPERM)
    );
    assert_eq!(errno(libc::SYS_socket, [1, 1, 0]), Ended::Status(0));
    assert_eq!(errno(5000, [0; 3]), Ended::Status(libc::ENOSYS));

    let pid = start(&filter, |_| {
        let argv = [
            c"busybox",
            c"sh",
            c"-c",
            c"busybox ls / >/dev/null && exit 5",
        ];
        sys::process::execve(c"/bin/busybox", &argv, &[]);
        1
    });
    assert_eq!(wait(pid), Ended::Status(5));
}

#[test]
fn an_unknown_call_is_not_there() {
    let filter = filter(
        r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls":
            [{"names": ["exit", "exit_group", "openat2"], "action": "SCMP_ACT_ALLOW"}]}"#,
    );
    let errno = |number| run(&filter, || call(number, [-1, 0, 0]));
    // Older than openat2 (437): denied. Newer: not there.
    assert_eq!(errno(libc::SYS_getpid), Ended::Status(libc::EPERM));
    assert_eq!(errno(libc::SYS_faccessat2), Ended::Status(libc::ENOSYS));
}

/// The other two ways into an x86_64 kernel.
#[cfg(target_arch = "x86_64")]
mod other_abis {
    use super::*;

    /// getpid by `int 0x80`, as a 32-bit program calls it.
    fn getpid_32() -> i32 {
        let mut result = 20_i32;
        // SAFETY: getpid takes no arguments and touches no memory.
        unsafe {
            std::arch::asm!("int 0x80", inout("eax") result, options(nostack));
        }
        i32::from(result != rustix::process::getpid().as_raw_pid())
    }

    fn getpid_x32() -> i32 {
        call(libc::SYS_getpid | i64::from(seccomp::X32_BIT), [0; 3])
    }

    #[test]
    fn a_foreign_call_kills() {
        let native = on_mkdir(r#""SCMP_ACT_LOG""#);
        assert_eq!(run(&native, getpid_32), Ended::Signal(libc::SIGSYS));
        assert_eq!(run(&native, getpid_x32), Ended::Signal(libc::SIGSYS));
    }

    #[test]
    fn a_listed_architecture_has_its_own_rules() {
        let listed = filter(
            r#"{"defaultAction": "SCMP_ACT_ALLOW",
                "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
                "syscalls": [{"names": ["mkdirat"], "action": "SCMP_ACT_ERRNO"}]}"#,
        );
        assert_eq!(run(&listed, getpid_32), Ended::Status(0));
        // This kernel may or may not have x32; the filter lets the call reach it.
        assert!(matches!(
            run(&listed, getpid_x32),
            Ended::Status(0 | libc::ENOSYS)
        ));
        assert_eq!(run(&listed, mkdir), Ended::Status(libc::EPERM));
    }
}

/// Long jumps and thousands of instructions pass the kernel's checks.
#[test]
fn a_huge_profile_is_installed() {
    let names: Vec<&str> = seccomp::syscalls::names()
        .filter(|n| !["exit", "exit_group"].contains(n))
        .collect();
    // Neighbours differ, so that no ranges come together.
    let rules: Vec<String> = (1..)
        .zip(names)
        .map(|(i, name)| {
            let errno = i % 100 + 1;
            format!(
                r#"{{"names": ["{name}"], "action": "SCMP_ACT_ERRNO", "errnoRet": {errno},
                    "args": [{{"index": 5, "value": {i}, "op": "SCMP_CMP_LE"}}]}}"#
            )
        })
        .collect();
    let filter = filter(&format!(
        r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{}]}}"#,
        rules.join(", ")
    ));
    assert!(filter.program.len() > 2500, "{}", filter.program.len());
    let denied = |number: i64| {
        run(&filter, || {
            // SAFETY: getpid and openat2 with null pointers.
            let r = unsafe { libc::syscall(number, 0, 0, 0, 0, 0, 0) };
            if r == -1 {
                std::io::Error::last_os_error().raw_os_error().unwrap_or(-1)
            } else {
                0
            }
        })
    };
    assert!(matches!(denied(libc::SYS_getpid), Ended::Status(1..=100)));
    assert!(matches!(denied(libc::SYS_openat2), Ended::Status(1..=100)));
    assert_eq!(run(&filter, || 3), Ended::Status(3));
}

#[test]
fn the_kernel_knows_every_action() {
    let all = [
        action::KILL_PROCESS,
        action::KILL_THREAD,
        action::TRAP,
        action::ERRNO,
    ];
    let all = all
        .into_iter()
        .chain([action::NOTIFY, action::TRACE, action::LOG, action::ALLOW]);
    assert!(all.into_iter().all(sys::seccomp::knows_action));
}
