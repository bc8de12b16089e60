//! Pods and containers: state machines, their journal, and what they are made from. No gRPC; the
//! CRI's messages are the model.
//!
//! [`Engine`] is all of it. An operation runs in a task of its own and can be joined
//! ([`operation`]); what blocks (files, mounts, the supervisor's socket) runs on threads for that;
//! lists are read from memory. What a restart must find is in [`record`], what has happened in
//! [`journal`].

#![forbid(unsafe_code)]

mod checkpoint;
mod clock;
mod container;
mod create;
mod engine;
mod error;
mod files;
mod follow;
mod images;
pub mod journal;
mod life;
pub mod metrics;
mod network;
pub mod oci;
pub mod operation;
mod pod;
pub mod record;
mod restore;
mod run;
mod run_pod;
mod settings;
mod stats;
mod supervisor;
mod take_down;

pub use container::{Container, Phase as ContainerPhase};
pub use engine::{Engine, Parts};
pub use error::{Error, Kind, Result};
pub use network::Attached;
pub use pod::{Pod, PodPhase};
pub use run::Command;
pub use runtime::clock::now_rfc3339;
pub use settings::{BUILT_IN, LogLimits, Places, Settings};
