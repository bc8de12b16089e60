//! What is counted: operations, their failures and times, stage by stage.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pods::operation::{Observer, Report};
use pods::{ContainerPhase, Engine, PodPhase};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Upper ends in seconds: from a quick exec to a slow pull.
const BUCKETS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 240.0,
];

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Operation {
    operation: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Failure {
    operation: &'static str,
    kind: String,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Stage {
    operation: &'static str,
    stage: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct State {
    state: String,
}

/// All counters.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    total: Family<Operation, Counter>,
    failures: Family<Failure, Counter>,
    seconds: Family<Operation, Histogram>,
    stages: Family<Stage, Counter<f64, AtomicU64>>,
    running: Family<Stage, Gauge>,
    stalled: Family<Stage, Gauge>,
    pods: Family<State, Gauge>,
    containers: Family<State, Gauge>,
    events: Gauge,
    pulled: Counter,
    served: AtomicU64,
    failed: AtomicU64,
}

fn histogram() -> Histogram {
    Histogram::new(BUCKETS)
}

impl Default for Metrics {
    fn default() -> Self {
        let seconds = Family::new_with_constructor(histogram as fn() -> Histogram);
        let mut all = Self {
            registry: Registry::with_prefix("hull"),
            total: Family::default(),
            failures: Family::default(),
            seconds,
            stages: Family::default(),
            running: Family::default(),
            stalled: Family::default(),
            pods: Family::default(),
            containers: Family::default(),
            events: Gauge::default(),
            pulled: Counter::default(),
            served: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        };
        let r = &mut all.registry;
        r.register(
            "operations",
            "Operations that have ended",
            all.total.clone(),
        );
        r.register(
            "operations_errors",
            "Operations that have failed, by kind",
            all.failures.clone(),
        );
        r.register(
            "operations_latency_seconds",
            "How long operations took",
            all.seconds.clone(),
        );
        r.register(
            "operations_stage_seconds",
            "Time spent in each stage",
            all.stages.clone(),
        );
        r.register(
            "operations_running",
            "Operations that run now, by stage",
            all.running.clone(),
        );
        r.register(
            "resources_stalled_at_stage",
            "Operations in one stage for too long",
            all.stalled.clone(),
        );
        r.register(
            "pulled_bytes",
            "Bytes of images that were pulled",
            all.pulled.clone(),
        );
        r.register("pods", "Pods by state", all.pods.clone());
        r.register("containers", "Containers by state", all.containers.clone());
        r.register(
            "events_last_number",
            "Number of the newest event",
            all.events.clone(),
        );
        all
    }
}

impl Observer for Metrics {
    fn finished(&self, report: &Report<'_>) {
        let operation = report.kind;
        self.served.fetch_add(1, Ordering::Relaxed);
        self.pulled.inc_by(report.bytes);
        if report.failure.is_some() {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
        self.total.get_or_create(&Operation { operation }).inc();
        if let Some(kind) = report.failure {
            let kind = format!("{kind:?}").to_ascii_lowercase();
            self.failures
                .get_or_create(&Failure { operation, kind })
                .inc();
        }
        self.seconds
            .get_or_create(&Operation { operation })
            .observe(report.took.as_secs_f64());
        for (stage, took) in report.stages {
            self.stages
                .get_or_create(&Stage { operation, stage })
                .inc_by(took.as_secs_f64());
        }
    }
}

impl Metrics {
    /// Operations that have ended, and those of them that failed.
    pub(crate) fn totals(&self) -> (u64, u64) {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (of(&self.served), of(&self.failed))
    }

    /// Bytes of images that were pulled.
    pub(crate) fn pulled(&self) -> u64 {
        self.pulled.get()
    }

    /// All of it as text (OpenMetrics).
    ///
    /// # Errors
    /// Never: it is written to memory.
    pub fn text(&self, engine: &Engine) -> Result<String, std::fmt::Error> {
        self.look(engine);
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }

    /// Sets what is not counted but looked at.
    fn look(&self, engine: &Engine) {
        self.running.clear();
        self.stalled.clear();
        let limit: Duration = engine.settings().stalled_after;
        for o in engine.operations().running() {
            let stage = Stage {
                operation: o.kind,
                stage: o.stage,
            };
            self.running.get_or_create(&stage).inc();
            if o.stage_age > limit {
                self.stalled.get_or_create(&stage).inc();
            }
        }
        self.pods.clear();
        for pod in engine.pods() {
            let state = if pod.phase() == PodPhase::Ready {
                "ready"
            } else {
                "notready"
            };
            self.pods
                .get_or_create(&State {
                    state: state.to_owned(),
                })
                .inc();
        }
        self.containers.clear();
        for container in engine.containers() {
            let phase: ContainerPhase = container.phase();
            let state = format!("{phase:?}").to_ascii_lowercase();
            self.containers.get_or_create(&State { state }).inc();
        }
        self.events
            .set(i64::try_from(engine.journal().last()).unwrap_or(i64::MAX));
    }
}
