//! One operation of the CRI after the other, as a kubelet asks for them.

use anyhow::{Context as _, Result, ensure};
use cri_api::v1;
use cri_api::v1::runtime_service_client::RuntimeServiceClient;
use cri_suite::sleeper;
use tonic::transport::Channel;

use crate::runtime::Runtime;

/// What drives a runtime; a copy is another client on the same connection.
#[derive(Clone, Debug)]
pub struct Client {
    rpc: RuntimeServiceClient<Channel>,
    runtime: &'static str,
    parent: String,
    logs: String,
}

impl Client {
    /// On a connection of its own.
    pub fn new(runtime: &Runtime) -> Result<Self> {
        Ok(Self {
            rpc: runtime.client()?,
            runtime: runtime.name,
            parent: runtime.parent.clone(),
            logs: runtime.dir.join("logs").display().to_string(),
        })
    }

    /// The client itself.
    pub fn rpc(&mut self) -> &mut RuntimeServiceClient<Channel> {
        &mut self.rpc
    }

    fn pod_config(&self, name: &str) -> v1::PodSandboxConfig {
        let mut config = cri_suite::pod(name);
        config.log_directory.clone_from(&self.logs);
        if let Some(linux) = config.linux.as_mut() {
            linux.cgroup_parent.clone_from(&self.parent);
            linux.security_context = Some(v1::LinuxSandboxSecurityContext {
                seccomp: default_profile(),
                ..Default::default()
            });
        }
        config
    }

    /// RunPodSandbox; the pod's id.
    pub async fn run_pod(&mut self, name: &str) -> Result<String> {
        let request = v1::RunPodSandboxRequest {
            config: Some(self.pod_config(name)),
            runtime_handler: String::new(),
        };
        let answer = self.rpc.run_pod_sandbox(request).await;
        let answer = answer.with_context(|| format!("{}: RunPodSandbox {name}", self.runtime))?;
        Ok(answer.into_inner().pod_sandbox_id)
    }

    /// CreateContainer and StartContainer; the container's id.
    pub async fn run(&mut self, pod: &str, pod_name: &str, name: &str) -> Result<String> {
        let mut config = sleeper(name);
        config.log_path = format!("{}-{pod_name}-{name}.log", self.runtime);
        if let Some(linux) = config.linux.as_mut() {
            linux.security_context = Some(v1::LinuxContainerSecurityContext {
                seccomp: default_profile(),
                ..Default::default()
            });
        }
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: pod.to_owned(),
            config: Some(config),
            sandbox_config: Some(self.pod_config(pod_name)),
        };
        let what = |rpc| format!("{}: {rpc} {pod_name}/{name}", self.runtime);
        let created = self.rpc.create_container(request).await;
        let container_id = created
            .with_context(|| what("CreateContainer"))?
            .into_inner()
            .container_id;
        let request = v1::StartContainerRequest {
            container_id: container_id.clone(),
        };
        let started = self.rpc.start_container(request).await;
        started.with_context(|| what("StartContainer"))?;
        Ok(container_id)
    }

    /// ExecSync of `true`.
    pub async fn probe(&mut self, container: &str) -> Result<()> {
        let request = v1::ExecSyncRequest {
            container_id: container.to_owned(),
            cmd: vec!["/bin/true".to_owned()],
            timeout: 30,
        };
        let done = self.rpc.exec_sync(request).await;
        let code = done
            .with_context(|| format!("{}: ExecSync", self.runtime))?
            .into_inner()
            .exit_code;
        ensure!(code == 0, "{}: ExecSync: exit code {code}", self.runtime);
        Ok(())
    }

    /// StopContainer and RemoveContainer.
    pub async fn remove(&mut self, container: &str) -> Result<()> {
        let container_id = container.to_owned();
        let stop = v1::StopContainerRequest {
            container_id: container_id.clone(),
            timeout: 30,
        };
        let stopped = self.rpc.stop_container(stop).await;
        stopped.with_context(|| format!("{}: StopContainer", self.runtime))?;
        let removed = self
            .rpc
            .remove_container(v1::RemoveContainerRequest { container_id })
            .await;
        removed.with_context(|| format!("{}: RemoveContainer", self.runtime))?;
        Ok(())
    }

    /// StopPodSandbox and RemovePodSandbox.
    pub async fn remove_pod(&mut self, pod: &str) -> Result<()> {
        let pod_sandbox_id = pod.to_owned();
        let stop = v1::StopPodSandboxRequest {
            pod_sandbox_id: pod_sandbox_id.clone(),
        };
        let stopped = self.rpc.stop_pod_sandbox(stop).await;
        stopped.with_context(|| format!("{}: StopPodSandbox", self.runtime))?;
        let removed = self
            .rpc
            .remove_pod_sandbox(v1::RemovePodSandboxRequest { pod_sandbox_id })
            .await;
        removed.with_context(|| format!("{}: RemovePodSandbox", self.runtime))?;
        Ok(())
    }
}

/// What a kubelet asks for where the pod's author says RuntimeDefault.
fn default_profile() -> Option<v1::SecurityProfile> {
    Some(v1::SecurityProfile::default())
}
