//! StopPodSandbox and RemovePodSandbox. Both go on after an error and tell all of them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use supervise::protocol::Stop;

use crate::container::{Container, Phase};
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};
use crate::files;
use crate::journal::What;
use crate::operation::{Operation, Outcome, lock};
use crate::pod::{Pod, PodPhase};
use crate::supervisor::blocking;

/// How often an undoing is tried.
const TRIES: u32 = 5;

/// How long the removal of a pod waits for containers that are being made.
const SETTLE: Duration = Duration::from_secs(10);

/// Tries again what undoes something: a supervisor that dies meanwhile is replaced for the next try.
pub(crate) async fn stubbornly<R>(undo: impl Fn() -> R + Send) -> Result<()>
where
    R: Future<Output = Result<()>> + Send,
{
    let mut tries = 1;
    loop {
        match undo().await {
            Err(error) if tries < TRIES => tracing::warn!(%error, tries, "undoing is tried again"),
            result => return result,
        }
        tokio::time::sleep(Duration::from_millis(100) * tries).await;
        tries += 1;
    }
}

/// Errors of steps that do not wait for each other.
#[derive(Debug, Default)]
pub(crate) struct Errors(Vec<Error>);

impl Errors {
    pub(crate) fn note(&mut self, result: Result<()>) {
        self.0.extend(result.err());
    }

    pub(crate) fn result(self) -> Result<()> {
        let Some(first) = self.0.first() else {
            return Ok(());
        };
        let all: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        Err(Error::new(first.kind(), all.join("; ")))
    }
}

impl Engine {
    /// Ends a pod's containers and its sandbox, for `by`. An unknown pod is no error.
    ///
    /// # Errors
    /// What could not be ended.
    pub async fn stop_pod(&self, id: &str, by: String) -> Result<()> {
        let Some(pod) = self.pod_if_any(id)? else {
            return Ok(());
        };
        let engine = self.clone();
        let (subject, key) = (pod.name(), format!("stop-pod/{}", pod.id));
        let stop = |operation: Arc<Operation>| async move {
            done(engine.stop_pod_now(Some(&operation), &pod, &by).await)
        };
        self.operations()
            .run("StopPodSandbox", &subject, key, stop)
            .await
            .map(drop)
    }

    /// Ends a pod, and removes all that there is of it, for `by`. An unknown pod is no error.
    ///
    /// # Errors
    /// What could not be removed; the pod stays, for another try.
    pub async fn remove_pod(&self, id: &str, by: String) -> Result<()> {
        let Some(pod) = self.pod_if_any(id)? else {
            return Ok(());
        };
        let engine = self.clone();
        let (subject, key) = (pod.name(), format!("remove-pod/{}", pod.id));
        let remove = |operation: Arc<Operation>| async move {
            done(engine.remove_pod_now(&operation, &pod, &by).await)
        };
        self.operations()
            .run("RemovePodSandbox", &subject, key, remove)
            .await
            .map(drop)
    }

    fn pod_if_any(&self, id: &str) -> Result<Option<Arc<Pod>>> {
        match self.pod(id) {
            Ok(pod) => Ok(Some(pod)),
            Err(e) if e.kind() == Kind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    async fn remove_pod_now(&self, operation: &Operation, pod: &Arc<Pod>, by: &str) -> Result<()> {
        let mut errors = Errors::default();
        errors.note(self.stop_pod_now(Some(operation), pod, by).await);
        operation.stage("containers being made");
        self.settle(pod).await;
        operation.stage("remove containers");
        for container in self.containers_of(&pod.id) {
            errors.note(self.remove_container(&container.id, by.to_owned()).await);
        }
        let left = self.all_of(&pod.id).into_iter();
        for container in left.filter(|c| c.phase() == Phase::Removed) {
            let unmade = self.unmake(&container).await;
            if unmade.is_ok() {
                self.forget(&container.id);
            }
            errors.note(unmade);
        }
        errors.result()?;
        operation.stage("remove sandbox");
        self.take_down(pod).await?;
        self.event(What::Deleted, &pod.id, &pod.id);
        self.forget(&pod.id);
        Ok(())
    }

    /// Waits, but not for ever, for containers that are being made or undone.
    async fn settle(&self, pod: &Arc<Pod>) {
        let end = tokio::time::Instant::now() + SETTLE;
        for container in self.all_of(&pod.id) {
            let mut phase = container.phase.subscribe();
            let settled = phase.wait_for(|phase| *phase != Phase::Making);
            // What hangs is left to its own operation.
            let _ = tokio::time::timeout_at(end, settled).await;
        }
    }

    pub(crate) async fn stop_pod_now(
        &self,
        operation: Option<&Operation>,
        pod: &Arc<Pod>,
        by: &str,
    ) -> Result<()> {
        let stage = |name| operation.into_iter().for_each(|o| o.stage(name));
        let mut errors = Errors::default();
        stage("containers");
        let running: Vec<Arc<Container>> = self
            .containers_of(&pod.id)
            .into_iter()
            .filter(|c| c.phase() == Phase::Running)
            .collect();
        let mut stops = Vec::new();
        for container in running {
            let (engine, by) = (self.clone(), by.to_owned());
            stops.push(tokio::spawn(async move {
                engine.stop_now(&container, 0, &by).await
            }));
        }
        for stop in stops {
            errors.note(stop.await.unwrap_or_else(|e| Err(Error::failed("task", e))));
        }
        stage("network");
        self.leave_network(pod).await;
        stage("sandbox");
        errors.note(self.stop_sandbox(pod, by).await);
        errors.result()
    }

    /// What cannot be undone now is by and by; a pod that has ended must not wait for that.
    async fn leave_network(&self, pod: &Arc<Pod>) {
        if let Err(error) = self.disconnect_pod(pod).await {
            tracing::warn!(pod = %pod.name(), %error, "network not wholly torn down");
        }
    }

    async fn stop_sandbox(&self, pod: &Arc<Pod>, by: &str) -> Result<()> {
        if lock(&pod.record).pid != 0 {
            let stop = Stop {
                id: pod.id.clone(),
                // It has no handler for anything else.
                signal: 9,
                grace_millis: 0,
                by: by.to_owned(),
            };
            match pod.call(self, move |client| client.stop(stop)).await {
                Ok(()) => {}
                Err(e) if matches!(e.kind(), Kind::NotFound | Kind::State) => {}
                Err(e) => return Err(e),
            }
        }
        self.sandbox_ended(pod).await
    }

    /// Notes that a sandbox has ended, once.
    pub(crate) async fn sandbox_ended(&self, pod: &Arc<Pod>) -> Result<()> {
        let was = pod.phase.send_if_modified(|phase| {
            let was = *phase == PodPhase::Ready;
            if was {
                *phase = PodPhase::NotReady;
            }
            was
        });
        {
            let mut record = lock(&pod.record);
            record.pid = 0;
            record.ready = false;
        }
        if was {
            self.event(What::Stopped, &pod.id, &pod.id);
            self.save_pod(pod).await?;
        }
        Ok(())
    }

    async fn disconnect_pod(&self, pod: &Arc<Pod>) -> Result<()> {
        let (engine, pod) = (self.clone(), Arc::clone(pod));
        let failed = |e: net::Error| Error::new(Kind::Failed, e.to_string());
        let leaving = blocking(move || {
            if !lock(&pod.record).network || pod.leaving.swap(true, Ordering::Relaxed) {
                return Ok(None);
            }
            let leaving = engine.0.network.leave(&pod.id).and_then(|leaving| {
                if !leaving {
                    engine.0.network.teardown(&pod.id)?;
                    lock(&pod.record).network = false;
                }
                Ok(leaving)
            });
            let leaving = leaving.map_err(|e| {
                pod.leaving.store(false, Ordering::Relaxed);
                failed(e)
            })?;
            Ok(leaving.then_some(pod))
        });
        if let Some(pod) = leaving.await? {
            tokio::spawn(finish_leaving(self.clone(), pod));
        }
        Ok(())
    }

    /// Removes all that there is of a pod whose containers are gone.
    pub(crate) async fn take_down(&self, pod: &Arc<Pod>) -> Result<()> {
        self.leave_network(pod).await;
        let sandbox = self.places().runtime_root.join(&pod.id);
        let supervised = lock(&pod.supervisor).is_some();
        if supervised || pod.dir.join(supervise::SOCKET).exists() || sandbox.exists() {
            let id = pod.id.clone();
            // Without its end there is something left for its supervisor to do.
            pod.call(self, move |client| client.delete(&id, true))
                .await?;
            pod.quit().await?;
        }
        pod.phase.send_replace(PodPhase::Removed);
        lock(&pod.kept).clear();
        let (engine, pod) = (self.clone(), Arc::clone(pod));
        blocking(move || {
            let mut errors = Errors::default();
            errors.note(files::remove(&pod.dir));
            let record = pod.record();
            if record.own_parent {
                errors.note(remove_parent(&record.cgroup_parent));
            }
            errors.result()?;
            engine.0.records.remove(&pod.place, &pod.id)
        })
        .await
    }
}

/// The kernel removes the links of many namespaces at once when they have ended; who asks for the
/// removal of one waits for all that it has to do. After a while it is asked: a process that
/// came from outside may keep the namespace.
async fn finish_leaving(engine: Engine, pod: Arc<Pod>) {
    const LOOK: Duration = Duration::from_millis(50);
    const LOOKS: usize = 40;
    let finish = |network: &net::Network, id: &str, ask: bool| {
        if !ask && network.has_link(id).unwrap_or(false) {
            return Ok(false);
        }
        network.teardown(id).map(|()| true)
    };
    for look in 1..=LOOKS {
        tokio::time::sleep(LOOK).await;
        let (engine, id) = (engine.clone(), pod.id.clone());
        let done = blocking(move || {
            let done = finish(&engine.0.network, &id, look == LOOKS);
            done.map_err(|e| Error::new(Kind::Failed, e.to_string()))
        });
        match done.await {
            Ok(false) => {}
            Ok(true) => {
                lock(&pod.record).network = false;
                return;
            }
            Err(error) => {
                tracing::warn!(pod = %pod.name(), %error, "network not wholly torn down");
                pod.leaving.store(false, Ordering::Relaxed);
                return;
            }
        }
    }
}

/// Removes a control group that we made for a pod, in every hierarchy.
fn remove_parent(path: &str) -> Result<()> {
    let request = cgroup::Request {
        path: Some(path),
        ..cgroup::Request::default()
    };
    let mut manager = cgroup::Manager::new(&request).map_err(|e| Error::failed("cgroup", e))?;
    manager
        .delete()
        .map_err(|e| Error::failed(format!("cgroup {path}"), e))
}

/// An operation's end without a value.
pub(crate) fn done(result: Result<()>) -> Outcome {
    result.map(|()| String::new()).map_err(|e| (e, None))
}
