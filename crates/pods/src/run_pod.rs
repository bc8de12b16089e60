//! RunPodSandbox.

use std::path::PathBuf;
use std::sync::Arc;

use cri_api::v1::{PodSandboxConfig, PodSandboxMetadata};
use supervise::protocol::{Create, External};

use crate::engine::Engine;
use crate::error::{Doing, Error, Kind, Result};
use crate::files;
use crate::journal::{What, now};
use crate::oci::{self, PodNamespaces, SandboxInput, cgroup::Driver};
use crate::operation::{Operation, Outcome, Undo, lock};
use crate::pod::{self, Pod, PodPhase};
use crate::record::PodRecord;
use crate::supervisor::blocking;
use crate::take_down::stubbornly;

impl Engine {
    /// Makes a pod and its sandbox; a second request for the same pod gets the first one's result.
    ///
    /// # Errors
    /// What cannot be honoured, or the step that failed; nothing of the pod is left then.
    pub async fn run_pod(&self, config: PodSandboxConfig, handler: String) -> Result<String> {
        let metadata = config.metadata.clone().unwrap_or_default();
        check(&metadata)?;
        let key = key(&metadata);
        let subject = pod::name(&config);
        let engine = self.clone();
        let name = key.clone();
        let run =
            |operation| async move { engine.run_pod_now(operation, config, handler, name).await };
        self.operations()
            .run("RunPodSandbox", &subject, key, run)
            .await
    }

    async fn run_pod_now(
        self,
        operation: Arc<Operation>,
        config: PodSandboxConfig,
        handler: String,
        key: String,
    ) -> Outcome {
        if let Some(id) = self.named(&key) {
            return self.same_pod(&id, &config).map_err(|e| (e, None));
        }
        let none = |e: Error| (e, None);
        let external = self.settings().handler(&handler).map_err(none)?;
        let record = self.new_record(config, handler).map_err(none)?;
        let dir = self.places().run.join("pods").join(&record.id);
        let pod = Arc::new(Pod::new(record, dir, PodPhase::Making));
        self.add_pod(Some(key), Arc::clone(&pod));
        match self.bring_up(&operation, &pod, external).await {
            Ok(()) => Ok(pod.id.clone()),
            Err(e) => {
                let engine = self.clone();
                let undo: Undo = Box::pin(async move { engine.abandon_pod(&pod).await });
                Err((e, Some(undo)))
            }
        }
    }

    fn same_pod(&self, id: &str, config: &PodSandboxConfig) -> Result<String> {
        let pod = self.pod(id)?;
        if pod.phase() == PodPhase::Ready && lock(&pod.record).config == *config {
            return Ok(pod.id.clone());
        }
        Err(Error::new(
            Kind::Exists,
            format!(
                "pod {}: exists as {id}, with another configuration or ended; remove it, or use the next attempt",
                pod.name()
            ),
        ))
    }

    fn new_record(&self, config: PodSandboxConfig, handler: String) -> Result<PodRecord> {
        let settings = self.settings();
        let linux = config.linux.clone().unwrap_or_default();
        let security = linux.security_context.unwrap_or_default();
        let id = new_id()?;
        let own_parent =
            linux.cgroup_parent.is_empty() && settings.policy.driver == Driver::Cgroupfs;
        let cgroup_parent = match linux.cgroup_parent {
            _ if own_parent => format!("{}/pod-{id}", settings.cgroup_parent.trim_end_matches('/')),
            parent if parent.is_empty() => settings.cgroup_parent.clone(),
            parent => parent,
        };
        Ok(PodRecord {
            boot: self.host().boot_id.clone(),
            id,
            created: now(),
            handler,
            namespaces: PodNamespaces::new(security.namespace_options.as_ref())?,
            cgroup_parent,
            own_parent,
            config,
            ..PodRecord::default()
        })
    }

    async fn bring_up(
        &self,
        operation: &Arc<Operation>,
        pod: &Arc<Pod>,
        external: Option<External>,
    ) -> Result<()> {
        let (engine, own, steps) = (self.clone(), Arc::clone(pod), Arc::clone(operation));
        // In one go: each visit to another thread has its price.
        let bundle = blocking(move || engine.prepare_pod(&steps, &own)).await?;
        operation.stage("sandbox");
        let id = pod.id.clone();
        let systemd_cgroup = self.settings().policy.driver == Driver::Systemd;
        let kept = Arc::clone(pod);
        let process = pod
            .call(self, move |client| {
                let create = Create {
                    id: id.clone(),
                    bundle,
                    runtime: external,
                    systemd_cgroup,
                    start: true,
                    ..Create::default()
                };
                let (process, parts) = client.create(create)?;
                lock(&kept.kept).insert(id, parts);
                Ok(process)
            })
            .await?;
        for warning in &process.warnings {
            tracing::warn!(pod = %pod.name(), %warning);
        }
        lock(&pod.record).pid = process.pid;
        let record = pod.record();
        let linux = record.config.linux.clone().unwrap_or_default();
        if let Some(given) = linux.resources {
            let engine = self.clone();
            blocking(move || engine.limit_pod(&record, &given)).await?;
        }
        if !lock(&pod.record).namespaces.host_network {
            operation.stage("network");
            self.connect_pod(pod).await?;
        }
        operation.stage("commit");
        {
            let mut record = lock(&pod.record);
            record.made = true;
            record.ready = true;
        }
        self.save_pod(pod).await?;
        pod.phase.send_replace(PodPhase::Ready);
        self.event(What::Created, &pod.id, &pod.id);
        self.event(What::Started, &pod.id, &pod.id);
        self.follow(Arc::clone(pod));
        Ok(())
    }

    /// Everything before the supervisor is asked.
    fn prepare_pod(&self, operation: &Operation, pod: &Pod) -> Result<PathBuf> {
        operation.stage("record");
        // Before anything is made, so that the next daemon finds what to clear away.
        self.put_pod(pod)?;
        operation.stage("supervisor");
        pod.launch_now(self, false)?;
        operation.stage("files");
        self.write_pod_files(pod)
    }

    fn write_pod_files(&self, pod: &Pod) -> Result<PathBuf> {
        let record = pod.record();
        let settings = self.settings();
        let shared = &record.namespaces;
        files::write(&pod.dir, &record.config, shared.host_network)?;
        if shared.host_network {
            // The machine's own table of names holds.
            let copied = std::fs::copy("/etc/hosts", pod.dir.join("hosts"));
            copied.doing(|| "copy(/etc/hosts)".to_owned())?;
        } else {
            files::write_hosts(&pod.dir, &record.config, &[])?;
        }
        if !shared.host_ipc {
            files::mount_shm(&pod.dir, settings.shm_size, shared.user.as_ref())?;
        }
        let mut spec = oci::sandbox(SandboxInput {
            id: &pod.id,
            config: &record.config,
            root: &self.places().run.join("pause"),
            cgroup_parent: &record.cgroup_parent,
            policy: &settings.policy,
            host: self.host(),
        })?;
        let bundle = pod.dir.join("sandbox");
        let external = settings.handler(&record.handler)?;
        write_bundle(&bundle, &mut spec, external.as_ref())?;
        Ok(bundle)
    }

    async fn connect_pod(&self, pod: &Arc<Pod>) -> Result<()> {
        let (engine, pod) = (self.clone(), Arc::clone(pod));
        blocking(move || {
            let attachment = attachment(&pod.record())?;
            lock(&pod.record).network = true;
            let made = engine.0.network.setup(&attachment);
            let made = made.map_err(|e| Error::new(Kind::Failed, e.to_string()))?;
            let ips: Vec<String> = made.ips.iter().map(|ip| ip.addr().to_string()).collect();
            let mut record = lock(&pod.record);
            files::write_hosts(&pod.dir, &record.config, &ips)?;
            record.ips = ips;
            Ok(())
        })
        .await
    }

    /// Undoes a pod that could not be made.
    pub(crate) async fn abandon_pod(&self, pod: &Arc<Pod>) {
        if let Err(error) = stubbornly(|| self.take_down(pod)).await {
            tracing::error!(pod = %pod.name(), %error, "not all of a failed pod could be undone; the next start tries again");
        }
        self.forget(&pod.id);
    }
}

fn check(metadata: &PodSandboxMetadata) -> Result<()> {
    for (field, value) in [("name", &metadata.name), ("uid", &metadata.uid)] {
        if value.is_empty() {
            return Err(Error::invalid(format!("pod metadata.{field}: missing")));
        }
    }
    Ok(())
}

/// What the kubelet calls a pod.
pub(crate) fn key(m: &PodSandboxMetadata) -> String {
    format!("pod/{}/{}/{}/{}", m.uid, m.namespace, m.name, m.attempt)
}

/// 64 random hexadecimal digits, as the field's tools expect them.
pub(crate) fn new_id() -> Result<String> {
    let mut bytes = [0; 32];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .doing(|| "getrandom(32)".to_owned())?;
    Ok(crate::record::hex(&bytes))
}

/// The version of the specification that other runtimes are told: crun 1.8 knows no later one, and
/// what is newer in a document is passed over by those who do not know it.
const VERSION_FOR_OTHERS: &str = "1.0.2";

/// Writes a bundle, for hull or for another runtime.
pub(crate) fn write_bundle(
    dir: &std::path::Path,
    spec: &mut spec::oci::Spec,
    runtime: Option<&External>,
) -> Result<()> {
    if runtime.is_some() {
        VERSION_FOR_OTHERS.clone_into(&mut spec.oci_version);
    }
    files::private_dir(dir)?;
    let path = dir.join("config.json");
    let what = || format!("write({})", path.display());
    std::fs::write(&path, serde_json::to_vec(spec).doing(what)?).doing(what)
}

/// What the network is asked for.
pub(crate) fn attachment(record: &PodRecord) -> Result<net::Attachment> {
    let config = &record.config;
    let metadata = config.metadata.clone().unwrap_or_default();
    let mut attachment = net::Attachment::new(&record.id, format!("/proc/{}/ns/net", record.pid));
    attachment.pod = net::PodName {
        namespace: metadata.namespace,
        name: metadata.name,
        uid: metadata.uid,
    };
    attachment.bandwidth = net::Bandwidth::from_annotations(&config.annotations)
        .map_err(|e| Error::invalid(e.to_string()))?;
    let dns = config.dns_config.clone().unwrap_or_default();
    attachment.dns = net::Dns {
        servers: dns.servers,
        searches: dns.searches,
        options: dns.options,
    };
    attachment.cgroup = Some(record.cgroup_parent.clone());
    let wanted = config.port_mappings.iter().filter(|p| p.host_port > 0);
    attachment.ports = wanted.map(port).collect::<Result<_>>()?;
    Ok(attachment)
}

fn port(given: &cri_api::v1::PortMapping) -> Result<net::PortMapping> {
    use cri_api::v1::Protocol;
    let number = |port: i32| {
        u16::try_from(port).map_err(|_| Error::invalid(format!("port {port}: not a port")))
    };
    let protocol = match given.protocol() {
        Protocol::Tcp => net::Protocol::Tcp,
        Protocol::Udp => net::Protocol::Udp,
        Protocol::Sctp => net::Protocol::Sctp,
    };
    let mut mapping = net::PortMapping::new(
        protocol,
        number(given.host_port)?,
        number(given.container_port)?,
    );
    if !given.host_ip.is_empty() {
        let ip = given.host_ip.parse();
        mapping.host_ip =
            Some(ip.map_err(|_| {
                Error::invalid(format!("host_ip {}: not an address", given.host_ip))
            })?);
    }
    Ok(mapping)
}
