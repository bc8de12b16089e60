//! The process in between: it joins namespaces and clones the container's process.

use cgroup::Joiner;
use spec::Plan;
use spec::plan::NamespaceKind;
use std::os::fd::AsFd as _;
use sys::process::{CLONE_PARENT, CloneArgs, Cloned, clone3};
use sys::trace;

use super::{
    Child, Init, Spawned, await_map, become_root, clone_child, clone_flags, die_with_parent,
    give_up, join, new_time_namespace, offsets_time, open,
};
use crate::wire::{Channel, Message};
use crate::{Doing as _, Result};

/// Makes the stage, which makes the container's process.
pub(super) fn spawn(
    plan: &Plan,
    joiner: &Joiner,
    ours: Channel,
    theirs: Channel,
) -> Result<Spawned> {
    let (cloned, cloned_into) = clone_child(0, joiner)?;
    match cloned {
        Cloned::Parent { pid, pidfd } => {
            drop(theirs);
            Ok(Spawned::Parent(Box::new(Child {
                channel: ours,
                pid,
                pidfd,
                is_stage: true,
                stage: None,
            })))
        }
        Cloned::Child => {
            drop(ours);
            match act(plan, joiner, &theirs, cloned_into) {
                Ok(Cloned::Child) => Ok(Spawned::Init(Init {
                    channel: theirs,
                    // The stage was, and its children are born where it is.
                    cloned_into: true,
                    staged: true,
                })),
                Ok(Cloned::Parent { .. }) => sys::process::exit_now(0),
                Err(e) => give_up(&theirs, &e),
            }
        }
    }
}

fn act(plan: &Plan, joiner: &Joiner, channel: &Channel, cloned_into: bool) -> Result<Cloned> {
    die_with_parent()?;
    channel.expect_peer()?;
    // Before the rights to do so are given up with the user namespace.
    joiner.join_self(cloned_into)?;
    // Opened while all paths can be walked.
    let joins = plan
        .namespaces
        .joined()
        .filter(|(kind, _)| !matches!(kind, NamespaceKind::Mount | NamespaceKind::Cgroup))
        .map(|(kind, path)| Ok((kind, open(kind, path)?, path)))
        .collect::<Result<Vec<_>>>()?;
    // A user namespace comes first: it may own the others.
    for (kind, namespace, path) in &joins {
        join(*kind, namespace, path)?;
        if *kind == NamespaceKind::User {
            become_root()?;
        }
    }
    let user = NamespaceKind::User.clone_flag();
    if plan.namespaces.is_new(NamespaceKind::User) {
        sys::namespace::unshare(user).doing(|| "make a user namespace")?;
        await_map(channel)?;
    }
    if offsets_time(plan) {
        new_time_namespace(plan)?;
    }
    let cloned = clone_sibling(clone_flags(plan) & !user)?;
    if let Cloned::Parent { pid, pidfd } = &cloned {
        let pid = pid.as_raw_nonzero().get();
        channel.send_with(&Message::Staged { pid }, &[pidfd.as_fd()])?;
    }
    Ok(cloned)
}

fn clone_sibling(flags: u64) -> Result<Cloned> {
    let args = CloneArgs {
        flags: flags | CLONE_PARENT,
        cgroup: None,
    };
    let what = || format!("namespaces {flags:#x}, as a sibling");
    let cloned = trace::step("clone3", what, || clone3(&args));
    cloned.doing(|| "create the container's process")
}
