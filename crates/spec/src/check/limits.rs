//! `process.rlimits` and `process.oomScoreAdj`.

use crate::error::{At, Result};
use crate::oci::Rlimit;
use crate::plan::RlimitPlan;
use crate::words::{self, RLIMITS};

pub(super) fn rlimits(given: &[Rlimit], at: &At) -> Result<Vec<RlimitPlan>> {
    let mut out: Vec<RlimitPlan> = Vec::with_capacity(given.len());
    for (i, limit) in given.iter().enumerate() {
        let at = at.index(i);
        let kind = at.field("type");
        let (name, resource) = words::require_named(RLIMITS, &limit.kind, "resource", &kind)?;
        if out.iter().any(|l| l.resource == resource) {
            return Err(kind.invalid(&limit.kind, "given twice"));
        }
        if limit.soft > limit.hard {
            return Err(at.field("soft").invalid(
                limit.soft,
                format!("above the hard limit of {}", limit.hard),
            ));
        }
        out.push(RlimitPlan {
            resource,
            name,
            soft: limit.soft,
            hard: limit.hard,
        });
    }
    Ok(out)
}

/// proc(5), /proc/PID/oom_score_adj.
pub(super) fn oom_score_adj(given: Option<i32>, at: &At) -> Result<Option<i32>> {
    match given {
        Some(score) if !(-1000..=1000).contains(&score) => {
            Err(at.invalid(score, "must be between -1000 and 1000"))
        }
        other => Ok(other),
    }
}
