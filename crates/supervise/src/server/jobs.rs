//! What workers do.

use std::os::fd::OwnedFd;
use std::path::Path;

use cgroup::SubCgroups;
use runtime::create::{Request, Start};
use runtime::exec::Wanted;
use runtime::root::StateRoot;
use runtime::{Container, ContainerId, ProcessId, Status, verdict};
use rustix::process::Pid;
use spec::oci::ConsoleSize;

use super::external;
use super::worker::Made;
use crate::protocol::{Create, External, Stdio};
use crate::{Error, Result};

type Warn<'a> = &'a mut dyn FnMut(&str);

/// A command to be run.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    pub id: String,
    pub document: Option<String>,
    pub args: Vec<String>,
    pub terminal: bool,
    pub size: Option<(u16, u16)>,
    /// Name of a control group of its own.
    pub leaf: Option<String>,
    pub runtime: Option<External>,
}

/// Makes a container, and starts it where that is wanted.
pub(super) fn create(root: &Path, dir: &Path, create: &Create, warn: Warn<'_>) -> Result<Made> {
    if let Some(program) = &create.runtime {
        let made = external::create(program, dir, create);
        remember(root, create, &made);
        return made;
    }
    let root = StateRoot::create(root, false)?;
    let held = if create.stdio == Stdio::Terminal {
        Start::Held
    } else {
        Start::Later
    };
    let request = Request {
        id: ContainerId::new(&create.id)?,
        bundle: create.bundle.clone(),
        console_socket: None,
        pidfd_socket: None,
        pid_file: None,
        no_pivot: false,
        no_new_keyring: false,
        descriptors: runtime::become_program::Descriptors::default(),
        systemd_cgroup: create.systemd_cgroup,
        rootless: runtime::is_rootless(),
        notify_socket: None,
        start: if create.start { Start::Detached } else { held },
    };
    if !create.start {
        let created = runtime::create::create(&root, &request, warn)?;
        let pid = created.child.pid.as_raw_nonzero().get();
        let fds = std::iter::once(created.child.pidfd).chain(created.console);
        return Ok(Made {
            pid,
            fds: fds.collect(),
        });
    }
    let options = runtime::run::Options {
        no_subreaper: true,
        keep: true,
    };
    runtime::run::run(&root, &request, options, warn)?;
    let container = Container::open(&root, &request.id)?;
    let init = container.record.init.ok_or(runtime::Error::NotRunning)?;
    of_child(init.pid)
}

/// Writes down what an external runtime has made, or why it could not, for those who ask why the
/// container ended. Best effort: the container is not worse for it.
fn remember(root: &Path, create: &Create, made: &Result<Made>) {
    let begun = || {
        let root = StateRoot::create(root, false)?;
        let init = match made {
            Ok(made) => ProcessId::of(made.pid)?,
            Err(_) => None,
        };
        let id = ContainerId::new(&create.id)?;
        let systemd = create.systemd_cgroup;
        let kept = runtime::foreign::remember(&root, &id, &create.bundle, systemd, init)?;
        if let Err(e) = made {
            verdict::note(&kept, "failed", &e.to_string());
            runtime::foreign::retire(&root, &kept)?;
        }
        Ok::<(), runtime::Error>(())
    };
    if let Err(e) = begun() {
        super::complain(&format!("remember {}: {e}", create.id));
    }
}

/// What is written down of a container, whoever has made it.
pub(super) fn story(root: &Path, create: &Create) -> Result<Container> {
    if create.runtime.is_none() {
        return open(root, &create.id);
    }
    let id = ContainerId::new(&create.id)?;
    let root = StateRoot::open(root)?;
    let root = root.ok_or_else(|| runtime::Error::NotFound(id.to_string()))?;
    Ok(runtime::foreign::open(&root, &id)?)
}

/// A process that is our child, or is about to become the supervisor's.
pub(super) fn of_child(pid: i32) -> Result<Made> {
    let raw = Pid::from_raw(pid).ok_or(runtime::Error::NotRunning)?;
    Ok(Made {
        pid,
        fds: vec![sys::pidfd::open(raw)?],
    })
}

/// The container of this id.
pub(super) fn open(root: &Path, id: &str) -> Result<Container> {
    let id = ContainerId::new(id)?;
    let root = StateRoot::open(root)?;
    let root = root.ok_or_else(|| runtime::Error::NotFound(id.to_string()))?;
    Ok(Container::open(&root, &id)?)
}

/// Starts a created container.
pub(super) fn start(root: &Path, create: &Create, warn: Warn<'_>) -> Result<()> {
    if let Some(program) = &create.runtime {
        let started = external::run(program, &["start", &create.id]);
        if let (Err(e), Ok(kept)) = (&started, story(root, create)) {
            verdict::note(&kept, "failed", &e.to_string());
        }
        return started;
    }
    let container = open(root, &create.id)?;
    match runtime::start::start(&container, None, warn) {
        // By a worker that was killed with its supervisor.
        Err(runtime::Error::WrongState(_)) if container.status()? == Status::Running => Ok(()),
        other => Ok(other?),
    }
}

/// Whether a container's program runs, as far as the runtime knows.
pub(super) fn is_running(root: &Path, create: &Create) -> Result<bool> {
    if create.runtime.is_some() {
        return Ok(false);
    }
    Ok(open(root, &create.id)?.status()? == Status::Running)
}

/// A descriptor of a container's first process, if that lives and the runtime knows which it is.
pub(super) fn pidfd(root: &Path, create: &Create) -> Result<Option<OwnedFd>> {
    if create.runtime.is_some() {
        return Ok(None);
    }
    match open(root, &create.id)?.record.init {
        Some(init) => Ok(init.pidfd()?),
        None => Ok(None),
    }
}

/// Unmakes a container.
pub(super) fn delete(
    root: &Path,
    id: &ContainerId,
    program: Option<&External>,
    force: bool,
    warn: Warn<'_>,
) -> Result<()> {
    if let Some(program) = program {
        let words: &[&str] = if force {
            &["delete", "--force", id.as_str()]
        } else {
            &["delete", id.as_str()]
        };
        let kept = StateRoot::open(root)?;
        let kept = kept.and_then(|root| Some((runtime::foreign::open(&root, id).ok()?, root)));
        if let Some((container, _)) = &kept {
            verdict::facts(container);
        }
        external::run(program, words)?;
        if let Some((container, root)) = &kept {
            runtime::foreign::retire(root, container)?;
        }
        return Ok(());
    }
    match StateRoot::open(root)? {
        Some(root) => Ok(runtime::delete::delete(&root, id, force, warn)?),
        None => Ok(()),
    }
}

/// Sends a signal to all processes of a container.
pub(super) fn kill(root: &Path, create: &Create, signal: i32) -> Result<()> {
    if let Some(program) = &create.runtime {
        let signal = signal.to_string();
        return external::run(program, &["kill", "--all", &create.id, &signal]);
    }
    let container = open(root, &create.id)?;
    match runtime::kill::send(&container, signal, true) {
        Err(runtime::Error::NotRunning) => Ok(()),
        other => Ok(other?),
    }
}

/// Runs a command.
pub(super) fn exec(root: &Path, dir: &Path, wish: Wish, warn: Warn<'_>) -> Result<Made> {
    let container = if wish.runtime.is_some() {
        None
    } else {
        Some(open(root, &wish.id)?)
    };
    let process = match &wish.document {
        Some(text) => {
            let process = spec::parse_process(text.as_bytes()).map_err(runtime::Error::from)?;
            Wanted::Document(Box::new(process))
        }
        None => Wanted::Wish(runtime::exec::Wish {
            args: wish.args.clone(),
            terminal: wish.terminal,
            ..runtime::exec::Wish::default()
        }),
    };
    let Some(container) = container else {
        return external::exec(dir, &wish);
    };
    let mut cgroups = SubCgroups::default();
    if let (Some(name), Some(manager)) = (&wish.leaf, container.cgroups()) {
        match manager.make_leaf(name) {
            Ok(Some(leaf)) => cgroups = leaf,
            Ok(None) => {}
            // Without one only the command itself can be killed at a deadline.
            Err(e) => warn(&e.to_string()),
        }
    }
    let request = runtime::exec::Request {
        process,
        cgroups,
        ..runtime::exec::Request::default()
    };
    let size = wish.size.map(|(rows, columns)| ConsoleSize {
        height: rows.into(),
        width: columns.into(),
    });
    let begun = runtime::exec::begin(&container, request, size, true, warn);
    let begun = begun.map_err(|e| {
        if let (Some(name), Some(manager)) = (&wish.leaf, container.cgroups()) {
            // What stays behind goes with the container.
            let _ = manager.leaf(name).map(|mut leaf| leaf.delete());
        }
        Error::from(e)
    })?;
    let pid = begun.child.pid.as_raw_nonzero().get();
    let fds = std::iter::once(begun.child.pidfd).chain(begun.console);
    Ok(Made {
        pid,
        fds: fds.collect(),
    })
}
