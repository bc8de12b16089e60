//! What to do about limits that this machine cannot enforce.

use serde::{Deserialize, Serialize};
use spec::oci::Resources;

use crate::error::{Error, Result};

/// The caller's choices.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Policy {
    /// Controllers (`hugetlb`) whose absence is a warning instead of an error. The kubelet passes
    /// a limit for every huge-page size to machines that have no hugetlb controller.
    pub tolerate: Vec<String>,
    /// We are not root: go on without a control group where none may be made and none was named,
    /// and leave device rules alone, which only root may set.
    pub rootless: bool,
}

/// Policy and the warnings that came of it.
#[derive(Debug)]
pub(crate) struct Judge<'a> {
    policy: &'a Policy,
    pub(crate) warnings: Vec<String>,
}

impl<'a> Judge<'a> {
    pub(crate) fn new(policy: &'a Policy) -> Self {
        Self {
            policy,
            warnings: Vec::new(),
        }
    }

    pub(crate) fn rootless(&self) -> bool {
        self.policy.rootless
    }

    /// A limit that cannot be enforced for want of a controller.
    pub(crate) fn missing(&mut self, limit: &str, controller: &str, reason: &str) -> Result<()> {
        let error = Error::MissingController {
            limit: limit.to_owned(),
            controller: controller.to_owned(),
            reason: reason.to_owned(),
        };
        if self.policy.tolerate.iter().any(|t| t == controller) {
            self.warnings.push(format!("ignored: {error}"));
            return Ok(());
        }
        Err(error)
    }
}

/// The warning for limits of a container that has no control group. Device rules are not among
/// them: a user cannot open what they would forbid.
pub(crate) fn unenforced(r: &Resources) -> Option<String> {
    let memory = r.memory.as_ref();
    let asked = [
        (
            "memory.limit",
            memory.is_some_and(|m| m.limit.is_some_and(|l| l > 0)),
        ),
        (
            "memory.swap",
            memory.is_some_and(|m| m.swap.is_some_and(|l| l > 0)),
        ),
        (
            "memory.reservation",
            memory.is_some_and(|m| m.reservation.is_some_and(|l| l > 0)),
        ),
        (
            "cpu",
            r.cpu
                .as_ref()
                .is_some_and(|c| *c != spec::oci::Cpu::default()),
        ),
        (
            "pids.limit",
            r.pids
                .as_ref()
                .is_some_and(|p| p.limit.is_some_and(|l| l >= 0)),
        ),
        (
            "blockIO",
            r.block_io
                .as_ref()
                .is_some_and(|b| *b != spec::oci::BlockIo::default()),
        ),
        ("hugepageLimits", !r.hugepage_limits.is_empty()),
        ("rdma", !r.rdma.is_empty()),
        ("network", r.network.is_some()),
        ("unified", !r.unified.is_empty()),
    ];
    let names: Vec<&str> = asked
        .iter()
        .filter(|(_, is)| *is)
        .map(|(name, _)| *name)
        .collect();
    (!names.is_empty()).then(|| {
        format!(
            "ignored: {}: no control group was delegated to this user; run below \
             `systemd-run --user --scope -p Delegate=yes`, or with --systemd-cgroup",
            names.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_without_a_group() {
        let warning = |json: &str| unenforced(&serde_json::from_str(json).unwrap());
        assert_eq!(warning("{}"), None);
        assert_eq!(
            warning(r#"{"devices":[{"allow":false}],"memory":{"limit":-1}}"#),
            None
        );
        assert_eq!(warning(r#"{"pids":{"limit":-1}}"#), None);
        let text = warning(r#"{"memory":{"limit":5},"pids":{"limit":0},"cpu":{"cpus":"0"}}"#);
        let text = text.unwrap();
        assert!(
            text.starts_with("ignored: memory.limit, cpu, pids.limit: no"),
            "{text}"
        );
    }
}
