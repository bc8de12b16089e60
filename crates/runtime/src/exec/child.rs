//! The process that becomes the command.

use std::os::fd::{AsFd as _, OwnedFd};

use cgroup::Joiner;
use rustix::thread::{CpuSet, sched_setaffinity};
use seccomp::Filter;
use spec::Plan;
use spec::oci::ConsoleSize;
use spec::plan::ProcessPlan;
use sys::Context as _;

use super::enter::Entry;
use crate::Result;
use crate::become_program::{BecomeProgram, Descriptors};
use crate::console::{Console, become_session_leader};
use crate::identity::{self, Labels};
use crate::spawn::{become_root, die_with_parent, give_up, live_on, one_cpu};
use crate::wire::{Channel, Message};

/// What the parent made for its child before the clone.
#[derive(Debug)]
pub(super) struct Work<'a> {
    /// What is to become of it.
    pub(super) process: &'a ProcessPlan,
    /// The container's.
    pub(super) plan: &'a Plan,
    /// The system-call filter.
    pub(super) filter: Option<&'a Filter>,
    /// The way into the control groups.
    pub(super) joiner: &'a Joiner,
    /// The way into the namespaces.
    pub(super) entry: &'a Entry,
    /// Size of the terminal, where none is configured.
    pub(super) size: Option<ConsoleSize>,
    /// Name of the session keyring to join.
    pub(super) keyring: Option<&'a str>,
    /// Descriptors passed on.
    pub(super) descriptors: Descriptors,
}

impl Work<'_> {
    /// The CPUs that the command is configured for; all of the container's where there are none.
    fn cpus_after(&self) -> &[u32] {
        let affinity = self.process.exec_cpu_affinity.as_ref();
        affinity.map_or(&[], |a| &a.after)
    }
}

/// What is known of the making of this process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Birth {
    /// It was cloned into its unified control group.
    pub(super) cloned_into: bool,
    /// A stage made it, which has done [`settle`] and has entered the user namespace.
    pub(super) staged: bool,
}

/// Does all of it. The process ends here.
pub(super) fn run(work: Work<'_>, channel: &Channel, birth: Birth) -> ! {
    let labels = match enter(&work, channel, birth) {
        Ok(labels) => labels,
        Err(e) => give_up(channel, &e),
    };
    let last = BecomeProgram {
        process: work.process,
        personality: work.plan.personality,
        memory_policy: work.plan.memory_policy.as_ref(),
        filter: work.filter,
        umask: None,
        setgroups: work.entry.setgroups,
        labels,
        descriptors: work.descriptors,
    };
    let error = last.run(channel);
    give_up(channel, &error)
}

fn enter(work: &Work<'_>, channel: &Channel, birth: Birth) -> Result<Labels> {
    sys::heap::leave_inherited();
    die_with_parent()?;
    channel.expect_peer()?;
    sys::signal::forget_inherited()?;
    if !birth.staged {
        settle(work, birth.cloned_into)?;
    }
    if let Some(name) = work.keyring {
        let label = work.process.selinux_label.as_deref();
        identity::join_session_keyring(name, label, work.entry.changes_user())?;
    }
    let labels = Labels::open(work.process)?;
    work.entry.enter(birth.staged)?;
    if work.entry.changes_user() {
        become_root()?;
    }
    become_session_leader()?;
    let master = attach_terminal(work)?;
    if work.cpus_after().is_empty() {
        one_cpu::leave()?;
    }
    live_on()?;
    if let Some(master) = master {
        channel.send_with(&Message::Ready { console: true }, &[master.as_fd()])?;
    }
    Ok(labels)
}

/// What needs the rights and the /proc of this side, and is handed on to children: the control
/// groups, on the CPUs configured for before and after; the OOM score; resource limits.
pub(super) fn settle(work: &Work<'_>, cloned_into: bool) -> Result<()> {
    let affinity = work.process.exec_cpu_affinity.as_ref();
    set_affinity(affinity.map_or(&[], |a| &a.initial))?;
    work.joiner.join_self(cloned_into)?;
    set_affinity(work.cpus_after())?;
    identity::set_oom_score_adj(None, work.process.oom_score_adj)?;
    identity::set_limits(None, &work.process.rlimits)
}

fn set_affinity(cpus: &[u32]) -> Result<()> {
    if cpus.is_empty() {
        return Ok(());
    }
    let mut set = CpuSet::new();
    for &cpu in cpus {
        let cpu = usize::try_from(cpu).unwrap_or(usize::MAX);
        // A number that the kernel cannot have is none of its CPUs.
        if cpu < CpuSet::MAX_CPU {
            set.set(cpu);
        }
    }
    sched_setaffinity(None, &set).context("sched_setaffinity", || format!("self, {cpus:?}"))?;
    Ok(())
}

/// A terminal of the container's, if one is wanted; returns its master.
fn attach_terminal(work: &Work<'_>) -> Result<Option<OwnedFd>> {
    let Some(terminal) = work.process.terminal else {
        return Ok(None);
    };
    let console = Console::open()?;
    if let Some(size) = terminal.size.or(work.size) {
        console.set_size(size)?;
    }
    console.attach().map(Some)
}
