//! What the daemon's configuration gives the engine.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::oci::Policy;

/// Places that do not change while the daemon runs.
#[derive(Clone, Debug)]
pub struct Places {
    /// State that outlives the machine: `/var/lib/hull`.
    pub state: PathBuf,
    /// State of this boot: `/run/hull`.
    pub run: PathBuf,
    /// State root of the runtime, where `hull list` looks.
    pub runtime_root: PathBuf,
    /// The program `hull`.
    pub hull: PathBuf,
}

/// Where logs end and begin anew, beside what the kubelet does.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogLimits {
    /// Rename a log that would grow beyond so many bytes.
    pub max_bytes: Option<u64>,
    /// Keep so many.
    pub max_files: Option<u32>,
    /// Drop what comes faster than so many bytes a second.
    pub rate: Option<u64>,
}

/// What can be changed while the daemon runs; what is being made keeps what it began with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// For every container.
    pub policy: Policy,
    /// Where pods go that name no control group.
    pub cgroup_parent: String,
    /// External runtimes by the name of their handler.
    pub handlers: BTreeMap<String, supervise::protocol::External>,
    /// The handler of pods that ask for none; empty for the built-in one.
    pub default_handler: String,
    /// Limits of logs.
    pub log: LogLimits,
    /// Size of `/dev/shm`, in bytes.
    pub shm_size: u64,
    /// The most that `ExecSync` keeps of each output.
    pub exec_output_max: u64,
    /// How long a stage may take before it counts as stalled.
    pub stalled_after: Duration,
}

/// The name of the handler that is built in.
pub const BUILT_IN: &str = "hull";

impl Settings {
    /// The external runtime of a handler; none for the built-in one.
    ///
    /// # Errors
    /// There is no such handler.
    pub fn handler(&self, name: &str) -> Result<Option<supervise::protocol::External>> {
        let name = if name.is_empty() {
            &self.default_handler
        } else {
            name
        };
        if name.is_empty() || name == BUILT_IN {
            return Ok(None);
        }
        let known = || {
            self.handlers
                .keys()
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(", ")
        };
        self.handlers.get(name).cloned().map(Some).ok_or_else(|| {
            Error::invalid(format!(
                "runtime handler {name}: not configured; known are {BUILT_IN} (built in) {}",
                known()
            ))
        })
    }
}
