//! A pod in memory.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Child;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use cri_api::v1;
use supervise::Parts;
use tokio::sync::watch;

use crate::operation::lock;
use crate::record::{Place, PodRecord};

/// Where a pod is in its life.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PodPhase {
    /// Being made; nobody is told of it yet.
    Making,
    /// Its sandbox runs.
    Ready,
    /// Its sandbox has ended.
    NotReady,
    /// It is no more.
    Removed,
}

/// A pod.
#[derive(Debug)]
pub struct Pod {
    /// Its id.
    pub id: String,
    /// Its directory below the run directory.
    pub dir: PathBuf,
    pub(crate) record: Mutex<PodRecord>,
    pub(crate) place: Place,
    pub(crate) phase: watch::Sender<PodPhase>,
    /// The supervisor, to be waited for.
    pub(crate) supervisor: Mutex<Option<Child>>,
    /// Descriptors that another supervisor would need, by container.
    pub(crate) kept: Mutex<HashMap<String, Parts>>,
    /// Processor time and when it was read, for the rate.
    pub(crate) sample: Mutex<Option<(i64, u64)>>,
    /// The supervisor is meant to end.
    pub(crate) ending: AtomicBool,
    /// It has begun to leave the network.
    pub(crate) leaving: AtomicBool,
    /// One revival of the supervisor at a time.
    pub(crate) reviving: tokio::sync::Mutex<()>,
}

impl Pod {
    pub(crate) fn new(record: PodRecord, dir: PathBuf, phase: PodPhase) -> Self {
        Self {
            id: record.id.clone(),
            dir,
            record: Mutex::new(record),
            place: Place::default(),
            phase: watch::Sender::new(phase),
            supervisor: Mutex::default(),
            kept: Mutex::default(),
            sample: Mutex::default(),
            ending: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            reviving: tokio::sync::Mutex::default(),
        }
    }

    /// Where it is in its life.
    pub fn phase(&self) -> PodPhase {
        *self.phase.borrow()
    }

    /// What is written down about it, as it is now.
    pub fn record(&self) -> PodRecord {
        lock(&self.record).clone()
    }

    /// Name and namespace, for people.
    pub fn name(&self) -> String {
        name(&lock(&self.record).config)
    }

    /// What lists say of it.
    pub fn summary(&self) -> v1::PodSandbox {
        let record = lock(&self.record);
        v1::PodSandbox {
            id: self.id.clone(),
            metadata: record.config.metadata.clone(),
            state: self.state().into(),
            created_at: record.created,
            labels: record.config.labels.clone(),
            annotations: record.config.annotations.clone(),
            runtime_handler: record.handler.clone(),
        }
    }

    /// Its state in the CRI's words.
    pub fn state(&self) -> v1::PodSandboxState {
        match self.phase() {
            PodPhase::Ready => v1::PodSandboxState::SandboxReady,
            _ => v1::PodSandboxState::SandboxNotready,
        }
    }

    /// Its whole status.
    pub fn status(&self) -> v1::PodSandboxStatus {
        let record = lock(&self.record);
        let security = record
            .config
            .linux
            .as_ref()
            .and_then(|l| l.security_context.as_ref());
        let options = security
            .and_then(|s| s.namespace_options.clone())
            .unwrap_or_default();
        let ready = self.phase() == PodPhase::Ready;
        let mut ips = record.ips.iter().filter(|_| ready);
        v1::PodSandboxStatus {
            id: self.id.clone(),
            metadata: record.config.metadata.clone(),
            state: self.state().into(),
            created_at: record.created,
            network: Some(v1::PodSandboxNetworkStatus {
                ip: ips.next().cloned().unwrap_or_default(),
                additional_ips: ips.map(|ip| v1::PodIp { ip: ip.clone() }).collect(),
            }),
            linux: Some(v1::LinuxPodSandboxStatus {
                namespaces: Some(v1::Namespace {
                    options: Some(options),
                }),
            }),
            labels: record.config.labels.clone(),
            annotations: record.config.annotations.clone(),
            runtime_handler: record.handler.clone(),
        }
    }
}

/// `namespace/name`, and the attempt where it is not the first.
pub(crate) fn name(config: &v1::PodSandboxConfig) -> String {
    let m = config.metadata.clone().unwrap_or_default();
    match m.attempt {
        0 => format!("{}/{}", m.namespace, m.name),
        n => format!("{}/{} (attempt {n})", m.namespace, m.name),
    }
}
