//! Making the container's first process.
//!
//! One clone3(2) makes it with all its new namespaces. What cannot be made that way:
//!
//! - A joined pid namespace is entered by the parent for the time of the clone, because setns(2)
//!   with it only affects children. So is a new time namespace with offsets, which must be written
//!   before the first process is in it.
//! - A new cgroup namespace is unshared by the child once it is in its control groups, because
//!   they become the namespace's root.
//! - Other joined namespaces are entered by the child.
//! - Where the process changes its user namespace and joins others, rights are needed in between
//!   that neither parent nor child has: a process goes in between ([`stage`]) that joins, clones
//!   the child as its own sibling (CLONE_PARENT), and ends.

pub(crate) mod one_cpu;
mod stage;

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use cgroup::Joiner;
use rustix::process::{Pid, Signal, set_parent_process_death_signal};
use rustix::thread::{Gid, Uid, set_thread_res_gid, set_thread_res_uid};
use spec::Plan;
use spec::plan::{NamespaceKind, NamespaceMode, Namespaces};
use sys::process::{CloneArgs, Cloned, clone3};
use sys::{Context as _, Errno, trace};

use crate::wire::{Channel, Message};
use crate::{Doing as _, Result};

/// Which process we are after [`spawn`].
#[derive(Debug)]
pub enum Spawned {
    /// The container's first process.
    Init(Init),
    /// The runtime.
    Parent(Box<Child>),
}

/// What the child knows of its making.
#[derive(Debug)]
pub struct Init {
    /// To the parent.
    pub channel: Channel,
    /// Whether it was cloned into its unified control group.
    pub cloned_into: bool,
    /// Whether a stage made it: then it is in its control groups and in all namespaces but
    /// those of mounts and control groups, and its user namespace has its maps.
    pub staged: bool,
}

/// What the parent knows of the child.
#[derive(Debug)]
pub struct Child {
    /// To the child.
    pub channel: Channel,
    /// The child, or the stage until it has said that it is done.
    pub pid: Pid,
    /// Its pidfd.
    pub pidfd: OwnedFd,
    /// Whether it still is the stage.
    pub is_stage: bool,
    /// The stage once it is not, to be waited for.
    stage: Option<Pid>,
}

/// Makes the process. Returns twice, as fork(2) does.
///
/// # Errors
/// A namespace that cannot be joined, or the clone.
pub fn spawn(plan: &Plan, joiner: &Joiner) -> Result<Spawned> {
    let (ours, theirs) = Channel::pair()?;
    if needs_stage(plan) {
        return stage::spawn(plan, joiner, ours, theirs);
    }
    let detour = Detour::take(plan)?;
    let (cloned, cloned_into) = clone_child(clone_flags(plan), joiner)?;
    Ok(match cloned {
        Cloned::Child => {
            drop(ours);
            // The way back is for the parent.
            std::mem::forget(detour);
            Spawned::Init(Init {
                channel: theirs,
                cloned_into,
                staged: false,
            })
        }
        Cloned::Parent { pid, pidfd } => {
            drop(theirs);
            Spawned::Parent(Box::new(Child {
                channel: ours,
                pid,
                pidfd,
                is_stage: false,
                stage: None,
            }))
        }
    })
}

/// Whether a process has to go between: for a user namespace that is joined, and for a new one
/// in which joined namespaces could not be entered any more. New namespaces must belong to the
/// container's user namespace, so a time namespace that cannot be made by the clone counts too.
fn needs_stage(plan: &Plan) -> bool {
    let namespaces = &plan.namespaces;
    match namespaces.get(NamespaceKind::User) {
        NamespaceMode::Join(_) => true,
        NamespaceMode::New => namespaces.joined().next().is_some() || offsets_time(plan),
        NamespaceMode::Inherit => false,
    }
}

/// Whether there is a new time namespace that must be written to before it is used.
fn offsets_time(plan: &Plan) -> bool {
    plan.namespaces.is_new(NamespaceKind::Time) && !plan.time_offsets.is_empty()
}

/// The namespaces that the clone itself makes.
fn clone_flags(plan: &Plan) -> u64 {
    let made_otherwise = |kind| match kind {
        NamespaceKind::Cgroup => true,
        NamespaceKind::Time => offsets_time(plan),
        _ => false,
    };
    let kinds = plan.namespaces.new_kinds().filter(|&k| !made_otherwise(k));
    kinds.fold(0, |flags, kind| flags | kind.clone_flag())
}

/// Clones, into the unified control group where the kernel can.
pub(crate) fn clone_child(flags: u64, joiner: &Joiner) -> Result<(Cloned, bool)> {
    let names = || format!("namespaces {flags:#x}");
    let clone = |cgroup| {
        let args = CloneArgs { flags, cgroup };
        trace::step("clone3", names, || clone3(&args))
    };
    let cgroup = joiner.clone_fd();
    let with = cgroup.is_some() && sys::knob::check("clone_into_cgroup").is_ok();
    let cloned = if with {
        match clone(cgroup) {
            // Kernels before 5.7, and groups that take no processes this way.
            Err(e) if is_unknown(e.errno) => None,
            // Without the right to move a process from here to there; joining will say so.
            Err(e) if matches!(e.errno, Errno::ACCESS | Errno::PERM) => None,
            other => Some(other),
        }
    } else {
        None
    };
    let cloned_into = cloned.is_some();
    let cloned = cloned.unwrap_or_else(|| clone(None));
    Ok((
        cloned.doing(|| "create the container's process")?,
        cloned_into,
    ))
}

fn is_unknown(errno: Errno) -> bool {
    let unknown = [Errno::NOSYS, Errno::INVAL, Errno::TOOBIG, Errno::OPNOTSUPP];
    unknown.contains(&errno)
}

/// Joins one namespace.
fn join(kind: NamespaceKind, namespace: &File, path: &Path) -> Result<()> {
    let what = || format!("{} namespace {}", kind.oci_name(), path.display());
    trace::step("setns", what, || {
        sys::namespace::setns(namespace, kind.clone_flag())
    })
    .doing(|| format!("join {}", what()))
}

fn open(kind: NamespaceKind, path: &Path) -> Result<File> {
    let opened = File::open(path).context("open", || path.display().to_string());
    opened.doing(|| format!("join {} namespace", kind.oci_name()))
}

/// Joins what the child joins by itself: everything but the user, pid, and mount namespaces. The
/// mount namespace comes last, by [`join_mount`].
///
/// # Errors
/// The namespace that cannot be joined.
pub fn join_as_child(namespaces: &Namespaces, staged: bool) -> Result<()> {
    for (kind, path) in namespaces.joined() {
        let mine = match kind {
            NamespaceKind::User | NamespaceKind::Pid | NamespaceKind::Mount => false,
            NamespaceKind::Cgroup => true,
            _ => !staged,
        };
        if mine {
            join(kind, &open(kind, path)?, path)?;
        }
    }
    Ok(())
}

/// Joins the mount namespace, if one is to be joined. The root and the working directory become
/// that namespace's.
///
/// # Errors
/// setns(2)'s.
pub fn join_mount(namespaces: &Namespaces) -> Result<()> {
    let kind = NamespaceKind::Mount;
    match namespaces.get(kind) {
        NamespaceMode::Join(path) => join(kind, &open(kind, path)?, path),
        _ => Ok(()),
    }
}

/// Has the kernel kill us when our parent dies, until [`live_on`]; clears with execve(2) of a
/// set-user-ID program only, so it must not be forgotten.
///
/// # Errors
/// prctl(2)'s.
pub fn die_with_parent() -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))
        .context("prctl", || "PR_SET_PDEATHSIG, SIGKILL")?;
    Ok(())
}

/// Undoes [`die_with_parent`].
///
/// # Errors
/// prctl(2)'s.
pub fn live_on() -> Result<()> {
    set_parent_process_death_signal(None).context("prctl", || "PR_SET_PDEATHSIG, 0")?;
    Ok(())
}

/// In a new user namespace: has the parent write its maps, then becomes its root.
///
/// # Errors
/// The parent has gone, or set*id(2)'s.
pub fn await_map(channel: &Channel) -> Result<()> {
    channel.send(&Message::NeedsMap)?;
    channel.expect_go()?;
    become_root()
}

/// Becomes root of the user namespace just entered, as far as it has one.
pub(crate) fn become_root() -> Result<()> {
    // A change of ids resets the parent-death signal (prctl(2)), and so does a change of the
    // namespace that gives all capabilities.
    let args = || "0, 0, 0";
    match set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT) {
        // Root is not mapped: what the configuration asks for may do without it.
        Err(Errno::INVAL) => {}
        other => other.context("setresgid", args)?,
    }
    match set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT) {
        Err(Errno::INVAL) => {}
        other => other.context("setresuid", args)?,
    }
    die_with_parent()
}

/// The parent's own namespaces for children, put back when dropped.
#[derive(Debug, Default)]
struct Detour {
    home: Vec<(NamespaceKind, File)>,
}

impl Detour {
    fn take(plan: &Plan) -> Result<Self> {
        let mut detour = Self::default();
        let kind = NamespaceKind::Pid;
        if let NamespaceMode::Join(path) = plan.namespaces.get(kind) {
            let there = open(kind, path)?;
            detour.remember(kind)?;
            join(kind, &there, path)?;
        }
        if offsets_time(plan) {
            detour.remember(NamespaceKind::Time)?;
            new_time_namespace(plan)?;
        }
        Ok(detour)
    }

    fn remember(&mut self, kind: NamespaceKind) -> Result<()> {
        let path = format!("/proc/self/ns/{}", kind.proc_name());
        let home = File::open(&path).context("open", || path)?;
        self.home.push((kind, home));
        Ok(())
    }
}

impl Drop for Detour {
    fn drop(&mut self) {
        for (kind, home) in &self.home {
            // Only children would notice a failure, and only hooks are to come.
            let _ = sys::namespace::setns(home.as_fd(), kind.clone_flag());
        }
    }
}

/// Makes a time namespace for children and sets its clocks.
fn new_time_namespace(plan: &Plan) -> Result<()> {
    trace::step(
        "unshare + write",
        || "time namespace and its offsets",
        || {
            sys::namespace::unshare(NamespaceKind::Time.clone_flag())?;
            let lines: String = plan
                .time_offsets
                .iter()
                .map(|(clock, o)| format!("{} {} {}\n", clock.name(), o.secs, o.nanosecs))
                .collect();
            let path = "/proc/self/timens_offsets";
            std::fs::write(path, &lines)
                .context("write", || format!("{path}, {:?}", lines.trim_end()))
        },
    )
    .doing(|| "make a time namespace")
}

impl Child {
    /// A child that was cloned just now.
    pub(crate) fn new(channel: Channel, pid: Pid, pidfd: OwnedFd, is_stage: bool) -> Self {
        Self {
            channel,
            pid,
            pidfd,
            is_stage,
            stage: None,
        }
    }

    /// Takes the message that the stage has made the container's process: from now on this is
    /// that one.
    ///
    /// # Errors
    /// The message is not complete, or the stage failed afterwards.
    pub fn staged(&mut self, pid: i32, fds: Vec<OwnedFd>) -> Result<()> {
        let incomplete = || sys::Error::new("recvmsg", "pidfd of the container", Errno::BADMSG);
        let pid = Pid::from_raw(pid).ok_or_else(incomplete)?;
        self.pidfd = fds.into_iter().next().ok_or_else(incomplete)?;
        self.stage = Some(std::mem::replace(&mut self.pid, pid));
        self.is_stage = false;
        self.reap_stage();
        Ok(())
    }

    /// Waits for the stage, which ends right after its message.
    fn reap_stage(&mut self) {
        if let Some(stage) = self.stage.take() {
            // ECHILD is the only possible failure: somebody else has waited for it.
            let _ = rustix::io::retry_on_intr(|| {
                rustix::process::waitpid(Some(stage), rustix::process::WaitOptions::empty())
            });
        }
    }

    /// Kills the process and waits for its end.
    ///
    /// # Errors
    /// pidfd_send_signal(2)'s, wait4(2)'s.
    pub fn kill(&mut self) -> Result<()> {
        const SIGKILL: i32 = 9;
        match sys::pidfd::send_signal(&self.pidfd, SIGKILL) {
            Err(e) if e.errno != Errno::SRCH => return Err(e.into()),
            _ => {}
        }
        self.wait().map(drop)
    }

    /// Waits for its end; how it ended, where nobody else has waited for it.
    ///
    /// # Errors
    /// wait4(2)'s.
    pub fn wait(&mut self) -> Result<Option<rustix::process::WaitStatus>> {
        self.reap_stage();
        let none = rustix::process::WaitOptions::empty();
        match rustix::io::retry_on_intr(|| rustix::process::waitpid(Some(self.pid), none)) {
            Ok(ended) => Ok(ended.map(|(_, status)| status)),
            Err(Errno::CHILD) => Ok(None),
            Err(e) => Err(sys::Error::new("wait4", self.pid.to_string(), e).into()),
        }
    }
}

/// Ends a process that the parent knows by its channel: the error goes there.
pub(crate) fn give_up(channel: &Channel, error: &crate::Error) -> ! {
    // If the parent has gone too there is nobody left to tell.
    let _ = channel.send(&Message::failure(error));
    sys::process::exit_now(1)
}
