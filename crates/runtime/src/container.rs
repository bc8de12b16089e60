//! A container that exists: its record, its status, its processes.

use std::fmt;

use cgroup::Manager;
use spec::oci;
use sys::Errno;

use crate::record::Record;
use crate::root::{ContainerDir, StateRoot};
use crate::{ContainerId, Doing as _, Error, ProcessId, Result};

/// Name of the copy of `config.json`.
pub const CONFIG: &str = "config.json";
/// Name of the socket on which a created container waits for its start.
pub const START_SOCKET: &str = "start.sock";

/// Where a container is in its life (runtime.md, State).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Status {
    /// A `create` is at work, or has been killed at it.
    Creating,
    /// Complete; the user's program has not been started.
    Created,
    /// The user's program runs.
    Running,
    /// Running, but frozen.
    Paused,
    /// The first process has ended.
    Stopped,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        })
    }
}

/// A container.
#[derive(Debug)]
pub struct Container {
    /// Its id.
    pub id: ContainerId,
    /// Its state directory.
    pub dir: ContainerDir,
    /// What is written down about it.
    pub record: Record,
}

impl Container {
    /// The container of this id.
    ///
    /// # Errors
    /// [`Error::NotFound`], or the record cannot be read.
    pub fn open(root: &StateRoot, id: &ContainerId) -> Result<Self> {
        let dir = root.container(id)?;
        let dir = dir.ok_or_else(|| Error::NotFound(id.to_string()))?;
        let record = match dir.record() {
            // It goes last: there is no container any more.
            Err(Error::Sys(e)) if e.errno == Errno::NOENT => {
                return Err(Error::NotFound(id.to_string()));
            }
            other => other?,
        };
        let id = id.clone();
        Ok(Self { id, dir, record })
    }

    /// Its status now.
    ///
    /// # Errors
    /// /proc or the cgroup cannot be read.
    pub fn status(&self) -> Result<Status> {
        if self.record.creator.is_some() {
            return Ok(Status::Creating);
        }
        match self.record.init {
            Some(init) if init.is_alive()? => {}
            _ => return Ok(Status::Stopped),
        }
        if self.dir.has(START_SOCKET)? {
            return Ok(Status::Created);
        }
        match self.cgroups() {
            Some(manager) if manager.is_frozen()? => Ok(Status::Paused),
            _ => Ok(Status::Running),
        }
    }

    /// Whether it is what a killed `create` left.
    ///
    /// # Errors
    /// /proc cannot be read.
    pub fn is_abandoned(&self) -> Result<bool> {
        match self.record.creator {
            Some(creator) => Ok(!creator.is_alive()?),
            None => Ok(false),
        }
    }

    /// Its first process, if that still runs.
    ///
    /// # Errors
    /// [`Error::NotRunning`].
    pub fn init(&self) -> Result<ProcessId> {
        match self.record.init {
            Some(init) if init.is_alive()? => Ok(init),
            _ => Err(Error::NotRunning),
        }
    }

    /// Its control groups; `None` where it has none.
    #[must_use]
    pub fn cgroups(&self) -> Option<Manager> {
        let state = self.record.cgroup.clone()?;
        Some(Manager::from_state(state)).filter(Manager::has_any)
    }

    /// Its configuration, as it was at creation.
    ///
    /// # Errors
    /// The copy cannot be read.
    pub fn config(&self) -> Result<oci::Spec> {
        let bytes = self.dir.read(CONFIG)?;
        // By the one reader of configurations: a second one would be as large again.
        spec::parse_config(&bytes).doing(|| self.dir.path().join(CONFIG).display().to_string())
    }

    /// The document that hooks and seccomp listeners get.
    #[must_use]
    pub fn oci_state(&self, status: Status) -> oci::State {
        let pid = self.record.init.map_or(0, |init| init.pid);
        self.record.oci_state(status, pid)
    }
}
