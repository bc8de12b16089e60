//! Operations that can be joined: a request with the key of a running one gets that one's result.
//!
//! An operation runs in a task of its own, so a caller that gives up takes nothing with it; the
//! next request with its key joins. What a failed one has to undo is undone after its result is
//! out; until then its key is taken and new requests wait.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;

use crate::error::{Error, Kind, Result};

/// Undoing, for when the result is out.
pub type Undo = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What an operation gives: an id (or nothing), or an error and what is left to undo.
pub type Outcome = std::result::Result<String, (Error, Option<Undo>)>;

/// Who is told about finished operations.
pub trait Observer: Send + Sync + std::fmt::Debug {
    /// An operation has ended.
    fn finished(&self, report: &Report<'_>);
}

/// One that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// `RunPodSandbox`.
    pub kind: &'static str,
    /// The failure, if it failed.
    pub failure: Option<Kind>,
    /// Bytes that it has transferred.
    pub bytes: u64,
    /// In all.
    pub took: Duration,
    /// Its stages in turn.
    pub stages: &'a [(&'static str, Duration)],
}

/// One that runs.
#[derive(Clone, Debug)]
pub struct Running {
    /// `RunPodSandbox`.
    pub kind: &'static str,
    /// The pod or container, in words.
    pub subject: String,
    /// When it began.
    pub since: SystemTime,
    /// For how long it has been running.
    pub age: Duration,
    /// Where it is.
    pub stage: &'static str,
    /// For how long it has been there.
    pub stage_age: Duration,
    /// Of a transfer: bytes that are there, and all of them; 0 of 0 for anything else.
    pub bytes: (u64, u64),
}

/// A handle for the operation itself: where it tells its stages.
#[derive(Debug)]
pub struct Operation {
    kind: &'static str,
    subject: String,
    since: SystemTime,
    started: Instant,
    stages: Mutex<Vec<(&'static str, Instant)>>,
    /// Bytes that are there, and all of them.
    bytes: [AtomicU64; 2],
    result: watch::Sender<Option<Result<String>>>,
    gone: watch::Sender<bool>,
}

impl Operation {
    /// The next stage begins.
    pub fn stage(&self, name: &'static str) {
        tracing::debug!(operation = self.kind, subject = %self.subject, stage = name);
        lock(&self.stages).push((name, Instant::now()));
    }

    /// So many bytes are to be transferred in all.
    pub fn expect(&self, bytes: u64) {
        self.bytes[1].store(bytes, Ordering::Relaxed);
    }

    /// So many of them are not needed after all.
    pub fn skip(&self, bytes: u64) {
        self.bytes[1].fetch_sub(bytes, Ordering::Relaxed);
    }

    /// So many more bytes are there.
    pub fn advance(&self, bytes: u64) {
        self.bytes[0].fetch_add(bytes, Ordering::Relaxed);
    }

    fn bytes(&self) -> (u64, u64) {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (of(&self.bytes[0]), of(&self.bytes[1]))
    }

    /// `RunPodSandbox`.
    pub(crate) fn kind(&self) -> &'static str {
        self.kind
    }

    fn current(&self) -> (&'static str, Duration) {
        let stages = lock(&self.stages);
        let (name, since) = stages.last().copied().unwrap_or(("begin", self.started));
        (name, since.elapsed())
    }

    pub(crate) fn timings(&self) -> Vec<(&'static str, Duration)> {
        let stages = lock(&self.stages);
        let now = Instant::now();
        let ends = stages.iter().skip(1).map(|s| s.1).chain([now]);
        stages
            .iter()
            .zip(ends)
            .map(|(s, end)| (s.0, end - s.1))
            .collect()
    }

    /// Says where it failed, and after how long if that is long: the same failure is to have the
    /// same text, by which the kubelet knows that it has reported it already.
    fn explain(&self, error: Error) -> Error {
        let (stage, age) = self.current();
        let mut place = format!("{} {}: stage {stage}", self.kind, self.subject);
        if age >= Duration::from_secs(1) {
            let _ = write!(place, " ({} s)", age.as_secs());
        }
        error.within(place)
    }
}

/// All that run.
#[derive(Debug, Default)]
pub struct Operations {
    running: Mutex<HashMap<String, Arc<Operation>>>,
    observer: Option<Arc<dyn Observer>>,
}

impl Operations {
    /// None yet.
    #[must_use]
    pub fn new(observer: Option<Arc<dyn Observer>>) -> Self {
        Self {
            running: Mutex::default(),
            observer,
        }
    }

    /// Joins the operation of that key, or begins it.
    ///
    /// # Errors
    /// The operation's, with its name and stage in front.
    pub async fn run<F, R>(
        self: &Arc<Self>,
        kind: &'static str,
        subject: &str,
        key: String,
        begin: F,
    ) -> Result<String>
    where
        F: FnOnce(Arc<Operation>) -> R + Send,
        R: Future<Output = Outcome> + Send + 'static,
    {
        loop {
            let (operation, is_new) = self.enter(kind, subject, &key);
            if is_new {
                let work = begin(Arc::clone(&operation));
                let result = operation.result.subscribe();
                let all = Arc::clone(self);
                tokio::spawn(async move { all.carry_out(key, operation, work).await });
                return outcome(result).await;
            }
            if operation.result.borrow().is_none() {
                tracing::info!(operation = kind, subject, "joins the running one");
                return outcome(operation.result.subscribe()).await;
            }
            let mut gone = operation.gone.subscribe();
            // The sender lives in `operation`, which we hold.
            let _ = gone.wait_for(|&gone| gone).await;
        }
    }

    fn enter(&self, kind: &'static str, subject: &str, key: &str) -> (Arc<Operation>, bool) {
        let mut running = lock(&self.running);
        if let Some(operation) = running.get(key) {
            return (Arc::clone(operation), false);
        }
        let operation = Arc::new(Operation {
            kind,
            subject: subject.to_owned(),
            since: SystemTime::now(),
            started: Instant::now(),
            stages: Mutex::default(),
            bytes: Default::default(),
            result: watch::Sender::new(None),
            gone: watch::Sender::new(false),
        });
        running.insert(key.to_owned(), Arc::clone(&operation));
        (operation, true)
    }

    async fn carry_out<R>(&self, key: String, operation: Arc<Operation>, work: R)
    where
        R: Future<Output = Outcome> + Send + 'static,
    {
        // In a task of its own, so that a defect in one operation cannot leave its key taken.
        let (result, undo) = match tokio::spawn(work).await {
            Ok(Ok(id)) => (Ok(id), None),
            Ok(Err((error, undo))) => (Err(operation.explain(error)), undo),
            Err(broken) => (Err(operation.explain(Error::failed("task", broken))), None),
        };
        let took = operation.started.elapsed();
        let stages = operation.timings();
        let failure = result.as_ref().err().map(Error::kind);
        if let Some(observer) = &self.observer {
            observer.finished(&Report {
                kind: operation.kind,
                failure,
                bytes: operation.bytes().0,
                took,
                stages: &stages,
            });
        }
        match &result {
            Ok(_) => {
                tracing::info!(operation = operation.kind, subject = %operation.subject, ms = took.as_millis(), "done")
            }
            Err(error) => tracing::warn!(%error, ms = took.as_millis(), "failed"),
        }
        operation.result.send_replace(Some(result));
        if let Some(undo) = undo {
            operation.stage("undo");
            undo.await;
        }
        lock(&self.running).remove(&key);
        operation.gone.send_replace(true);
    }

    /// What runs now, the oldest first.
    #[must_use]
    pub fn running(&self) -> Vec<Running> {
        let all: Vec<Arc<Operation>> = lock(&self.running).values().cloned().collect();
        let mut all: Vec<Running> = all
            .iter()
            .map(|o| {
                let (stage, stage_age) = o.current();
                Running {
                    kind: o.kind,
                    subject: o.subject.clone(),
                    since: o.since,
                    age: o.started.elapsed(),
                    stage,
                    stage_age,
                    bytes: o.bytes(),
                }
            })
            .collect();
        all.sort_by_key(|running| std::cmp::Reverse(running.age));
        all
    }

    /// Where the operation of that key is, in words, for a caller whose time is over.
    #[must_use]
    pub fn describe(&self, kind: &str, subject_part: &str) -> Option<String> {
        let found = self
            .running()
            .into_iter()
            .find(|r| r.kind == kind && r.subject.contains(subject_part))?;
        Some(format!(
            "{} {}: for {:.1} s, of which {:.1} s in stage {}; it goes on, and a retry joins it",
            found.kind,
            found.subject,
            found.age.as_secs_f64(),
            found.stage_age.as_secs_f64(),
            found.stage
        ))
    }
}

async fn outcome(mut result: watch::Receiver<Option<Result<String>>>) -> Result<String> {
    match result.wait_for(Option::is_some).await {
        Ok(value) => value.clone().unwrap_or_else(|| Ok(String::new())),
        Err(_) => Err(Error::new(
            Kind::Unavailable,
            "the operation was given up: shutting down",
        )),
    }
}

/// A lock whose holder has failed is still good: what it guards is changed in single steps.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_second_request_joins_the_first() {
        let all = Arc::new(Operations::default());
        let count = Arc::new(AtomicU32::new(0));
        let begun = Arc::new(tokio::sync::Notify::new());
        let go = Arc::new(tokio::sync::Notify::new());
        let first = {
            let (all, count) = (Arc::clone(&all), Arc::clone(&count));
            let (begun, go) = (Arc::clone(&begun), Arc::clone(&go));
            tokio::spawn(async move {
                all.run("Test", "x", "x".into(), |op| async move {
                    op.stage("waiting");
                    count.fetch_add(1, Ordering::SeqCst);
                    begun.notify_one();
                    go.notified().await;
                    Ok("id".to_owned())
                })
                .await
            })
        };
        begun.notified().await;
        let second = {
            let all = Arc::clone(&all);
            tokio::spawn(async move {
                all.run("Test", "x", "x".into(), |_| async {
                    Ok("other".to_owned())
                })
                .await
            })
        };
        // The first caller gives up; its operation does not.
        first.abort();
        while !second.is_finished() && all.running().is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(all.running()[0].stage, "waiting");
        assert!(all.describe("Test", "x").unwrap().contains("stage waiting"));
        tokio::task::yield_now().await;
        go.notify_one();
        assert_eq!(second.await.unwrap().unwrap(), "id");
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_failure_names_its_stage_and_is_undone_before_the_next() {
        let all = Arc::new(Operations::default());
        let undone = Arc::new(AtomicU32::new(0));
        let flag = Arc::clone(&undone);
        let failed = all.run("Test", "x", "x".into(), |op| async move {
            op.stage("breaking");
            let undo: Undo = Box::pin(async move {
                tokio::task::yield_now().await;
                flag.store(1, Ordering::SeqCst);
            });
            Err((Error::invalid("no good"), Some(undo)))
        });
        let text = failed.await.unwrap_err().to_string();
        assert_eq!(text, "Test x: stage breaking: no good");
        let flag = Arc::clone(&undone);
        let next = all.run("Test", "x", "x".into(), |_| async move {
            assert_eq!(flag.load(Ordering::SeqCst), 1);
            Ok(String::new())
        });
        next.await.unwrap();
    }
}
