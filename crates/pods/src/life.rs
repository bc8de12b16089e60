//! StartContainer, StopContainer, RemoveContainer, and what an end means.

use std::sync::Arc;
use std::time::Duration;

use runtime::ContainerId;
use runtime::root::StateRoot;
use runtime::verdict::Stages;
use supervise::Client;
use supervise::protocol::{Exit, Kind as Why, Oom, Stop};

use crate::clock;
use crate::container::{Container, Phase};
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};
use crate::journal::{What, now};
use crate::operation::{Operation, lock};
use crate::record::Ended;
use crate::supervisor::translate;
use crate::take_down::done;

/// How long the news of an end may take after the end itself.
const NEWS: Duration = Duration::from_secs(10);
/// How often a start is tried whose supervisor is killed meanwhile.
const TRIES: u32 = 5;
/// Why a container ended whose program never ran, and the code that it has then, as with CRI-O and
/// containerd.
const START_ERROR: &str = "StartError";
const START_ERROR_CODE: i32 = 128;

impl Engine {
    /// Starts a container.
    ///
    /// # Errors
    /// It is not just created, or its program cannot be run; the latter ends it.
    pub async fn start_container(&self, id: &str) -> Result<()> {
        let container = self.container(id)?;
        let (subject, key) = (container.name(), format!("start/{}", container.id));
        let engine = self.clone();
        let start = |operation: Arc<Operation>| async move {
            done(engine.start_now(&operation, &container).await)
        };
        self.operations()
            .run("StartContainer", &subject, key, start)
            .await
            .map(drop)
    }

    async fn start_now(
        &self,
        operation: &Arc<Operation>,
        container: &Arc<Container>,
    ) -> Result<()> {
        match container.phase() {
            Phase::Created => {}
            // A retry whose first try has got through.
            Phase::Running => return Ok(()),
            other => {
                let text = format!("container {}: is {other:?}, not Created", container.id);
                return Err(Error::new(Kind::State, text));
            }
        }
        operation.stage("program");
        let mut tries = 1;
        loop {
            let (engine, own, steps) = (self.clone(), Arc::clone(container), Arc::clone(operation));
            let start = move |client: &mut Client, ()| {
                let started = client.start(&own.id);
                if started.is_ok() {
                    steps.stage("commit");
                    engine.note_started(&own)?;
                }
                Ok(started)
            };
            let started = container.pod.call_with(self, || Ok(()), start);
            let Err(error) = started.await? else {
                break;
            };
            match error.kind() {
                // The container may have come through; the next supervisor finds out.
                _ if matches!(error, supervise::Error::Gone(_)) && tries < TRIES => tries += 1,
                Why::Program | Why::Invalid | Why::Failed => {
                    let error = translate(&error);
                    self.start_failed(container, &error).await?;
                    return Err(error);
                }
                _ => return Err(translate(&error)),
            }
        }
        self.keep_stages(operation, container);
        Ok(())
    }

    /// Writes down how long an operation took at each stage, for `hullctl why`. Best effort, and
    /// nobody waits for it.
    pub(crate) fn keep_stages(&self, operation: &Operation, container: &Arc<Container>) {
        let mut stages = Stages::begin(operation.kind());
        for (name, took) in operation.timings() {
            stages.add(name, took);
        }
        let (root, id) = (self.places().runtime_root.clone(), container.id.clone());
        let keep = move || {
            let found = StateRoot::open(&root).ok().flatten()?;
            let id = ContainerId::new(&id).ok()?;
            let kept = runtime::Container::open(&found, &id);
            let kept = kept.or_else(|_| runtime::foreign::open(&found, &id)).ok()?;
            stages.keep(&kept);
            Some(())
        };
        drop(tokio::task::spawn_blocking(keep));
    }

    /// Notes that a container runs, once, on a thread that may wait. Its end may have been told of
    /// before.
    pub(crate) fn note_started(&self, container: &Container) -> Result<()> {
        let news = container.phase.send_if_modified(|phase| {
            let news = *phase == Phase::Created;
            if news {
                *phase = Phase::Running;
                lock(&container.record).started = now();
            }
            news
        });
        if news {
            self.event(What::Started, &container.pod.id, &container.id);
            self.put_container(container)?;
        }
        Ok(())
    }

    async fn start_failed(&self, container: &Arc<Container>, error: &Error) -> Result<()> {
        let ended = Ended {
            code: START_ERROR_CODE,
            reason: START_ERROR.to_owned(),
            message: error.to_string(),
            at: now(),
        };
        self.note_ended(container, ended, None).await
    }

    /// Asks a container to end, and kills it after `timeout` seconds. One that has ended, or that
    /// nobody knows, is no error. A call with less time shortens that of the calls before. `by` is
    /// who wants it, for those who ask why it ended.
    ///
    /// # Errors
    /// It does not end.
    pub async fn stop_container(&self, id: &str, timeout: i64, by: String) -> Result<()> {
        let container = match self.container(id) {
            Ok(container) => container,
            Err(e) if e.kind() == Kind::NotFound => return Ok(()),
            Err(e) => return Err(e),
        };
        let engine = self.clone();
        let timeout = u64::try_from(timeout).unwrap_or(0);
        // Calls that differ in time are operations of their own: the supervisor takes the shorter.
        let (subject, key) = (container.name(), format!("stop/{}/{timeout}", container.id));
        let stop = |operation: Arc<Operation>| async move {
            operation.stage("end");
            done(engine.stop_now(&container, timeout, &by).await)
        };
        self.operations()
            .run("StopContainer", &subject, key, stop)
            .await
            .map(drop)
    }

    pub(crate) async fn stop_now(
        &self,
        container: &Arc<Container>,
        timeout: u64,
        by: &str,
    ) -> Result<()> {
        if !matches!(container.phase(), Phase::Running | Phase::Created) {
            return Ok(());
        }
        let stop = Stop {
            id: container.id.clone(),
            signal: if timeout == 0 {
                9
            } else {
                lock(&container.record).stop_signal
            },
            grace_millis: timeout.saturating_mul(1000),
            by: by.to_owned(),
        };
        match container
            .pod
            .call(self, move |client| client.stop(stop))
            .await
        {
            Ok(()) => {}
            Err(e) if matches!(e.kind(), Kind::NotFound | Kind::State) => {}
            Err(e) => return Err(e),
        }
        let mut phase = container.phase.subscribe();
        let ended =
            phase.wait_for(|p| matches!(p, Phase::Exited | Phase::Unknown | Phase::Removed));
        if tokio::time::timeout(NEWS, ended).await.is_err() {
            return Err(Error::new(
                Kind::Deadline,
                format!(
                    "container {}: ended, but its supervisor does not say how",
                    container.id
                ),
            ));
        }
        Ok(())
    }

    /// Removes a container, and kills it before if it runs. An unknown one is no error. `by` is who
    /// wants it.
    ///
    /// # Errors
    /// What could not be removed; the container stays, for another try.
    pub async fn remove_container(&self, id: &str, by: String) -> Result<()> {
        let container = match self.container(id) {
            Ok(container) => container,
            Err(e) if e.kind() == Kind::NotFound => return Ok(()),
            Err(e) => return Err(e),
        };
        let (subject, key) = (container.name(), format!("remove/{}", container.id));
        let engine = self.clone();
        let remove = |operation: Arc<Operation>| async move {
            done(engine.remove_now(&operation, &container, &by).await)
        };
        self.operations()
            .run("RemoveContainer", &subject, key, remove)
            .await
            .map(drop)
    }

    async fn remove_now(
        &self,
        operation: &Operation,
        container: &Arc<Container>,
        by: &str,
    ) -> Result<()> {
        operation.stage("end");
        if container.phase() == Phase::Running {
            self.stop_now(container, 0, by).await?;
        }
        operation.stage("remove");
        self.unmake(container).await?;
        container.phase.send_replace(Phase::Removed);
        self.event(What::Deleted, &container.pod.id, &container.id);
        self.forget(&container.id);
        Ok(())
    }

    /// What a supervisor tells of an end.
    pub(crate) async fn container_exited(
        &self,
        container: &Arc<Container>,
        exit: Exit,
    ) -> Result<()> {
        let started = clock::parse(&exit.started);
        self.note_ended(container, ended(&exit), started).await
    }

    async fn note_ended(
        &self,
        container: &Arc<Container>,
        ended: Ended,
        started: Option<i64>,
    ) -> Result<()> {
        let mut never_told = false;
        let news = container.phase.send_if_modified(|phase| {
            let news = !matches!(phase, Phase::Exited | Phase::Removed);
            if news {
                let mut record = lock(&container.record);
                never_told = record.started == 0 && started.is_some();
                if never_told {
                    record.started = started.unwrap_or_default();
                }
                record.ended = Some(ended);
                record.pid = 0;
                *phase = Phase::Exited;
            }
            news
        });
        if news {
            if never_told {
                self.event(What::Started, &container.pod.id, &container.id);
            }
            self.event(What::Stopped, &container.pod.id, &container.id);
            self.save_container(container).await?;
        }
        Ok(())
    }
}

/// An exit in the CRI's words.
pub(crate) fn ended(exit: &Exit) -> Ended {
    let mut notes: Vec<String> = Vec::new();
    let reason = match (exit.ended.code, exit.oom, exit.reason.as_str()) {
        (_, Oom::Container, _) => "OOMKilled",
        (_, _, START_ERROR) => START_ERROR,
        (None, ..) => "ContainerStatusUnknown",
        (Some(0), ..) => "Completed",
        (Some(_), ..) => "Error",
    };
    if exit.oom == Oom::Others {
        notes.push("other processes of it were killed for lack of memory before".to_owned());
    }
    notes.extend(exit.ended.note.clone());
    notes.extend(exit.killed_by.clone());
    // The supervisor tells of the runtime's own end where the program has never been.
    let code = match reason {
        START_ERROR => START_ERROR_CODE,
        _ => exit.ended.code.unwrap_or(255),
    };
    Ended {
        code,
        reason: reason.to_owned(),
        message: notes.join("; "),
        at: clock::parse(&exit.finished).unwrap_or_else(now),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_in_the_words_of_cri() {
        for (reason, code, oom, expected) in [
            ("Completed", Some(0), Oom::None, (0, "Completed")),
            ("Error", Some(7), Oom::Others, (7, "Error")),
            ("OOMKilled", Some(137), Oom::Container, (137, "OOMKilled")),
            ("StartError", Some(1), Oom::None, (128, "StartError")),
            ("StartError", None, Oom::None, (128, "StartError")),
            ("Unknown", None, Oom::None, (255, "ContainerStatusUnknown")),
        ] {
            let mut exit = Exit {
                oom,
                reason: reason.to_owned(),
                ..Exit::default()
            };
            exit.ended.code = code;
            let told = ended(&exit);
            assert_eq!((told.code, told.reason.as_str()), expected);
        }
    }
}
