//! CreateContainer.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use cri_api::v1::{
    ContainerConfig, LinuxContainerSecurityContext, NamespaceMode, PodSandboxConfig,
};
use supervise::Client;
use supervise::protocol::{Create, LogOptions, Stdin, Stdio};

use crate::container::{Container, Phase};
use crate::engine::Engine;
use crate::error::{Doing, Error, Kind, Result};
use crate::files;
use crate::images::{self, Image};
use crate::journal::{What, now};
use crate::oci::{self, AskedMount, ContainerInput, cgroup::Driver};
use crate::operation::{Operation, Outcome, Undo, lock};
use crate::pod::{Pod, PodPhase};
use crate::record::ContainerRecord;
use crate::run_pod::{new_id, write_bundle};
use crate::supervisor::{blocking, translate};
use crate::take_down::stubbornly;

impl Engine {
    /// Makes a container; a second request for the same one gets the first one's result.
    ///
    /// # Errors
    /// What cannot be honoured, or the step that failed; nothing of the container is left then.
    pub async fn create_container(
        &self,
        pod: &str,
        config: ContainerConfig,
        sandbox: Option<PodSandboxConfig>,
    ) -> Result<String> {
        let pod = self.pod(pod)?;
        let metadata = config.metadata.clone().unwrap_or_default();
        if metadata.name.is_empty() {
            return Err(Error::invalid("container metadata.name: missing"));
        }
        let key = format!(
            "container/{}/{}/{}",
            pod.id, metadata.name, metadata.attempt
        );
        let subject = format!("{}/{}", pod.name(), metadata.name);
        let engine = self.clone();
        let name = key.clone();
        let create = |operation| async move {
            engine
                .create_now(operation, pod, config, sandbox, name)
                .await
        };
        self.operations()
            .run("CreateContainer", &subject, key, create)
            .await
    }

    async fn create_now(
        self,
        operation: Arc<Operation>,
        pod: Arc<Pod>,
        config: ContainerConfig,
        sandbox: Option<PodSandboxConfig>,
        key: String,
    ) -> Outcome {
        let none = |e: Error| (e, None);
        if let Some(id) = self.named(&key) {
            return self.same_container(&id, &config).map_err(none);
        }
        if pod.phase() != PodPhase::Ready {
            let text = format!("pod {}: not ready", pod.name());
            return Err((Error::new(Kind::State, text), None));
        }
        let id = new_id().map_err(none)?;
        let record = ContainerRecord {
            boot: self.host().boot_id.clone(),
            id,
            pod: pod.id.clone(),
            created: now(),
            config,
            ..ContainerRecord::default()
        };
        let container = Arc::new(Container::new(record, pod, Phase::Making));
        self.add_container(Some(key), Arc::clone(&container));
        match self.build(&operation, &container, sandbox).await {
            Ok(()) => {
                self.keep_stages(&operation, &container);
                Ok(container.id.clone())
            }
            Err(e) => {
                let engine = self.clone();
                let undo: Undo = Box::pin(async move { engine.abandon(&container).await });
                Err((e, Some(undo)))
            }
        }
    }

    fn same_container(&self, id: &str, config: &ContainerConfig) -> Result<String> {
        let container = self.container(id)?;
        if lock(&container.record).config == *config {
            return Ok(container.id.clone());
        }
        Err(Error::new(
            Kind::Exists,
            format!(
                "container {}: exists as {id} with another configuration; remove it, or use the next attempt",
                container.name()
            ),
        ))
    }

    async fn build(
        &self,
        operation: &Arc<Operation>,
        container: &Arc<Container>,
        sandbox: Option<PodSandboxConfig>,
    ) -> Result<()> {
        // The request's copy of the pod's configuration may be newer than the pod.
        let pod_config = sandbox.unwrap_or_else(|| lock(&container.pod.record).config.clone());
        let (engine, own, steps) = (self.clone(), Arc::clone(container), Arc::clone(operation));
        let prepare = move || engine.prepare(&steps, &own, &pod_config);
        let (engine, own, steps) = (self.clone(), Arc::clone(container), Arc::clone(operation));
        let create = move |client: &mut Client, create| {
            let (process, parts) = client.create(create).map_err(|e| translate(&e))?;
            lock(&own.pod.kept).insert(own.id.clone(), parts);
            for warning in &process.warnings {
                tracing::warn!(container = %own.name(), %warning);
            }
            steps.stage("commit");
            {
                let mut record = lock(&own.record);
                record.pid = process.pid;
                record.made = true;
            }
            engine.put_container(&own)
        };
        container.pod.call_with(self, prepare, create).await?;
        container.phase.send_replace(Phase::Created);
        self.event(What::Created, &container.pod.id, &container.id);
        Ok(())
    }

    /// Everything before the runtime is asked.
    fn prepare(
        &self,
        operation: &Operation,
        container: &Arc<Container>,
        pod_config: &PodSandboxConfig,
    ) -> Result<Create> {
        operation.stage("image");
        let image = self.find_image(container)?;
        operation.stage("record");
        self.put_container(container)?;
        operation.stage("root file system");
        let root = images::mount(
            self.images(),
            &image.id,
            &container.id,
            mapped(&container.pod),
        )?;
        operation.stage("configuration");
        let bundle = self.write_config(container, pod_config, &image, &root)?;
        operation.stage("runtime");
        self.create_request(container, pod_config, bundle)
    }

    fn find_image(&self, container: &Arc<Container>) -> Result<Image> {
        let spec = lock(&container.record)
            .config
            .image
            .clone()
            .unwrap_or_default();
        if spec.image.is_empty() {
            return Err(Error::invalid("container image.image: missing"));
        }
        let image = images::find(self.images(), &spec.image)?;
        let mut record = lock(&container.record);
        record.image_id = image.id.to_string();
        record.image_ref.clone_from(&image.reference);
        Ok(image)
    }

    fn write_config(
        &self,
        container: &Arc<Container>,
        pod_config: &PodSandboxConfig,
        image: &Image,
        root: &std::path::Path,
    ) -> Result<PathBuf> {
        let record = container.record();
        let pod = container.pod.record();
        let settings = self.settings();
        let security = security(&record.config);
        let directory = File::open(root).doing(|| format!("open({})", root.display()))?;
        let user = oci::user::resolve(directory.as_fd(), &image.config.user, &security)?;
        let mounts = self.image_volumes(container, &record.config)?;
        let (mut spec, warnings) = oci::container(ContainerInput {
            id: &container.id,
            pod_id: &pod.id,
            config: &record.config,
            pod: pod_config,
            namespaces: &pod.namespaces,
            pause: pod.pid,
            target: self.target(&security)?,
            image: &image.config,
            root,
            user: &user,
            pod_dir: &container.pod.dir,
            mounts: &mounts,
            cgroup_parent: &pod.cgroup_parent,
            policy: &settings.policy,
            host: self.host(),
        })?;
        relabel(&record.config, &spec)?;
        for warning in warnings {
            tracing::warn!(container = %container.name(), %warning);
        }
        let bundle = container.pod.dir.join(&container.id);
        let external = settings.handler(&pod.handler)?;
        write_bundle(&bundle, &mut spec, external.as_ref())?;
        let mut record = lock(&container.record);
        record.uid = user.uid;
        record.gid = user.gid;
        record.groups = user.additional_gids;
        record.stop_signal = oci::stop_signal(&record.config, &image.config);
        record.cgroups_path = spec.linux.map(|l| l.cgroups_path).unwrap_or_default();
        Ok(bundle)
    }

    /// Mounts the images that are volumes of the container.
    fn image_volumes<'a>(
        &self,
        container: &Arc<Container>,
        config: &'a ContainerConfig,
    ) -> Result<Vec<AskedMount<'a>>> {
        let mut all = Vec::with_capacity(config.mounts.len());
        for (n, mount) in config.mounts.iter().enumerate() {
            let image = match &mount.image {
                Some(spec) if !spec.image.is_empty() => {
                    let key = format!("{}-volume-{n}", container.id);
                    lock(&container.record).volumes.push(key.clone());
                    let root = images::mount_read_only(
                        self.images(),
                        &spec.image,
                        &key,
                        mapped(&container.pod),
                    )?;
                    Some(sub_path(root, &mount.image_sub_path)?)
                }
                _ => None,
            };
            all.push(AskedMount { mount, image });
        }
        Ok(all)
    }

    fn target(&self, security: &LinuxContainerSecurityContext) -> Result<Option<i32>> {
        let options = security.namespace_options.clone().unwrap_or_default();
        if options.pid() != NamespaceMode::Target {
            return Ok(None);
        }
        let target = self.container(&options.target_id)?;
        let pid = lock(&target.record).pid;
        Ok((target.phase() == Phase::Running).then_some(pid))
    }

    fn create_request(
        &self,
        container: &Arc<Container>,
        pod_config: &PodSandboxConfig,
        bundle: PathBuf,
    ) -> Result<Create> {
        let settings = self.settings();
        let record = container.record();
        let handler = lock(&container.pod.record).handler.clone();
        let config = &record.config;
        let log = (!pod_config.log_directory.is_empty() && !config.log_path.is_empty())
            .then(|| PathBuf::from(&pod_config.log_directory).join(&config.log_path));
        if let Some(path) = log.clone() {
            lock(&container.record).log_path = path.to_string_lossy().into_owned();
            container
                .log_is_new
                .store(!path.exists(), Ordering::Relaxed);
            let dir = path.parent().unwrap_or(&path);
            std::fs::create_dir_all(dir).doing(|| format!("mkdir({})", dir.display()))?;
        }
        Ok(Create {
            id: container.id.clone(),
            bundle,
            runtime: settings.handler(&handler)?,
            systemd_cgroup: settings.policy.driver == Driver::Systemd,
            stdio: if config.tty {
                Stdio::Terminal
            } else {
                Stdio::Pipes
            },
            stdin: match (config.stdin, config.stdin_once) {
                (false, _) => Stdin::Closed,
                (true, false) => Stdin::Open,
                (true, true) => Stdin::Once,
            },
            log: log.map(|path| LogOptions {
                path,
                max_bytes: settings.log.max_bytes,
                max_files: settings.log.max_files,
                rate: settings.log.rate,
            }),
            start: false,
        })
    }

    /// Undoes a container that could not be made.
    pub(crate) async fn abandon(&self, container: &Arc<Container>) {
        match stubbornly(|| self.unmake(container)).await {
            Ok(()) => self.forget(&container.id),
            Err(error) => {
                tracing::error!(container = %container.name(), %error, "not all of a failed container could be undone; the removal of its pod tries again");
                self.free_name(&container.id);
            }
        }
        let made = Arc::clone(container);
        if let Err(error) = blocking(move || remove_empty_log(&made)).await {
            tracing::warn!(container = %container.name(), %error, "the log of a failed container stays");
        }
        container.phase.send_replace(Phase::Removed);
    }

    /// Removes all that there is of a container.
    pub(crate) async fn unmake(&self, container: &Arc<Container>) -> Result<()> {
        let id = container.id.clone();
        if container.pod.dir.join(supervise::SOCKET).exists() {
            match container
                .pod
                .call(self, move |client| client.delete(&id, true))
                .await
            {
                Err(e) if e.kind() != Kind::NotFound => return Err(e),
                _ => {}
            }
        }
        lock(&container.pod.kept).remove(&container.id);
        let (engine, container) = (self.clone(), Arc::clone(container));
        blocking(move || {
            let mut errors = crate::take_down::Errors::default();
            errors.note(images::unmount(engine.images(), &container.id));
            for key in container.record().volumes {
                errors.note(images::unmount(engine.images(), &key));
            }
            errors.note(files::remove_tree(&container.pod.dir.join(&container.id)));
            errors.result()?;
            engine.0.records.remove(&container.place, &container.id)
        })
        .await
    }
}

/// Removes the log of a container that never was, or each retry would leave one: the kubelet counts
/// a container's restarts by its logs.
fn remove_empty_log(container: &Container) -> Result<()> {
    let path = PathBuf::from(lock(&container.record).log_path.as_str());
    if !container.log_is_new.load(Ordering::Relaxed) {
        return Ok(());
    }
    match path.symlink_metadata() {
        Ok(file) if file.is_file() && file.len() == 0 => {
            std::fs::remove_file(&path).doing(|| format!("unlink({})", path.display()))
        }
        _ => Ok(()),
    }
}

/// Gives volumes that ask for it the container's label.
fn relabel(config: &ContainerConfig, spec: &spec::oci::Spec) -> Result<()> {
    let label = spec.linux.as_ref().map_or("", |l| l.mount_label.as_str());
    let wanted = config
        .mounts
        .iter()
        .filter(|m| m.selinux_relabel && !label.is_empty());
    wanted
        .map(|m| m.host_path.as_ref())
        .try_for_each(|path| oci::labels::relabel(path, label))
}

/// The process whose user namespace the pod's files are to be seen in.
fn mapped(pod: &Pod) -> Option<i32> {
    let record = lock(&pod.record);
    record.namespaces.user.is_some().then_some(record.pid)
}

/// A container's security settings.
pub(crate) fn security(config: &ContainerConfig) -> LinuxContainerSecurityContext {
    let linux = config.linux.as_ref();
    linux
        .and_then(|l| l.security_context.clone())
        .unwrap_or_default()
}

/// A directory or file of a mounted image; no symlink of the image leads out of it.
fn sub_path(root: PathBuf, sub: &str) -> Result<PathBuf> {
    use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
    if sub.is_empty() {
        return Ok(root);
    }
    let what = || format!("image_sub_path {sub}");
    let directory = File::open(&root).doing(what)?;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let found = openat2(
        &directory,
        sub,
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
        resolve,
    )
    .doing(what)?;
    let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&found));
    let path = std::fs::read_link(link).doing(what)?;
    // The image is read-only: what was found cannot be moved away before it is mounted.
    if path.starts_with(&root) {
        Ok(path)
    } else {
        Err(Error::invalid(format!(
            "{}: leads out of the image",
            what()
        )))
    }
}
