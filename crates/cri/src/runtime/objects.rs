//! What calls are about, for the audit log.

use cri_api::v1::{ContainerConfig, LinuxContainerResources, PodSandboxConfig};
use tonic::Extensions;

use super::RuntimeApi;
use crate::audit::{Asked, Object};

/// A pod that is to be made.
pub(super) fn new_pod(config: &PodSandboxConfig) -> Object {
    let m = config.metadata.clone().unwrap_or_default();
    Object {
        kind: "pod",
        id: String::new(),
        name: format!("{}/{}", m.namespace, m.name),
    }
}

/// The runtime itself.
pub(super) fn runtime() -> Object {
    Object {
        kind: "runtime",
        ..Object::default()
    }
}

/// Those limits that are given.
pub(super) fn limits(given: &LinuxContainerResources) -> String {
    let numbers = [
        ("cpu-period", given.cpu_period),
        ("cpu-quota", given.cpu_quota),
        ("cpu-shares", given.cpu_shares),
        ("memory", given.memory_limit_in_bytes),
        ("memory-swap", given.memory_swap_limit_in_bytes),
    ];
    let given = numbers.iter().filter(|(_, value)| *value != 0);
    let words: Vec<String> = given
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    words.join(" ")
}

impl RuntimeApi {
    /// A container that is to be made.
    pub(super) fn new_container(&self, pod: &str, config: &ContainerConfig) -> Object {
        let name = config.metadata.clone().unwrap_or_default().name;
        let pod = self
            .engine
            .pod(pod)
            .map_or_else(|_| pod.to_owned(), |p| p.name());
        Object {
            kind: "container",
            id: String::new(),
            name: format!("{pod}/{name}"),
        }
    }

    /// A call about a container begins.
    pub(super) fn asked_of_container(
        &self,
        from: &Extensions,
        call: &'static str,
        id: &str,
    ) -> Asked {
        let found = self.engine.container(id).ok();
        let object = Object {
            kind: "container",
            id: found.as_ref().map_or(id, |c| &c.id).to_owned(),
            name: found.as_ref().map(|c| c.name()).unwrap_or_default(),
        };
        self.audit.asked(from, call, object)
    }

    /// A call about a pod begins.
    pub(super) fn asked_of_pod(&self, from: &Extensions, call: &'static str, id: &str) -> Asked {
        let found = self.engine.pod(id).ok();
        let object = Object {
            kind: "pod",
            id: found.as_ref().map_or(id, |p| &p.id).to_owned(),
            name: found.as_ref().map(|p| p.name()).unwrap_or_default(),
        };
        self.audit.asked(from, call, object)
    }
}
