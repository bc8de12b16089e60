//! What a process is given besides its ids: scheduling, memory placement, limits.

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::Pid;
use spec::plan::{MemoryPolicyPlan, PersonalityPlan, ProcessPlan, RlimitPlan};
use sys::Context as _;
use sys::sched::{SchedAttr, ioprio_set, personality, prlimit, sched_setattr, set_mempolicy};

use crate::{Doing as _, Error, Result};

/// sched_setattr(2) and ioprio_set(2), as configured; before privilege is given up.
///
/// # Errors
/// The call that failed.
pub fn set_scheduling(process: &ProcessPlan) -> Result<()> {
    if let Some(s) = &process.scheduler {
        let attr = SchedAttr {
            policy: s.policy,
            flags: s.flags,
            nice: s.nice,
            priority: s.priority,
            runtime: s.runtime,
            deadline: s.deadline,
            period: s.period,
        };
        sched_setattr(&attr).doing(|| "error setting scheduler")?;
    }
    if let Some(value) = process.io_priority {
        ioprio_set(value).doing(|| "failed to set io priority")?;
    }
    Ok(())
}

/// personality(2).
///
/// # Errors
/// personality(2)'s.
pub fn set_personality(plan: PersonalityPlan) -> Result<()> {
    // PER_LINUX and PER_LINUX32 of linux/personality.h.
    let persona = match plan {
        PersonalityPlan::Linux => 0,
        PersonalityPlan::Linux32 => 8,
    };
    personality(persona)?;
    Ok(())
}

/// set_mempolicy(2); children and the program executed inherit it.
///
/// # Errors
/// set_mempolicy(2)'s.
pub fn set_memory_policy(plan: &MemoryPolicyPlan) -> Result<()> {
    set_mempolicy(plan.mode, &plan.nodes)?;
    Ok(())
}

/// prlimit(2) for each limit, on `pid` or the caller. Raising a hard limit needs
/// CAP_SYS_RESOURCE in the first user namespace, so the runtime sets them on its child.
///
/// # Errors
/// The first limit that was refused.
pub fn set_limits(pid: Option<Pid>, limits: &[RlimitPlan]) -> Result<()> {
    for limit in limits {
        prlimit(pid, limit.resource, limit.soft, limit.hard).map_err(|e| {
            Error::Invalid(format!(
                "error setting {}: soft {}, hard {}: {}",
                limit.name,
                amount(limit.soft),
                amount(limit.hard),
                sys::ErrnoText(e.errno),
            ))
        })?;
    }
    Ok(())
}

fn amount(value: u64) -> String {
    if value == u64::MAX {
        "unlimited".to_owned()
    } else {
        value.to_string()
    }
}

/// umask(2), if one is configured.
pub fn set_umask(umask: Option<u32>) {
    if let Some(mask) = umask {
        rustix::process::umask(Mode::from_raw_mode(mask & 0o777));
    }
}

/// PR_SET_NO_NEW_PRIVS.
///
/// # Errors
/// prctl(2)'s.
pub fn set_no_new_privs() -> Result<()> {
    rustix::thread::set_no_new_privs(true).context("prctl", || "PR_SET_NO_NEW_PRIVS, 1")?;
    Ok(())
}

/// Writes `/proc/PID/oom_score_adj` of the runtime's own procfs, the caller's own where `pid` is
/// `None`. Without a `value` it is left alone.
///
/// Lowering it needs CAP_SYS_RESOURCE; a write that would change nothing is left out, so that
/// an unprivileged runtime can pass on the value that it has itself.
///
/// # Errors
/// open(2)'s and write(2)'s.
pub fn set_oom_score_adj(pid: impl Into<Option<Pid>>, value: Option<i32>) -> Result<()> {
    let Some(value) = value else { return Ok(()) };
    let path = match pid.into() {
        Some(pid) => format!("/proc/{}/oom_score_adj", pid.as_raw_nonzero()),
        None => "/proc/self/oom_score_adj".to_owned(),
    };
    let now = std::fs::read_to_string(&path).context("read", || path.clone())?;
    if now.trim().parse() == Ok(value) {
        return Ok(());
    }
    match std::fs::write(&path, value.to_string()) {
        Ok(()) => Ok(()),
        Err(e) => {
            let errno = Errno::from_io_error(&e).unwrap_or(Errno::IO);
            let error = sys::Error::new("write", format!("{path:?}, \"{value}\""), errno);
            Err(error).doing(|| "failed to set the OOM score")
        }
    }
}
