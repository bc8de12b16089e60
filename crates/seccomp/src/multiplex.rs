//! Calls that some architectures reach through socketcall(2) and ipc(2) as well.
//!
//! The first argument selects the call, the others are elsewhere or in memory, where no filter
//! can see them. A rule for such a call becomes two: one for the direct number (where the
//! architecture has one), one for the multiplexer with a condition on its first argument, which
//! replaces the rule's own condition on that argument; the rule's other conditions stay. This is
//! what libseccomp does, with one difference: only the bits that the kernel looks at are
//! compared (it cuts the first argument to 32 bits, and the version off that of ipc), so that a
//! call cannot step around its rule by setting the others.

use crate::condition::Condition;

/// Calls below socketcall, at the index that is their number less one (SYS_… of linux/net.h).
const SOCKET: [&str; 20] = [
    "socket",
    "bind",
    "connect",
    "listen",
    "accept",
    "getsockname",
    "getpeername",
    "socketpair",
    "send",
    "recv",
    "sendto",
    "recvfrom",
    "shutdown",
    "setsockopt",
    "getsockopt",
    "sendmsg",
    "recvmsg",
    "accept4",
    "recvmmsg",
    "sendmmsg",
];

/// Calls below ipc and their numbers (linux/ipc.h).
const IPC: [(&str, u32); 12] = [
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];

/// The multiplexer of a call and the condition that selects it.
pub(crate) fn find(name: &str) -> Option<(&'static str, Condition)> {
    if let Some((_, number)) = IPC.iter().find(|(n, _)| *n == name) {
        return Some(("ipc", Condition::low_bits(0, 0xffff, *number)));
    }
    let (number, _) = (1_u32..).zip(SOCKET).find(|(_, n)| *n == name)?;
    Some(("socketcall", Condition::low_bits(0, u32::MAX, number)))
}
