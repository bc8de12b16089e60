//! Running a command in a container that runs.
//!
//! One fork: the parent aims it at the container's pid namespace, clone3(2) places it in the
//! control group of the unified tree, and the child enters the rest of the control groups and all
//! other namespaces at once. Then it takes the same last steps as the container's first process.

mod child;
mod clone;
mod enter;
mod request;

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use cgroup::{Manager, SubCgroups};
use rustix::process::Pid;
use seccomp::Filter;
use spec::Plan;
use spec::oci::{ConsoleSize, Process, Spec};
use spec::plan::ProcessPlan;
use sys::trace;

use crate::become_program::Descriptors;
use crate::foreground::Foreground;
use crate::spawn::Child;
use crate::spawn::one_cpu::OneCpu;
use crate::wire::Message;
use crate::{
    Container, Doing as _, Error, ProcessId, Result, Status, Warn, console, identity, pause,
    pid_file, start,
};

pub use request::{User, Wish, parse_id};

use child::Work;
use enter::Entry;

/// What `exec` is asked for.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// What the process is to be.
    pub process: Wanted,
    /// Socket that takes the master of the terminal.
    pub console_socket: Option<PathBuf>,
    /// Socket that takes the pidfd of the process.
    pub pidfd_socket: Option<PathBuf>,
    /// File that gets the pid of the process.
    pub pid_file: Option<PathBuf>,
    /// Do not wait for its end.
    pub detach: bool,
    /// Descriptors passed on.
    pub descriptors: Descriptors,
    /// Start it in a paused container too, where it waits for the container to be resumed.
    pub ignore_paused: bool,
    /// Control groups below the container's own.
    pub cgroups: SubCgroups,
}

/// Where the process document comes from.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// From options, on top of the container's own.
    Wish(Wish),
    /// From a document of its own.
    Document(Box<Process>),
}

impl Default for Wanted {
    fn default() -> Self {
        Self::Wish(Wish::default())
    }
}

/// A command that runs.
#[derive(Debug)]
pub struct Begun {
    /// Its process.
    pub child: Child,
    /// The master of its terminal, where the caller keeps it.
    pub console: Option<OwnedFd>,
}

/// Runs it; returns the command's exit code, or 128 and the number of the signal that ended it,
/// and 0 at once with `detach`.
///
/// # Errors
/// The container is in the wrong state, a request that cannot be honoured, or what the process
/// reported before it could become the command.
pub fn exec(container: &Container, request: Request, warn: Warn<'_>) -> Result<i32> {
    request.descriptors.check()?;
    if request.detach {
        return begin(container, request, None, false, warn).map(|_| 0);
    }
    let foreground = Foreground::begin(false)?;
    let begun = begin(container, request, console::size_here(), true, warn)?;
    foreground.attend(begun.child.pid, begun.console)
}

/// Starts it, with the caller's standard input, output and error or a terminal of the given
/// size; returns once it has been executed. A caller that `stays` keeps the terminal.
///
/// # Errors
/// Those of [`exec`].
pub fn begin(
    container: &Container,
    request: Request,
    size: Option<ConsoleSize>,
    stays: bool,
    warn: Warn<'_>,
) -> Result<Begun> {
    let init = check_state(container, request.ignore_paused)?;
    let prepared = Prepared::new(container, init, request, stays, warn)?;
    let request = &prepared.request;
    let _together = OneCpu::stay();
    let mut child = clone::spawn(Work {
        process: &prepared.process,
        plan: &prepared.plan,
        filter: prepared.filter.as_ref(),
        joiner: &prepared.joiner,
        entry: &prepared.entry,
        size,
        keyring: (!container.record.no_new_keyring).then_some(container.id.as_str()),
        descriptors: request.descriptors,
    })?;
    match prepared.attend(container, &mut child, warn) {
        Ok(console) => Ok(Begun { child, console }),
        Err(error) => {
            let mut errors = vec![error];
            errors.extend(child.kill().doing(|| "undo").err());
            Err(Error::from_several(errors).unwrap_or(Error::NotRunning))
        }
    }
}

/// The container's first process, if the state is one to exec in.
fn check_state(container: &Container, ignore_paused: bool) -> Result<ProcessId> {
    let wrong = |text: &str| Err(Error::WrongState(text.to_owned()));
    match container.status()? {
        Status::Stopped => wrong("cannot exec in a stopped container"),
        Status::Creating => wrong("cannot exec in a container that is being created"),
        _ if !ignore_paused && pause::is_paused(container)? => {
            wrong("cannot exec in a paused container (use --ignore-paused to override)")
        }
        _ => container.init(),
    }
}

/// Everything that is known before anything is made.
struct Prepared {
    request: Request,
    plan: Plan,
    process: ProcessPlan,
    filter: Option<Filter>,
    joiner: cgroup::Joiner,
    entry: Entry,
    /// Connected, so that nothing is started for a receiver that is not there.
    console_socket: Option<OwnedFd>,
    pidfd_socket: Option<OwnedFd>,
}

impl Prepared {
    fn new(
        container: &Container,
        init: ProcessId,
        mut request: Request,
        stays: bool,
        warn: Warn<'_>,
    ) -> Result<Self> {
        let config = container.config()?;
        let wanted = match std::mem::take(&mut request.process) {
            Wanted::Wish(wish) => wish.process(&config)?,
            Wanted::Document(process) => inherit(*process, &config),
        };
        // What there is to warn of in the container's own was told when it was made.
        let (plan, _) = Plan::new(&config, &container.record.bundle)?;
        let (process, warnings) = ProcessPlan::new(&wanted, &plan.id_maps)?;
        warnings.iter().for_each(|w| warn(w));
        check_terminal(&process, &request, stays)?;
        identity::check_labels(&process)?;
        let profile = plan.seccomp.as_ref();
        let filter = profile.map(|profile| {
            let what = || "seccomp profile becomes BPF";
            trace::step("", what, || seccomp::compile(profile))
        });
        let manager = container.record.cgroup.clone().map(Manager::from_state);
        let manager = manager.ok_or(Error::NotRunning)?;
        let pid = Pid::from_raw(init.pid);
        let connect = |path: &Option<PathBuf>| path.as_deref().map(console::connect_to).transpose();
        Ok(Self {
            filter: filter.transpose()?,
            joiner: manager.exec_joiner(&request.cgroups, pid)?,
            entry: Entry::open(init)?,
            console_socket: connect(&request.console_socket)?,
            pidfd_socket: connect(&request.pidfd_socket)?,
            request,
            plan,
            process,
        })
    }

    /// Serves the child until it has become the command, then tells those who wait for it. The
    /// master of its terminal comes back where the caller keeps it.
    fn attend(
        &self,
        container: &Container,
        child: &mut Child,
        warn: Warn<'_>,
    ) -> Result<Option<OwnedFd>> {
        if !child.is_stage {
            join_rdt(container, child)?;
        }
        let mut console = None;
        let mut executing = false;
        loop {
            match child.channel.recv()? {
                Some((Message::Warning(text), _)) => warn(&text),
                Some((Message::Staged { pid }, fds)) => {
                    child.staged(pid, fds)?;
                    join_rdt(container, child)?;
                }
                Some((Message::Ready { .. }, fds)) => console = fds.into_iter().next(),
                Some((Message::Listener { fd }, _)) => {
                    let process = id_of(child)?;
                    let profile = self.plan.seccomp.clone();
                    let listener = start::listener(&child.channel, process, fd)?;
                    start::forward(container, Status::Running, process, listener, profile)?;
                    child.channel.send(&Message::Go)?;
                }
                Some((Message::Executing, _)) => executing = true,
                Some((Message::Failed { kind, text }, _)) => {
                    let message = text;
                    return Err(Error::Reported { kind, message });
                }
                Some(_) => {}
                None if executing => break,
                None => return Err(obituary(child)),
            }
        }
        self.hand_out(child, console)
    }

    fn hand_out(&self, child: &Child, console: Option<OwnedFd>) -> Result<Option<OwnedFd>> {
        let console = match (&self.console_socket, console) {
            (Some(socket), Some(master)) => {
                console::send_fd(socket, console::MASTER_NAME, &master)?;
                None
            }
            (_, console) => console,
        };
        if let Some(socket) = &self.pidfd_socket {
            console::send_fd(socket, console::PIDFD_NAME, &child.pidfd)?;
        }
        if let Some(path) = &self.request.pid_file {
            pid_file::write(path, child.pid.as_raw_nonzero().get())?;
        }
        Ok(console)
    }
}

/// Gives a process document what the container has and it leaves open: what guards the container
/// must not be lost by not being mentioned.
fn inherit(mut process: Process, config: &Spec) -> Process {
    let Some(own) = &config.process else {
        return process;
    };
    if process.apparmor_profile.is_empty() {
        process.apparmor_profile.clone_from(&own.apparmor_profile);
    }
    if process.selinux_label.is_empty() {
        process.selinux_label.clone_from(&own.selinux_label);
    }
    if process.rlimits.is_empty() {
        process.rlimits.clone_from(&own.rlimits);
    }
    process.capabilities = process.capabilities.or_else(|| own.capabilities.clone());
    process.oom_score_adj = process.oom_score_adj.or(own.oom_score_adj);
    process
}

/// Who has the terminal: a caller that goes away cannot.
fn check_terminal(process: &ProcessPlan, request: &Request, stays: bool) -> Result<()> {
    let terminal = process.terminal.is_some();
    let socket = request.console_socket.is_some();
    let text = if !stays && terminal && !socket {
        "cannot allocate tty if hull will detach without setting console socket"
    } else if (stays || !terminal) && socket {
        "cannot use console socket if hull will not detach or allocate tty"
    } else {
        return Ok(());
    };
    Err(Error::Invalid(text.to_owned()))
}

fn join_rdt(container: &Container, child: &Child) -> Result<()> {
    let pid = child.pid.as_raw_nonzero().get();
    container
        .record
        .rdt
        .as_ref()
        .map_or(Ok(()), |rdt| rdt.join(pid))
}

fn id_of(child: &Child) -> Result<ProcessId> {
    let id = ProcessId::of(child.pid.as_raw_nonzero().get())?;
    id.ok_or(Error::NotRunning)
}

/// Why a child is gone that has said nothing.
fn obituary(child: &mut Child) -> Error {
    let status = child.wait().ok().flatten();
    let how = match status.and_then(|s| s.terminating_signal()) {
        Some(signal) => format!("was killed by signal {signal}"),
        None => "ended".to_owned(),
    };
    Error::WrongState(format!("the process {how} before it became the command"))
}
