//! Requests as a kubelet makes them.

use cri_api::v1;

use crate::IMAGE;

/// A pod of that name.
#[must_use]
pub fn pod(name: &str) -> v1::PodSandboxConfig {
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: name.to_owned(),
            uid: format!("uid-{name}"),
            namespace: "test".to_owned(),
            attempt: 0,
        }),
        hostname: name.to_owned(),
        labels: [("pod".to_owned(), name.to_owned())].into(),
        linux: Some(v1::LinuxPodSandboxConfig::default()),
        ..v1::PodSandboxConfig::default()
    }
}

/// A container of that name that runs a command.
#[must_use]
pub fn container(name: &str, command: &[&str]) -> v1::ContainerConfig {
    v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata {
            name: name.to_owned(),
            attempt: 0,
        }),
        image: Some(v1::ImageSpec {
            image: IMAGE.to_owned(),
            ..v1::ImageSpec::default()
        }),
        command: command.iter().map(|&w| w.to_owned()).collect(),
        labels: [("container".to_owned(), name.to_owned())].into(),
        log_path: format!("{name}.log"),
        linux: Some(v1::LinuxContainerConfig::default()),
        ..v1::ContainerConfig::default()
    }
}

/// A container that does nothing for an hour, and ends at once when it is asked to.
#[must_use]
pub fn sleeper(name: &str) -> v1::ContainerConfig {
    container(
        name,
        &["/bin/sh", "-c", "trap 'exit 0' TERM; sleep 3600 & wait"],
    )
}

/// The request for a container in a pod.
#[must_use]
pub fn creation(pod: &str, config: v1::ContainerConfig) -> v1::CreateContainerRequest {
    v1::CreateContainerRequest {
        pod_sandbox_id: pod.to_owned(),
        config: Some(config),
        sandbox_config: None,
    }
}
