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

/// The multiplexer of a call and the condition that selects it.
pub(crate) fn find(name: &str) -> Option<(&'static str, Condition)> {
    if let Some(number) = socketcall(name) {
        return Some(("socketcall", Condition::low_bits(0, u32::MAX, number)));
    }
    Some(("ipc", Condition::low_bits(0, 0xffff, ipc(name)?)))
}

/// SYS_… of linux/net.h.
fn socketcall(name: &str) -> Option<u32> {
    Some(match name {
        "socket" => 1,
        "bind" => 2,
        "connect" => 3,
        "listen" => 4,
        "accept" => 5,
        "getsockname" => 6,
        "getpeername" => 7,
        "socketpair" => 8,
        "send" => 9,
        "recv" => 10,
        "sendto" => 11,
        "recvfrom" => 12,
        "shutdown" => 13,
        "setsockopt" => 14,
        "getsockopt" => 15,
        "sendmsg" => 16,
        "recvmsg" => 17,
        "accept4" => 18,
        "recvmmsg" => 19,
        "sendmmsg" => 20,
        _ => return None,
    })
}

/// Numbers of linux/ipc.h.
fn ipc(name: &str) -> Option<u32> {
    Some(match name {
        "semop" => 1,
        "semget" => 2,
        "semctl" => 3,
        "semtimedop" => 4,
        "msgsnd" => 11,
        "msgrcv" => 12,
        "msgget" => 13,
        "msgctl" => 14,
        "shmat" => 21,
        "shmdt" => 22,
        "shmget" => 23,
        "shmctl" => 24,
        _ => return None,
    })
}
