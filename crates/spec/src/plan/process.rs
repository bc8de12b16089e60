//! The program to run and who it is.

use std::path::PathBuf;

use crate::oci::ConsoleSize;

/// A process, ready to be started: the container's own or an exec'd one.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessPlan {
    /// Attach a pseudo-terminal, of this size if given.
    pub terminal: Option<TerminalPlan>,
    /// At least one word.
    pub args: Vec<String>,
    /// `NAME=value`, duplicates resolved: the last one wins.
    pub env: Vec<String>,
    /// Absolute working directory.
    pub cwd: PathBuf,
    /// User, groups, umask.
    pub user: UserPlan,
    /// Capability sets; `None` leaves them as the kernel computes them.
    pub capabilities: Option<CapabilitySets>,
    /// Names the configuration asked for that this build does not know (a warning each).
    pub unknown_capabilities: Vec<String>,
    /// Resource limits; each resource once.
    pub rlimits: Vec<RlimitPlan>,
    /// PR_SET_NO_NEW_PRIVS.
    pub no_new_privileges: bool,
    /// AppArmor profile.
    pub apparmor_profile: Option<String>,
    /// SELinux label.
    pub selinux_label: Option<String>,
    /// -1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// sched_setattr(2).
    pub scheduler: Option<SchedulerPlan>,
    /// The argument of ioprio_set(2): class << 13 | priority.
    pub io_priority: Option<u16>,
    /// CPU affinity, for exec only.
    pub exec_cpu_affinity: Option<CpuAffinityPlan>,
}

/// A terminal.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct TerminalPlan {
    /// Initial size; both numbers fit the kernel's 16 bits.
    pub size: Option<ConsoleSize>,
}

/// Identity.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct UserPlan {
    /// User id inside.
    pub uid: u32,
    /// Group id inside.
    pub gid: u32,
    /// Supplementary groups.
    pub additional_gids: Vec<u32>,
    /// Creation mask.
    pub umask: Option<u32>,
}

/// Capability sets as bit masks (bit n = capability number n, capabilities(7)).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct CapabilitySets {
    /// Bounding set.
    pub bounding: u64,
    /// Effective set.
    pub effective: u64,
    /// Inheritable set.
    pub inheritable: u64,
    /// Permitted set.
    pub permitted: u64,
    /// Ambient set.
    pub ambient: u64,
}

/// One resource limit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RlimitPlan {
    /// RLIMIT_… number (setrlimit(2)).
    pub resource: u32,
    /// Its name, for messages.
    pub name: &'static str,
    /// Soft limit; `u64::MAX` is infinity.
    pub soft: u64,
    /// Hard limit; `u64::MAX` is infinity.
    pub hard: u64,
}

/// The argument of sched_setattr(2).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SchedulerPlan {
    /// SCHED_… number.
    pub policy: u32,
    /// SCHED_FLAG_… bits.
    pub flags: u64,
    /// Nice value.
    pub nice: i32,
    /// Static priority.
    pub priority: u32,
    /// Nanoseconds.
    pub runtime: u64,
    /// Nanoseconds.
    pub deadline: u64,
    /// Nanoseconds.
    pub period: u64,
}

/// CPUs that an exec'd process may run on, ascending; empty leaves the set alone.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CpuAffinityPlan {
    /// Set before the process moves to the container's cgroup.
    pub initial: Vec<u32>,
    /// Set after it.
    pub after: Vec<u32>,
}
