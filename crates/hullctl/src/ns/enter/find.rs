//! Opening the namespaces to enter.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, PidfdGetfdFlags, pidfd_getfd};
use spec::plan::NamespaceKind;

use super::super::kinds::{KINDS, inode_of, path_of};
use super::args::{Place, Plan, Target};

/// A namespace, opened.
#[derive(Debug)]
pub struct Found {
    /// Its kind.
    pub kind: NamespaceKind,
    /// Its descriptor.
    pub fd: OwnedFd,
    /// Where it comes from, for messages.
    pub from: String,
}

/// All that the command line names, the one that others depend on first.
pub fn namespaces(plan: &Plan) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    if let Some(target) = plan.target {
        check(target)?;
        if plan.all {
            found.extend(differing(target.pid)?);
        }
    }
    for (kind, place) in &plan.places {
        let one = match place {
            Place::Target => of_process(plan.target.map_or(0, |t| t.pid), *kind)?,
            Place::File(path) => of_file(*kind, path)?,
            Place::Number(number) => of_number(*kind, *number)?,
        };
        replace(&mut found, one);
    }
    if let (Some(fd), Some(target)) = (plan.net_socket, plan.target) {
        replace(&mut found, of_socket(target, fd)?);
    }
    if plan.user_parent {
        let parent = user_parent(&found)?;
        replace(&mut found, parent);
    }
    found.sort_by_key(|f| f.kind);
    Ok(found)
}

/// The later word counts: `--all --net=FILE`.
fn replace(found: &mut Vec<Found>, one: Found) {
    found.retain(|f| f.kind != one.kind);
    found.push(one);
}

/// The target must still be the process that was meant when everything has been opened.
pub fn check_still_there(plan: &Plan) -> Result<()> {
    plan.target.map_or(Ok(()), check)
}

fn pidfd(target: Target) -> Result<OwnedFd> {
    let pid = Pid::from_raw(target.pid);
    let pid = pid.with_context(|| format!("ns enter: {} is no pid", target.pid))?;
    Ok(sys::pidfd::open(pid)?)
}

fn check(target: Target) -> Result<()> {
    let Some(want) = target.inode else {
        return Ok(());
    };
    let now = rustix::fs::fstat(pidfd(target)?)
        .context("fstat(pidfd)")?
        .st_ino;
    if now != want {
        bail!(
            "ns enter: process {} is another one now: its pidfd has inode {now}, not {want}",
            target.pid
        );
    }
    Ok(())
}

fn differing(pid: i32) -> Result<Vec<Found>> {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let kinds = KINDS.iter().map(|k| k.kind);
    // setns(2) refuses the user namespace that one is in.
    let others = kinds.filter(|&kind| inode_of(pid, kind) != inode_of(own, kind));
    others.map(|kind| of_process(pid, kind)).collect()
}

fn of_process(pid: i32, kind: NamespaceKind) -> Result<Found> {
    of_file(kind, Path::new(&path_of(pid, kind)))
}

fn of_file(kind: NamespaceKind, path: &Path) -> Result<Found> {
    let from = path.display().to_string();
    let file = File::open(path).with_context(|| format!("open({from})"))?;
    let fd = OwnedFd::from(file);
    Ok(Found { kind, fd, from })
}

fn of_number(kind: NamespaceKind, number: u64) -> Result<Found> {
    let from = format!("number {number}");
    if let Ok(fd) = sys::nsfs::open_by_id(number) {
        return Ok(Found { kind, fd, from });
    }
    // Before Linux 6.19 only those that a process is in can be found.
    for pid in crate::proc::pids()? {
        let Ok(found) = of_process(pid, kind) else {
            continue;
        };
        if sys::nsfs::id(found.fd.as_fd()).is_ok_and(|id| id == number) {
            return Ok(found);
        }
    }
    bail!(
        "ns enter: no {} namespace has the number {number}",
        kind.oci_name()
    )
}

fn of_socket(target: Target, fd: i32) -> Result<Found> {
    let from = format!("of descriptor {fd} of process {}", target.pid);
    let socket = pidfd_getfd(pidfd(target)?, fd, PidfdGetfdFlags::empty())
        .with_context(|| format!("pidfd_getfd({}, {fd})", target.pid))?;
    let fd = sys::nsfs::of_socket(&socket)?;
    let kind = NamespaceKind::Network;
    Ok(Found { kind, fd, from })
}

/// The parent of the user namespace to enter, or the owner of another one.
fn user_parent(found: &[Found]) -> Result<Found> {
    let kind = NamespaceKind::User;
    let user = found.iter().find(|f| f.kind == kind);
    let (fd, of) = match (user, found.first()) {
        (Some(user), _) => (sys::nsfs::parent(user.fd.as_fd())?, &user.from),
        (None, Some(other)) => (sys::nsfs::owner(other.fd.as_fd())?, &other.from),
        (None, None) => bail!("ns enter: --user-parent of what? Name another namespace too"),
    };
    let from = format!("that owns {of}");
    Ok(Found { kind, fd, from })
}
