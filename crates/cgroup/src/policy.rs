//! What to do about limits that this machine cannot enforce.

use serde::{Deserialize, Serialize};

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
