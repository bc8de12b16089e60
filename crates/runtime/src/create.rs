//! Creating a container: everything but the user's program.

mod build;
mod prepare;

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use spec::Plan;

use crate::become_program::Descriptors;
use crate::notify::Listening;
use crate::root::StateRoot;
use crate::spawn::Child;
use crate::spawn::one_cpu::OneCpu;
use crate::verdict::Stages;
use crate::{Container, ContainerId, Error, Result, Warn, sweep};
use build::Building;
pub(crate) use prepare::Prepared;

/// What `create` and `run` are asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// The new container's id.
    pub id: ContainerId,
    /// Directory with `config.json`.
    pub bundle: PathBuf,
    /// Socket that takes the master of the terminal.
    pub console_socket: Option<PathBuf>,
    /// Socket that takes the pidfd of the container.
    pub pidfd_socket: Option<PathBuf>,
    /// File that gets the pid of the container.
    pub pid_file: Option<PathBuf>,
    /// Enter the root without pivot_root(2).
    pub no_pivot: bool,
    /// Keep the caller's session keyring.
    pub no_new_keyring: bool,
    /// Descriptors passed on.
    pub descriptors: Descriptors,
    /// Have systemd manage the control groups.
    pub systemd_cgroup: bool,
    /// Tolerate what needs the rights of the machine's root.
    pub rootless: bool,
    /// The socket of whoever wants to know when the program is ready (sd_notify(3)).
    pub notify_socket: Option<String>,
    /// Who starts the program, and who keeps its terminal.
    pub start: Start,
}

/// How a container is to be started.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Start {
    /// By a later `start`.
    Later,
    /// By a later `start`; the caller stays, and keeps its terminal.
    Held,
    /// At once; the caller does not stay.
    Detached,
    /// At once; the caller stays, and is its terminal.
    Attached,
}

impl Start {
    /// Whether the caller stays.
    const fn stays(self) -> bool {
        matches!(self, Self::Attached | Self::Held)
    }
}

/// A container that has been created.
#[derive(Debug)]
pub struct Created {
    /// The container.
    pub container: Container,
    /// What it was made from.
    pub plan: Plan,
    /// Its first process, and the channel to it.
    pub child: Child,
    /// The master of its terminal, where the caller keeps it.
    pub console: Option<OwnedFd>,
    /// Where the program says that it is ready, if it starts at once and somebody wants to know.
    pub listening: Option<Listening>,
    /// Keeps the runtime where the child is.
    pub(crate) together: Option<OneCpu>,
}

/// Creates a container; with [`Start::Later`] it then waits for [`crate::start`], otherwise its
/// process goes on to the user's program at once, and [`crate::start::attend`] tells how that
/// went.
///
/// On an error everything is undone; what could not be is part of the error.
///
/// # Errors
/// [`Error::Exists`], a configuration that cannot be honoured, or the step that failed.
pub fn create(root: &StateRoot, request: &Request, warn: Warn<'_>) -> Result<Created> {
    // Said first: with the id taken, a socket that is gone by now is not what is wrong.
    if root.container(&request.id)?.is_some() && !sweep::abandoned(root, &request.id, warn)? {
        return Err(Error::Exists(request.id.to_string()));
    }
    let mut stages = Stages::begin("create");
    let prepared = Prepared::new(root, request, warn)?;
    let container = claim(root, &prepared, warn)?;
    stages.end("configuration");
    let mut building = Building::new(container, prepared, request, stages);
    match building.build(warn) {
        Ok(console) => building.finish(console),
        Err(e) => Err(building.undo(root, e, warn)),
    }
}

/// Takes the id. Where a killed `create` holds it, its remains are cleared away first.
pub(crate) fn claim(root: &StateRoot, prepared: &Prepared, warn: Warn<'_>) -> Result<Container> {
    let (id, record) = (&prepared.id, &prepared.record);
    let dir = match root.add(id, record) {
        Err(Error::Exists(_)) if sweep::abandoned(root, id, warn)? => root.add(id, record)?,
        other => other?,
    };
    Ok(Container {
        id: id.clone(),
        dir,
        record: record.clone(),
    })
}
