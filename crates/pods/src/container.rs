//! A container in memory.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use cri_api::v1::{self, ContainerState};
use tokio::sync::watch;

use crate::oci::signal;
use crate::operation::lock;
use crate::pod::Pod;
use crate::record::{ContainerRecord, Place};

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Phase {
    /// Being made; nobody is told of it yet.
    Making,
    /// Made.
    Created,
    /// Its program runs.
    Running,
    /// Its program has ended.
    Exited,
    /// What became of it cannot be found out.
    Unknown,
    /// It is no more.
    Removed,
}

/// A container.
#[derive(Debug)]
pub struct Container {
    /// Its id.
    pub id: String,
    /// Its pod.
    pub pod: Arc<Pod>,
    pub(crate) record: Mutex<ContainerRecord>,
    pub(crate) place: Place,
    pub(crate) phase: watch::Sender<Phase>,
    /// Processor time and when it was read, for the rate.
    pub(crate) sample: Mutex<Option<(i64, u64)>>,
    /// When its writable layer was counted, its bytes and inodes.
    pub(crate) layer: Mutex<Option<(Instant, u64, u64)>>,
    /// Its log was not there before it.
    pub(crate) log_is_new: AtomicBool,
}

impl Container {
    pub(crate) fn new(record: ContainerRecord, pod: Arc<Pod>, phase: Phase) -> Self {
        Self {
            id: record.id.clone(),
            pod,
            record: Mutex::new(record),
            place: Place::default(),
            phase: watch::Sender::new(phase),
            sample: Mutex::default(),
            layer: Mutex::default(),
            log_is_new: AtomicBool::new(false),
        }
    }

    /// Where it is in its life.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// What is written down about it, as it is now.
    pub fn record(&self) -> ContainerRecord {
        lock(&self.record).clone()
    }

    /// Pod and name, for people.
    pub fn name(&self) -> String {
        let name = lock(&self.record)
            .config
            .metadata
            .clone()
            .unwrap_or_default()
            .name;
        format!("{}/{name}", self.pod.name())
    }

    /// Its state in the CRI's words.
    pub fn state(&self) -> ContainerState {
        match self.phase() {
            Phase::Making | Phase::Created => ContainerState::ContainerCreated,
            Phase::Running => ContainerState::ContainerRunning,
            Phase::Exited | Phase::Removed => ContainerState::ContainerExited,
            Phase::Unknown => ContainerState::ContainerUnknown,
        }
    }

    /// Waits until it has ended.
    pub async fn ended(&self) {
        let mut phase = self.phase.subscribe();
        // The sender is ours.
        let _ = phase
            .wait_for(|p| !matches!(p, Phase::Making | Phase::Created | Phase::Running))
            .await;
    }

    /// What lists say of it.
    pub fn summary(&self) -> v1::Container {
        let record = lock(&self.record);
        v1::Container {
            id: self.id.clone(),
            pod_sandbox_id: record.pod.clone(),
            metadata: record.config.metadata.clone(),
            image: record.config.image.clone(),
            image_ref: record.image_ref.clone(),
            state: self.state().into(),
            created_at: record.created,
            labels: record.config.labels.clone(),
            annotations: record.config.annotations.clone(),
            image_id: record.image_id.clone(),
        }
    }

    /// Its whole status.
    pub fn status(&self) -> v1::ContainerStatus {
        let record = lock(&self.record);
        let ended = record.ended.clone().unwrap_or_default();
        let linux = record.config.linux.as_ref();
        let image = record.config.image.clone().unwrap_or_default();
        let named = if image.user_specified_image.is_empty() {
            &image.image
        } else {
            &image.user_specified_image
        };
        v1::ContainerStatus {
            id: self.id.clone(),
            metadata: record.config.metadata.clone(),
            state: self.state().into(),
            created_at: record.created,
            started_at: record.started,
            finished_at: ended.at,
            exit_code: ended.code,
            image: Some(v1::ImageSpec {
                image: named.clone(),
                ..image.clone()
            }),
            image_ref: record.image_ref.clone(),
            reason: ended.reason,
            message: ended.message,
            labels: record.config.labels.clone(),
            annotations: record.config.annotations.clone(),
            mounts: record.config.mounts.clone(),
            log_path: record.log_path.clone(),
            resources: linux.and_then(|l| l.resources.clone()).map(|linux| {
                v1::ContainerResources {
                    linux: Some(linux),
                    windows: None,
                }
            }),
            image_id: record.image_id.clone(),
            user: Some(v1::ContainerUser {
                linux: Some(v1::LinuxContainerUser {
                    uid: record.uid.into(),
                    gid: record.gid.into(),
                    supplemental_groups: record.groups.iter().map(|&g| g.into()).collect(),
                }),
            }),
            stop_signal: signal::to_cri(record.stop_signal).into(),
        }
    }
}
