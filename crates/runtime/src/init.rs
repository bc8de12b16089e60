//! The container's first process, from the clone to the user's program.

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use cgroup::Joiner;
use rootfs::{CgroupLayout, Prepared, Sources};
use rustix::fs::Mode;
use rustix::net::{SocketFlags, accept_with};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use seccomp::Filter;
use spec::Plan;
use spec::oci::State;
use spec::plan::{NamespaceKind, ProcessPlan};
use sys::{Context as _, trace};

use crate::become_program::{BecomeProgram, Descriptors};
use crate::console::{Console, become_session_leader};
use crate::identity::{self, Labels, SetGroups};
use crate::record::Record;
use crate::spawn::{self, Init, give_up};
use crate::wire::{Channel, Message};
use crate::{Error, Result, Status, hooks, netdev};

/// What the parent made for its child before the clone.
#[derive(Debug)]
pub struct Work<'a> {
    /// What is to be done.
    pub plan: &'a Plan,
    /// The record, for the state that hooks get.
    pub record: &'a Record,
    /// The system-call filter.
    pub filter: Option<&'a Filter>,
    /// The way into the control groups.
    pub joiner: &'a Joiner,
    /// How they are to be seen.
    pub cgroups: CgroupLayout,
    /// Mounts opened with the parent's rights.
    pub sources: Sources,
    /// Where the start comes from.
    pub gate: Gate,
    /// Enter the root without pivot_root(2).
    pub no_pivot: bool,
    /// Keep the session keyring of whoever called.
    pub no_new_keyring: bool,
    /// The runtime itself is in a user namespace, or is not root.
    pub rootless: bool,
    /// Descriptors passed on.
    pub descriptors: Descriptors,
}

/// Where the start of the user's program comes from.
#[derive(Debug)]
pub enum Gate {
    /// From the runtime that creates the container: `run`.
    Creator,
    /// From whoever connects to this socket: `create`, then `start`.
    Socket(OwnedFd),
}

/// What is carried over from the making to the start.
struct Made {
    umask: u32,
    labels: Labels,
    setgroups: SetGroups,
}

/// Does all of it. The process ends here.
pub fn run(init: Init, mut work: Work<'_>) -> ! {
    let made = match make(&init, &mut work) {
        Ok(made) => made,
        Err(e) => give_up(&init.channel, &e),
    };
    let starter = match await_start(init.channel, work.gate) {
        Ok(starter) => starter,
        // Whoever could be told has gone, or the socket has.
        Err(_) => sys::process::exit_now(1),
    };
    let error = start(
        work.plan,
        work.record,
        work.filter,
        work.descriptors,
        made,
        &starter,
    );
    give_up(&starter, &error)
}

/// Everything up to the state `created`.
fn make(init: &Init, work: &mut Work<'_>) -> Result<Made> {
    let plan = work.plan;
    sys::heap::leave_inherited();
    spawn::die_with_parent()?;
    init.channel.expect_peer()?;
    sys::signal::forget_inherited()?;
    // Everything is made with the modes given.
    let umask = rustix::process::umask(Mode::empty()).as_raw_mode();
    enter_namespaces(init, work)?;
    become_session_leader()?;
    let labels = match &plan.process {
        Some(process) => private_to(process, work)?,
        None => Labels::default(),
    };
    let foreign_user = !plan.namespaces.is_inherited(NamespaceKind::User);
    let setgroups = if foreign_user || work.rootless {
        setgroups_allowed()
    } else {
        SetGroups::Allowed
    };
    spawn::join_mount(&plan.namespaces)?;
    name_machine(plan)?;
    if plan.namespaces.is_new(NamespaceKind::Network) {
        trace::step("rtnetlink", || "lo up", netdev::loopback_up)?;
    }
    let context = rootfs::Context {
        sources: std::mem::take(&mut work.sources),
        cgroups: std::mem::take(&mut work.cgroups),
        in_userns: foreign_user || work.rootless,
    };
    let prepared = rootfs::prepare(plan, context)?;
    let master = enter_root(init, work, prepared)?;
    settle(init, work, &labels, master)?;
    Ok(Made {
        umask,
        labels,
        setgroups,
    })
}

/// Control groups, and the namespaces that the clone could not give.
fn enter_namespaces(init: &Init, work: &Work<'_>) -> Result<()> {
    let namespaces = &work.plan.namespaces;
    if !init.staged {
        work.joiner.join_self(init.cloned_into)?;
        if namespaces.is_new(NamespaceKind::User) {
            spawn::await_map(&init.channel)?;
        }
    }
    if namespaces.is_new(NamespaceKind::Cgroup) {
        let flag = NamespaceKind::Cgroup.clone_flag();
        trace::step(
            "unshare",
            || "cgroup namespace",
            || sys::namespace::unshare(flag),
        )?;
    }
    spawn::join_as_child(namespaces, init.staged)
}

/// What keeps the process's own things from others: the keyring and the security labels. Both
/// need the runtime's own /proc.
fn private_to(process: &ProcessPlan, work: &Work<'_>) -> Result<Labels> {
    if !work.no_new_keyring {
        let own_users = !work.plan.namespaces.is_inherited(NamespaceKind::User);
        let label = process.selinux_label.as_deref();
        identity::join_session_keyring(&work.record.id, label, own_users)?;
    }
    Labels::open(process)
}

/// user_namespaces(7): a user namespace whose map was written without privilege forbids
/// setgroups(2).
fn setgroups_allowed() -> SetGroups {
    match sys::file::read("/proc/self/setgroups".as_ref()) {
        Ok(text) if text.starts_with(b"deny") => SetGroups::Denied,
        _ => SetGroups::Allowed,
    }
}

fn name_machine(plan: &Plan) -> Result<()> {
    if let Some(name) = &plan.hostname {
        rustix::system::sethostname(name.as_bytes())
            .context("sethostname", || format!("{name:?}"))?;
    }
    if let Some(name) = &plan.domainname {
        rustix::system::setdomainname(name.as_bytes())
            .context("setdomainname", || format!("{name:?}"))?;
    }
    Ok(())
}

/// From the finished tree of mounts to living in it, with the hooks between; returns the master
/// of the terminal, if there is one.
fn enter_root(init: &Init, work: &Work<'_>, prepared: Prepared<'_>) -> Result<Option<OwnedFd>> {
    let plan = work.plan;
    if !plan.hooks.create_runtime.is_empty() {
        init.channel.send(&Message::Mounted)?;
        init.channel.expect_go()?;
    }
    let terminal = plan.process.as_ref().and_then(|p| p.terminal);
    let console = match terminal {
        None => None,
        Some(_) => {
            let console = Console::from(prepared.open_terminal()?);
            prepared.bind_console(console.slave.as_fd())?;
            Some(console)
        }
    };
    hooks::run_all(
        "createContainer",
        &plan.hooks.create_container,
        &own_state(work.record, Status::Creating),
    )?;
    if console.is_none() {
        prepared.own_null_streams()?;
    }
    prepared.pivot(work.no_pivot)?;
    if let Some(process) = &plan.process {
        // Made here, where a path cannot lead out, and while the root may be written to.
        let cwd = prepared.root().directory(&process.cwd);
        cwd.map_err(Error::from)
            .map_err(|e| Error::Invalid(format!("mkdir cwd {:?}: {e}", process.cwd)))?;
    }
    prepared.finish()?;
    let Some(console) = console else {
        return Ok(None);
    };
    if let Some(size) = terminal.and_then(|t| t.size) {
        console.set_size(size)?;
    }
    console.attach().map(Some)
}

/// Lets go of everything that is not needed any more, and reports.
fn settle(init: &Init, work: &Work<'_>, labels: &Labels, master: Option<OwnedFd>) -> Result<()> {
    if let Some(process) = &work.plan.process {
        check_program(process)?;
    }
    spawn::one_cpu::leave()?;
    // Others of a shared pid namespace must not read our memory or take our descriptors
    // (CVE-2016-9962). The flag goes with execve(2).
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .context("prctl", || "PR_SET_DUMPABLE, 0")?;
    // From here on our parent's death shows on the channel.
    spawn::live_on()?;
    let ready = Message::Ready {
        console: master.is_some(),
    };
    match &master {
        Some(master) => init.channel.send_with(&ready, &[master.as_fd()])?,
        None => init.channel.send(&ready)?,
    }
    drop(master);
    match &work.gate {
        // The user's program is next; execve(2) closes all.
        Gate::Creator => Ok(()),
        Gate::Socket(listener) => {
            // The wait may be long: nothing of the host's stays open meanwhile.
            trace::stop();
            let own = [init.channel.as_fd(), listener.as_fd()].into_iter();
            let mut keep: Vec<u32> = own
                .chain(labels.descriptors())
                .filter_map(|fd| u32::try_from(fd.as_raw_fd()).ok())
                .collect();
            keep.sort_unstable();
            // The values that own the others are in frames of the parent's, which this process
            // never returns to, or were moved out of them and dropped.
            Ok(sys::process::close_all_from(work.descriptors.end(), &keep)?)
        }
    }
}

/// What cannot be found now will not be found at the start: better to say so while the
/// container is being created. Whether the user may execute it shows only when it is the user
/// who tries.
fn check_program(process: &ProcessPlan) -> Result<()> {
    match crate::exec_program::Program::find(&process.args, &process.env) {
        Err(Error::Program(text)) if !text.contains("permission denied") => {
            Err(Error::Program(text))
        }
        _ => Ok(()),
    }
}

/// Waits until the program is to start; returns the channel to whoever starts it.
fn await_start(channel: Channel, gate: Gate) -> Result<Channel> {
    // The runtime has written everything down, or has died.
    channel.expect_go()?;
    match gate {
        Gate::Creator => Ok(channel),
        Gate::Socket(listener) => {
            drop(channel);
            let accepted =
                rustix::io::retry_on_intr(|| accept_with(&listener, SocketFlags::CLOEXEC));
            Ok(Channel::from_fd(
                accepted.context("accept4", || "start.sock")?,
            ))
        }
    }
}

/// Hooks, then the program. Only returns on failure.
fn start(
    plan: &Plan,
    record: &Record,
    filter: Option<&Filter>,
    descriptors: Descriptors,
    made: Made,
    starter: &Channel,
) -> Error {
    let Some(process) = &plan.process else {
        return Error::Invalid(
            "process is not set in config.json: there is nothing to start".to_owned(),
        );
    };
    let hooks = &plan.hooks.start_container;
    if let Err(e) = hooks::run_all("startContainer", hooks, &own_state(record, Status::Created)) {
        return e;
    }
    let last = BecomeProgram {
        process,
        personality: plan.personality,
        memory_policy: plan.memory_policy.as_ref(),
        filter,
        umask: Some(made.umask),
        setgroups: made.setgroups,
        labels: made.labels,
        descriptors,
    };
    last.run(starter)
}

/// The state as the container's own hooks get it: with the pid that they see.
fn own_state(record: &Record, status: Status) -> State {
    record.oci_state(status, rustix::process::getpid().as_raw_nonzero().get())
}
