//! What is done to a running container: commands, attaching, logs, limits.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use cri_api::v1::{ExecSyncResponse, LinuxContainerResources};
use supervise::protocol::{Attach, Exec, ExecSync, Part};
use supervise::{Client, Parts, Running};

use crate::container::{Container, Phase};
use crate::engine::Engine;
use crate::error::{Doing, Error, Kind, Result};
use crate::oci::resources;
use crate::operation::lock;
use crate::pod::PodPhase;
use crate::record::PodRecord;
use crate::supervisor::{Readable, blocking, translate};

/// A command that runs, and the connection over which its end will be told.
#[derive(Debug)]
pub struct Command {
    client: Client,
    running: Running,
}

impl Command {
    /// The master of its terminal.
    pub fn terminal(&mut self) -> Option<OwnedFd> {
        self.running.terminal.take()
    }

    /// Waits for its end; its exit code.
    ///
    /// # Errors
    /// The supervisor has gone, or the code cannot be known.
    pub async fn wait(self) -> Result<i32> {
        let Self {
            mut client,
            running,
        } = self;
        // Nothing else comes over this connection.
        Readable::new(&client)?.wait().await?;
        let ended = blocking(move || client.ended(&running).map_err(|e| translate(&e))).await?;
        ended
            .code
            .ok_or_else(|| Error::failed("exit code", ended.note.unwrap_or_default()))
    }
}

impl Engine {
    /// A container that runs.
    ///
    /// # Errors
    /// There is none, or it does not run.
    pub fn running(&self, id: &str) -> Result<Arc<Container>> {
        let container = self.container(id)?;
        if container.phase() == Phase::Running {
            return Ok(container);
        }
        let text = format!(
            "container {}: is {:?}, not Running",
            container.id,
            container.phase()
        );
        Err(Error::new(Kind::State, text))
    }

    /// Runs a command and collects what it writes. With a timeout (in seconds) it is killed then,
    /// with all that it has started.
    ///
    /// # Errors
    /// The container does not run, the command cannot be run, or it has not ended in time.
    pub async fn exec_sync(
        &self,
        id: &str,
        args: Vec<String>,
        timeout: i64,
    ) -> Result<ExecSyncResponse> {
        let container = self.running(id)?;
        if args.is_empty() {
            return Err(Error::invalid("ExecSync: no command given"));
        }
        let exec = ExecSync {
            id: container.id.clone(),
            args,
            timeout_millis: u64::try_from(timeout).unwrap_or(0).saturating_mul(1000),
            max_output: Some(self.settings().exec_output_max),
        };
        let collected = container
            .pod
            .call(self, move |client| client.exec_sync(exec))
            .await?;
        if collected.output.timed_out {
            let text = format!(
                "ExecSync in {}: not ended after {timeout} s: killed",
                container.name()
            );
            return Err(Error::new(Kind::Deadline, text));
        }
        let ended = collected.output.ended;
        let code = ended
            .code
            .ok_or_else(|| Error::failed("exit code", ended.note.unwrap_or_default()))?;
        Ok(ExecSyncResponse {
            stdout: collected.stdout,
            stderr: collected.stderr,
            exit_code: code,
        })
    }

    /// Runs a command with these descriptors, or with a terminal of its own.
    ///
    /// # Errors
    /// The container does not run, or the command cannot be run.
    pub async fn exec(
        &self,
        id: &str,
        args: Vec<String>,
        terminal: bool,
        streams: Vec<(Part, OwnedFd)>,
    ) -> Result<Command> {
        let container = self.running(id)?;
        let mut client = container.pod.connect(self).await?;
        let exec = Exec {
            id: container.id.clone(),
            args,
            terminal,
            parts: streams.iter().map(|(part, _)| *part).collect(),
            ..Exec::default()
        };
        blocking(move || {
            let fds: Vec<_> = streams.iter().map(|(_, fd)| fd.as_fd()).collect();
            let running = client.exec(exec, &fds).map_err(|e| translate(&e))?;
            Ok(Command { client, running })
        })
        .await
    }

    /// The ends of a container's input and output.
    ///
    /// # Errors
    /// It does not run.
    pub async fn attach(&self, id: &str, stdin: bool, stdout: bool, stderr: bool) -> Result<Parts> {
        let container = self.running(id)?;
        let attach = Attach {
            id: container.id.clone(),
            stdin,
            stdout,
            stderr,
        };
        container
            .pod
            .call(self, move |client| client.attach(attach))
            .await
    }

    /// Sets the size of a container's terminal.
    ///
    /// # Errors
    /// It has none.
    pub async fn resize(&self, id: &str, rows: u16, columns: u16) -> Result<()> {
        let container = self.running(id)?;
        let id = container.id.clone();
        container
            .pod
            .call(self, move |client| client.resize(&id, rows, columns))
            .await
    }

    /// Has a container's log opened again, after it was renamed.
    ///
    /// # Errors
    /// It does not run, or the file cannot be made.
    pub async fn reopen_log(&self, id: &str) -> Result<()> {
        let container = self.running(id)?;
        let id = container.id.clone();
        container
            .pod
            .call(self, move |client| client.reopen_log(&id))
            .await
    }

    /// Changes a container's limits. What is not given stays.
    ///
    /// # Errors
    /// It has ended, or a limit cannot be set.
    pub async fn update_container(&self, id: &str, given: LinuxContainerResources) -> Result<()> {
        let container = self.container(id)?;
        if !matches!(container.phase(), Phase::Running | Phase::Created) {
            let text = format!("container {}: is {:?}", container.id, container.phase());
            return Err(Error::new(Kind::State, text));
        }
        let (engine, changed) = (self.clone(), Arc::clone(&container));
        blocking(move || {
            let limits = resources::resources(&given, engine.host());
            let manager = engine.manager(&changed.record())?;
            let warnings = manager
                .apply(&limits)
                .doing(|| format!("limits of {}", changed.name()))?;
            for warning in warnings {
                tracing::warn!(container = %changed.name(), %warning);
            }
            let mut record = lock(&changed.record);
            let linux = record.config.linux.get_or_insert_default();
            resources::merge(linux.resources.get_or_insert_default(), &given);
            Ok(())
        })
        .await?;
        self.save_container(&container).await
    }

    /// Notes a pod's limits, and sets them where its control group is ours.
    ///
    /// # Errors
    /// A limit cannot be set.
    pub async fn update_pod(
        &self,
        id: &str,
        overhead: Option<LinuxContainerResources>,
        given: Option<LinuxContainerResources>,
    ) -> Result<()> {
        let pod = self.pod(id)?;
        let (engine, changed) = (self.clone(), Arc::clone(&pod));
        blocking(move || {
            if let Some(given) = &given {
                engine.limit_pod(&changed.record(), given)?;
            }
            let mut record = lock(&changed.record);
            let linux = record.config.linux.get_or_insert_default();
            if let Some(overhead) = overhead {
                linux.overhead = Some(overhead);
            }
            if let Some(given) = given {
                resources::merge(linux.resources.get_or_insert_default(), &given);
            }
            Ok(())
        })
        .await?;
        self.save_pod(&pod).await
    }

    /// Sets a pod's limits where its control group is ours; else whoever made it has.
    pub(crate) fn limit_pod(
        &self,
        record: &PodRecord,
        given: &LinuxContainerResources,
    ) -> Result<()> {
        if !record.own_parent {
            return Ok(());
        }
        let request = cgroup::Request {
            path: Some(&record.cgroup_parent),
            ..cgroup::Request::default()
        };
        let what = || format!("limits of pod {}", record.id);
        let manager = cgroup::Manager::new(&request).doing(what)?;
        let warnings = manager
            .apply(&resources::resources(given, self.host()))
            .doing(what)?;
        for warning in warnings {
            tracing::warn!(pod = %record.id, %warning);
        }
        Ok(())
    }

    /// A path to the network namespace of a pod; none for the machine's own.
    ///
    /// # Errors
    /// The pod is not ready.
    pub fn netns(&self, id: &str) -> Result<Option<std::path::PathBuf>> {
        let pod = self.pod(id)?;
        if pod.phase() != PodPhase::Ready {
            return Err(Error::new(
                Kind::State,
                format!("pod {}: not ready", pod.name()),
            ));
        }
        let record = lock(&pod.record);
        Ok(
            (!record.namespaces.host_network)
                .then(|| format!("/proc/{}/ns/net", record.pid).into()),
        )
    }
}
