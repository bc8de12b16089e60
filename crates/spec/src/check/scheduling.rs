//! `process.scheduler` and `process.ioPriority`.

use crate::error::{At, Result};
use crate::oci::{IoPriority, Scheduler};
use crate::plan::SchedulerPlan;
use crate::words::{self, IO_CLASSES, SCHED_FLAGS, SCHED_POLICIES};

const SCHED_FIFO: u32 = 1;
const SCHED_RR: u32 = 2;
const SCHED_ISO: u32 = 4;
const SCHED_DEADLINE: u32 = 6;

/// Shortest runtime of SCHED_DEADLINE, in nanoseconds: sched(7) gives 1024.
const RUNTIME_MIN: u64 = 1024;
/// Times of SCHED_DEADLINE are below this (sched(7)).
const TIME_MAX: u64 = 1 << 63;

/// sched_setattr(2) and sched(7).
pub(super) fn scheduler(given: Option<&Scheduler>, at: &At) -> Result<Option<SchedulerPlan>> {
    let Some(given) = given else {
        return Ok(None);
    };
    let word = at.field("policy");
    let policy = words::require(SCHED_POLICIES, &given.policy, "policy", &word)?;
    if policy == SCHED_ISO {
        return Err(word.unsupported("SCHED_ISO is reserved, Linux does not implement it"));
    }
    let nice = given.nice.unwrap_or(0);
    if !(-20..=19).contains(&nice) {
        return Err(at.field("nice").invalid(nice, "must be between -20 and 19"));
    }
    let mut flags = 0;
    for (i, flag) in given.flags.iter().enumerate() {
        let at = at.field("flags");
        flags |= words::require(SCHED_FLAGS, flag, "flag", &at.index(i))?;
    }
    let plan = SchedulerPlan {
        policy,
        flags,
        nice,
        priority: priority(given, policy, at)?,
        runtime: given.runtime.unwrap_or(0),
        deadline: given.deadline.unwrap_or(0),
        period: given.period.unwrap_or(0),
    };
    deadline(&plan, at)?;
    Ok(Some(plan))
}

fn priority(given: &Scheduler, policy: u32, at: &At) -> Result<u32> {
    let at = at.field("priority");
    let priority = given.priority.unwrap_or(0);
    let (range, reason) = if matches!(policy, SCHED_FIFO | SCHED_RR) {
        (
            1..=99,
            "must be between 1 and 99 with SCHED_FIFO and SCHED_RR",
        )
    } else {
        (
            0..=0,
            "must be 0 with any policy but SCHED_FIFO and SCHED_RR",
        )
    };
    match u32::try_from(priority) {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => Err(at.invalid(priority, reason)),
    }
}

fn deadline(plan: &SchedulerPlan, at: &At) -> Result<()> {
    let times = [
        (plan.runtime, "runtime"),
        (plan.deadline, "deadline"),
        (plan.period, "period"),
    ];
    if plan.policy != SCHED_DEADLINE {
        return match times.into_iter().find(|&(time, _)| time != 0) {
            Some((time, name)) => Err(at.field(name).invalid(time, "only with SCHED_DEADLINE")),
            None => Ok(()),
        };
    }
    if let Some((time, name)) = times.into_iter().find(|&(time, _)| time >= TIME_MAX) {
        return Err(at.field(name).invalid(time, "must be below 2^63"));
    }
    if plan.runtime < RUNTIME_MIN {
        let reason = format!("must be at least {RUNTIME_MIN} ns");
        return Err(at.field("runtime").invalid(plan.runtime, reason));
    }
    if plan.deadline < plan.runtime {
        return Err(at
            .field("deadline")
            .invalid(plan.deadline, "must not be below runtime"));
    }
    if plan.period != 0 && plan.period < plan.deadline {
        return Err(at
            .field("period")
            .invalid(plan.period, "must not be below deadline"));
    }
    Ok(())
}

/// The argument of ioprio_set(2).
pub(super) fn io_priority(given: Option<&IoPriority>, at: &At) -> Result<Option<u16>> {
    let Some(given) = given else {
        return Ok(None);
    };
    let class = words::require(IO_CLASSES, &given.class, "class", &at.field("class"))?;
    match u16::try_from(given.priority) {
        Ok(priority) if priority <= 7 => Ok(Some(class << 13 | priority)),
        _ => Err(at
            .field("priority")
            .invalid(given.priority, "must be between 0 and 7")),
    }
}
