//! Making the process: one clone3(2), or two where the user namespace must be entered first.

use std::os::fd::AsFd as _;

use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use sys::process::{CLONE_PARENT, CloneArgs, Cloned, clone3};
use sys::{Context as _, Errno, trace};

use super::child::{self, Birth, Work};
use crate::spawn::{Child, become_root, clone_child, die_with_parent, give_up};
use crate::wire::{Channel, Message};
use crate::{Doing as _, Error, Result};

/// Makes it; only the parent returns.
///
/// # Errors
/// The clone that failed.
pub(super) fn spawn(work: Work<'_>) -> Result<Child> {
    let (ours, theirs) = Channel::pair()?;
    // The child is seen by the container from its birth. Whoever is root in there must not
    // read its memory or take its descriptors (CVE-2016-9962); execve(2) ends it.
    let _hidden = Hidden::begin()?;
    let (aim, staged) = match work.entry.aim_children() {
        Ok(aim) => (aim, false),
        // A user who is root only in the container's user namespace.
        Err(e) if e.errno == Errno::PERM && work.entry.changes_user() => (None, true),
        Err(e) => return Err(e).doing(|| "enter the container"),
    };
    let (cloned, cloned_into) = clone_child(0, work.joiner)?;
    match cloned {
        Cloned::Parent { pid, pidfd } => {
            drop(aim);
            let mut child = Child::new(ours, pid, pidfd, staged);
            match work.joiner.admit(pid) {
                Ok(()) => Ok(child),
                Err(e) => {
                    let mut errors = vec![e.into()];
                    errors.extend(child.kill().doing(|| "undo").err());
                    Err(Error::from_several(errors).unwrap_or(Error::NotRunning))
                }
            }
        }
        Cloned::Child => {
            drop(ours);
            std::mem::forget(aim);
            if staged {
                stage(&work, &theirs, cloned_into);
            }
            child::run(
                work,
                &theirs,
                Birth {
                    cloned_into,
                    staged,
                },
            )
        }
    }
}

/// The process in between. Its clone, a sibling, returns.
fn stage(work: &Work<'_>, channel: &Channel, cloned_into: bool) {
    match clone_inside(work, channel, cloned_into) {
        Ok(Cloned::Child) => {}
        Ok(Cloned::Parent { .. }) => sys::process::exit_now(0),
        Err(e) => give_up(channel, &e),
    }
}

fn clone_inside(work: &Work<'_>, channel: &Channel, cloned_into: bool) -> Result<Cloned> {
    die_with_parent()?;
    channel.expect_peer()?;
    // Nobody in the container sees this process yet, and a user may not write to /proc/self of
    // one that is not dumpable.
    set_dumpable(DumpableBehavior::Dumpable)?;
    child::settle(work, cloned_into)?;
    set_dumpable(DumpableBehavior::NotDumpable)?;
    work.entry.enter_user()?;
    become_root()?;
    let doing = || "enter the container";
    work.entry.aim_children_for_good().doing(doing)?;
    let args = CloneArgs {
        flags: CLONE_PARENT,
        cgroup: None,
    };
    let cloned = trace::step("clone3", || "as a sibling", || clone3(&args)).doing(doing)?;
    if let Cloned::Parent { pid, pidfd } = &cloned {
        let pid = pid.as_raw_nonzero().get();
        channel.send_with(&Message::Staged { pid }, &[pidfd.as_fd()])?;
    }
    Ok(cloned)
}

/// This process is not dumpable while it lives; a clone keeps that for good.
struct Hidden;

impl Hidden {
    fn begin() -> Result<Self> {
        set_dumpable(DumpableBehavior::NotDumpable)?;
        Ok(Self)
    }
}

fn set_dumpable(behavior: DumpableBehavior) -> Result<()> {
    set_dumpable_behavior(behavior)
        .context("prctl", || format!("PR_SET_DUMPABLE, {behavior:?}"))?;
    Ok(())
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // Cannot fail for this value; and a runtime that nobody may trace works as well.
        let _ = set_dumpable_behavior(DumpableBehavior::Dumpable);
    }
}
