//! The words of the specification and what the kernel calls them.
//!
//! One table for each set of words. The checks look words up here and the features document
//! lists them from here, so neither can know a word that the other does not.

mod mount;
mod seccomp;

pub(crate) use mount::{MOUNT_OPTIONS, MountWord, SuperblockWord};
pub(crate) use seccomp::{ACTIONS, ARCHITECTURES, FLAGS, OPERATORS};

use crate::error::{At, Result};
use crate::plan::{Clock, NamespaceKind, PersonalityPlan, Propagation, PropagationKind};

/// Words and their meanings.
pub(crate) type Table<T> = [(&'static str, T)];

/// The meaning of a word.
pub(crate) fn lookup<T: Copy>(table: &Table<T>, word: &str) -> Option<T> {
    entry(table, word).map(|(_, meaning)| meaning)
}

/// The meaning of a word, or an error that lists the words there are.
pub(crate) fn require<T: Copy>(table: &Table<T>, word: &str, what: &str, at: &At) -> Result<T> {
    require_named(table, word, what, at).map(|(_, meaning)| meaning)
}

/// As [`require`], with the table's own copy of the word.
pub(crate) fn require_named<T: Copy>(
    table: &Table<T>,
    word: &str,
    what: &str,
    at: &At,
) -> Result<(&'static str, T)> {
    entry(table, word).ok_or_else(|| match word {
        "" => at.missing("required"),
        word => {
            let known = names(table).join(", ");
            at.invalid(word, format!("unknown {what}; known: {known}"))
        }
    })
}

fn entry<T: Copy>(table: &Table<T>, word: &str) -> Option<(&'static str, T)> {
    table.iter().find(|(name, _)| *name == word).copied()
}

/// All words of a table, in its order.
pub(crate) fn names<T>(table: &Table<T>) -> Vec<&'static str> {
    table.iter().map(|&(name, _)| name).collect()
}

/// `linux.namespaces[].type`.
pub(crate) const NAMESPACES: &Table<NamespaceKind> = &[
    ("cgroup", NamespaceKind::Cgroup),
    ("ipc", NamespaceKind::Ipc),
    ("mount", NamespaceKind::Mount),
    ("network", NamespaceKind::Network),
    ("pid", NamespaceKind::Pid),
    ("time", NamespaceKind::Time),
    ("user", NamespaceKind::User),
    ("uts", NamespaceKind::Uts),
];

/// Keys of `linux.timeOffsets`.
pub(crate) const CLOCKS: &Table<Clock> = &[
    ("boottime", Clock::Boottime),
    ("monotonic", Clock::Monotonic),
];

/// Keys of `hooks`, in the order in which they run.
pub(crate) const HOOKS: &[&str] = &[
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
];

const fn propagation(kind: PropagationKind, recursive: bool) -> Propagation {
    Propagation { kind, recursive }
}

/// Propagation, in `linux.rootfsPropagation` and among the mount options.
pub(crate) const PROPAGATION: &Table<Propagation> = &[
    ("private", propagation(PropagationKind::Private, false)),
    ("rprivate", propagation(PropagationKind::Private, true)),
    ("rshared", propagation(PropagationKind::Shared, true)),
    ("rslave", propagation(PropagationKind::Slave, true)),
    (
        "runbindable",
        propagation(PropagationKind::Unbindable, true),
    ),
    ("shared", propagation(PropagationKind::Shared, false)),
    ("slave", propagation(PropagationKind::Slave, false)),
    (
        "unbindable",
        propagation(PropagationKind::Unbindable, false),
    ),
];

/// Capabilities and their numbers (capabilities(7), linux/capability.h).
pub(crate) const CAPABILITIES: &Table<u32> = &[
    ("CAP_CHOWN", 0),
    ("CAP_DAC_OVERRIDE", 1),
    ("CAP_DAC_READ_SEARCH", 2),
    ("CAP_FOWNER", 3),
    ("CAP_FSETID", 4),
    ("CAP_KILL", 5),
    ("CAP_SETGID", 6),
    ("CAP_SETUID", 7),
    ("CAP_SETPCAP", 8),
    ("CAP_LINUX_IMMUTABLE", 9),
    ("CAP_NET_BIND_SERVICE", 10),
    ("CAP_NET_BROADCAST", 11),
    ("CAP_NET_ADMIN", 12),
    ("CAP_NET_RAW", 13),
    ("CAP_IPC_LOCK", 14),
    ("CAP_IPC_OWNER", 15),
    ("CAP_SYS_MODULE", 16),
    ("CAP_SYS_RAWIO", 17),
    ("CAP_SYS_CHROOT", 18),
    ("CAP_SYS_PTRACE", 19),
    ("CAP_SYS_PACCT", 20),
    ("CAP_SYS_ADMIN", 21),
    ("CAP_SYS_BOOT", 22),
    ("CAP_SYS_NICE", 23),
    ("CAP_SYS_RESOURCE", 24),
    ("CAP_SYS_TIME", 25),
    ("CAP_SYS_TTY_CONFIG", 26),
    ("CAP_MKNOD", 27),
    ("CAP_LEASE", 28),
    ("CAP_AUDIT_WRITE", 29),
    ("CAP_AUDIT_CONTROL", 30),
    ("CAP_SETFCAP", 31),
    ("CAP_MAC_OVERRIDE", 32),
    ("CAP_MAC_ADMIN", 33),
    ("CAP_SYSLOG", 34),
    ("CAP_WAKE_ALARM", 35),
    ("CAP_BLOCK_SUSPEND", 36),
    ("CAP_AUDIT_READ", 37),
    ("CAP_PERFMON", 38),
    ("CAP_BPF", 39),
    ("CAP_CHECKPOINT_RESTORE", 40),
];

/// Resource limits and their numbers (getrlimit(2), asm-generic/resource.h, which x86, arm,
/// powerpc, riscv and s390 use; mips and sparc number some differently).
pub(crate) const RLIMITS: &Table<u32> = &[
    ("RLIMIT_AS", 9),
    ("RLIMIT_CORE", 4),
    ("RLIMIT_CPU", 0),
    ("RLIMIT_DATA", 2),
    ("RLIMIT_FSIZE", 1),
    ("RLIMIT_LOCKS", 10),
    ("RLIMIT_MEMLOCK", 8),
    ("RLIMIT_MSGQUEUE", 12),
    ("RLIMIT_NICE", 13),
    ("RLIMIT_NOFILE", 7),
    ("RLIMIT_NPROC", 6),
    ("RLIMIT_RSS", 5),
    ("RLIMIT_RTPRIO", 14),
    ("RLIMIT_RTTIME", 15),
    ("RLIMIT_SIGPENDING", 11),
    ("RLIMIT_STACK", 3),
];

/// Scheduling policies and their numbers (sched(7), linux/sched.h). SCHED_ISO has a number that
/// the kernel keeps free and no code.
pub(crate) const SCHED_POLICIES: &Table<u32> = &[
    ("SCHED_OTHER", 0),
    ("SCHED_FIFO", 1),
    ("SCHED_RR", 2),
    ("SCHED_BATCH", 3),
    ("SCHED_ISO", 4),
    ("SCHED_IDLE", 5),
    ("SCHED_DEADLINE", 6),
];

/// Flags of sched_setattr(2).
pub(crate) const SCHED_FLAGS: &Table<u64> = &[
    ("SCHED_FLAG_RESET_ON_FORK", 0x01),
    ("SCHED_FLAG_RECLAIM", 0x02),
    ("SCHED_FLAG_DL_OVERRUN", 0x04),
    ("SCHED_FLAG_KEEP_POLICY", 0x08),
    ("SCHED_FLAG_KEEP_PARAMS", 0x10),
    ("SCHED_FLAG_UTIL_CLAMP_MIN", 0x20),
    ("SCHED_FLAG_UTIL_CLAMP_MAX", 0x40),
];

/// Classes of ioprio_set(2).
pub(crate) const IO_CLASSES: &Table<u16> = &[
    ("IOPRIO_CLASS_RT", 1),
    ("IOPRIO_CLASS_BE", 2),
    ("IOPRIO_CLASS_IDLE", 3),
];

/// Modes of set_mempolicy(2) (linux/mempolicy.h).
pub(crate) const MEMORY_MODES: &Table<u32> = &[
    ("MPOL_BIND", 2),
    ("MPOL_DEFAULT", 0),
    ("MPOL_INTERLEAVE", 3),
    ("MPOL_LOCAL", 4),
    ("MPOL_PREFERRED", 1),
    ("MPOL_PREFERRED_MANY", 5),
    ("MPOL_WEIGHTED_INTERLEAVE", 6),
];

/// Mode flags of set_mempolicy(2).
pub(crate) const MEMORY_FLAGS: &Table<u32> = &[
    ("MPOL_F_NUMA_BALANCING", 1 << 13),
    ("MPOL_F_RELATIVE_NODES", 1 << 14),
    ("MPOL_F_STATIC_NODES", 1 << 15),
];

/// `linux.personality.domain`.
pub(crate) const PERSONALITIES: &Table<PersonalityPlan> = &[
    ("LINUX", PersonalityPlan::Linux),
    ("LINUX32", PersonalityPlan::Linux32),
];

/// The names of the capabilities in a set.
pub(crate) fn capability_names(bits: u64) -> Vec<&'static str> {
    CAPABILITIES
        .iter()
        .filter(|(_, number)| bits & (1 << number) != 0)
        .map(|&(name, _)| name)
        .collect()
}
