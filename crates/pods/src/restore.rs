//! Finding again what an earlier daemon has left.

use std::sync::Arc;
use std::time::Duration;

use supervise::Client;
use supervise::protocol::{Phase as Told, Status};

use crate::container::{Container, Phase};
use crate::engine::Engine;
use crate::error::Result;
use crate::images;
use crate::journal::{What, now};
use crate::operation::lock;
use crate::pod::{Pod, PodPhase};
use crate::record::{ContainerRecord, Ended, Place, PodRecord, Record};
use crate::run_pod;
use crate::supervisor::{adopt_strays, blocking, keep, translate};
use crate::take_down::Errors;

/// How long the start waits for supervisors; what takes longer goes on beside it.
const PATIENCE: Duration = Duration::from_secs(5);

impl Engine {
    /// Puts records into memory, asks the supervisors how things are, and clears away what was
    /// being made when the last daemon ended.
    pub(crate) async fn restore(&self, found: Vec<Record>) {
        let mut pods = Vec::new();
        let mut containers = Vec::new();
        for record in found {
            match record {
                Record::Pod(record) => pods.push(self.restore_pod(record)),
                Record::Container(record) => containers.push(record),
            }
        }
        for record in containers {
            self.restore_container(record).await;
        }
        let mut tasks = Vec::new();
        for pod in pods {
            let engine = self.clone();
            tasks.push(tokio::spawn(async move { engine.recover(&pod).await }));
        }
        let all = async {
            for task in tasks {
                if let Err(error) = task.await {
                    tracing::error!(%error, "recovery of a pod");
                }
            }
        };
        if tokio::time::timeout(PATIENCE, all).await.is_err() {
            tracing::warn!("not all supervisors have answered yet: serving what is known");
        }
        let engine = self.clone();
        let abandon = move || crate::checkpoint::abandon(engine.places());
        self.log("checkpoints that were broken off", blocking(abandon).await);
        let live: Vec<String> = self.pods().iter().map(|p| p.id.clone()).collect();
        let network = Arc::clone(&self.0.network);
        let collect = move || Ok(network.gc(|id| live.iter().any(|l| l == id)));
        if let Ok((gone, errors)) = blocking(collect).await {
            for error in errors {
                tracing::warn!(%error, "network of a pod that is no more");
            }
            if !gone.is_empty() {
                tracing::info!(?gone, "networks of pods that are no more: released");
            }
        }
    }

    fn restore_pod(&self, record: PodRecord) -> Arc<Pod> {
        let this_boot = record.boot == self.host().boot_id;
        let phase = match (record.made, record.ready && this_boot) {
            (false, _) => PodPhase::Making,
            (true, true) => PodPhase::Ready,
            (true, false) => PodPhase::NotReady,
        };
        let dir = self.places().run.join("pods").join(&record.id);
        let key = run_pod::key(&record.config.metadata.clone().unwrap_or_default());
        let pod = Arc::new(Pod::new(record, dir, phase));
        self.add_pod(Some(key), Arc::clone(&pod));
        pod
    }

    async fn restore_container(&self, record: ContainerRecord) {
        let pod = lock(&self.0.tables).pods.get(&record.pod).cloned();
        let Some(pod) = pod else {
            tracing::warn!(id = %record.id, "a container without its pod: removed");
            let engine = self.clone();
            let remove = move || {
                let mut errors = Errors::default();
                for key in record.volumes.iter().chain([&record.id]) {
                    errors.note(images::unmount(engine.images(), key));
                }
                errors.result()?;
                engine.0.records.remove(&Place::default(), &record.id)
            };
            self.log("a container without its pod", blocking(remove).await);
            return;
        };
        let this_boot = record.boot == self.host().boot_id;
        let phase = match &record {
            r if !r.made => Phase::Making,
            r if r.ended.is_some() => Phase::Exited,
            _ if !this_boot => Phase::Exited,
            r if r.started != 0 => Phase::Running,
            _ => Phase::Created,
        };
        let metadata = record.config.metadata.clone().unwrap_or_default();
        let key = format!(
            "container/{}/{}/{}",
            pod.id, metadata.name, metadata.attempt
        );
        let container = Arc::new(Container::new(record, pod, phase));
        if phase == Phase::Exited && !this_boot {
            let mut record = lock(&container.record);
            record.pid = 0;
            record
                .ended
                .get_or_insert_with(|| lost("the machine was started again"));
        }
        self.add_container(Some(key), container);
    }

    /// Brings one pod up to date with its supervisor.
    async fn recover(&self, pod: &Arc<Pod>) {
        if lock(&pod.record).boot != self.host().boot_id {
            return;
        }
        if pod.phase() == PodPhase::Making {
            tracing::info!(pod = %pod.name(), "was being made when the last daemon ended: undone");
            self.abandon_pod(pod).await;
            return;
        }
        match self.ask(pod).await {
            Ok(list) => self.compare(pod, list).await,
            Err(error) => {
                tracing::error!(pod = %pod.name(), %error, "its supervisor cannot be asked")
            }
        }
        self.follow(Arc::clone(pod));
    }

    async fn ask(&self, pod: &Arc<Pod>) -> Result<Vec<Status>> {
        // A supervisor that was killed meanwhile is started again by this.
        let mut client: Client = pod.connect(self).await?;
        let ids = self.living(pod);
        let pod = Arc::clone(pod);
        blocking(move || {
            // Or it was started, and then the last daemon was killed, too.
            adopt_strays(&mut client, &ids)?;
            let list = client.list().map_err(|e| translate(&e))?;
            for status in &list {
                keep(&pod, &mut client, &status.create.id);
            }
            Ok(list)
        })
        .await
    }

    async fn compare(&self, pod: &Arc<Pod>, list: Vec<Status>) {
        let sandbox = list.iter().find(|s| s.create.id == pod.id);
        if sandbox.is_none_or(|s| s.phase == Told::Exited) {
            self.log("sandbox", self.sandbox_ended(pod).await);
        }
        let mine: Vec<Arc<Container>> = {
            let tables = lock(&self.0.tables);
            tables
                .containers
                .values()
                .filter(|c| c.pod.id == pod.id)
                .cloned()
                .collect()
        };
        for container in mine {
            let status = list.iter().find(|s| s.create.id == container.id);
            self.compare_one(&container, status).await;
        }
    }

    async fn compare_one(&self, container: &Arc<Container>, status: Option<&Status>) {
        match (container.phase(), status.map(|s| (s.phase, s.exit.clone()))) {
            (Phase::Making, _) => self.abandon(container).await,
            (Phase::Exited, _) => {}
            (_, Some((Told::Exited, Some(exit)))) => {
                let noted = self.container_exited(container, exit).await;
                self.log("end of a container", noted);
            }
            (Phase::Created, Some((Told::Running, _))) => {
                let (engine, own) = (self.clone(), Arc::clone(container));
                let noted = blocking(move || engine.note_started(&own)).await;
                self.log("start of a container", noted);
            }
            (_, Some((Told::Created | Told::Running, _))) => {}
            (_, _) => {
                lock(&container.record).ended =
                    Some(lost("its supervisor does not know it any more"));
                container.phase.send_replace(Phase::Exited);
                self.event(What::Stopped, &container.pod.id, &container.id);
                let saved = self.save_container(container).await;
                self.log("record of a container", saved);
            }
        }
    }

    fn log(&self, what: &str, result: Result<()>) {
        if let Err(error) = result {
            tracing::error!(%error, "{what}");
        }
    }
}

fn lost(why: &str) -> Ended {
    Ended {
        code: 255,
        reason: "ContainerStatusUnknown".to_owned(),
        message: why.to_owned(),
        at: now(),
    }
}
