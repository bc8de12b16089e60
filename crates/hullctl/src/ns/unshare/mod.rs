//! `hullctl ns unshare`: a program in new namespaces.

mod args;
mod helper;
mod maps;
mod place;

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::ArgMatches;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::thread::{Gid, Uid, set_thread_res_gid, set_thread_res_uid};
use spec::plan::NamespaceKind;

use args::Plan;
pub use args::command;
use helper::{Helper, Work};

use super::creds;
use super::waiting::{Attending, Side, die_with_parent, fork};

/// Runs the program; its exit code.
pub fn run(m: &ArgMatches) -> Result<ExitCode> {
    let plan = args::parse(m)?;
    let attending = plan
        .fork
        .then(|| Attending::begin(plan.forward_signals))
        .transpose()?;
    let work = work_of(&plan)?;
    let mut helper = plan
        .needs_helper()
        .then(|| Helper::start(&work))
        .transpose()?;
    if let Some((uid, gid)) = plan.owner {
        become_owner(uid, gid)?;
    }
    let flags = plan.kinds.iter().fold(0, |bits, k| bits | k.clone_flag());
    let keeps_mounts = plan.files.iter().any(|(k, _)| *k == NamespaceKind::Mount);
    let old = keeps_mounts.then(place::mount_namespace_number).flatten();
    sys::namespace::unshare(flags)?;
    if let Some(old) = old {
        place::look_newer(old)?;
    }
    place::set_clocks(&plan)?;
    match &mut helper {
        Some(helper) => helper.write_maps()?,
        None => helper::write_maps(&work, rustix::process::getpid().as_raw_nonzero().get())?,
    }
    let Some(attending) = attending else {
        if let Some(mut helper) = helper {
            helper.bind_files()?;
            helper.dismiss()?;
        }
        return go_on(&plan);
    };
    fork_and_stay(&plan, attending, helper)
}

fn fork_and_stay(plan: &Plan, attending: Attending, helper: Option<Helper>) -> Result<ExitCode> {
    let (mut ours, mut theirs) = UnixStream::pair().context("socketpair(child)")?;
    match fork()? {
        Side::Child => {
            // The helper ends when nobody has its line any more.
            drop((ours, helper));
            attending.in_child()?;
            if let Some(signal) = plan.kill_child {
                die_with_parent(signal)?;
            }
            // Not before the parent has bound the namespaces; nothing comes if it failed.
            let mut go = [0];
            if theirs.read(&mut go).context("read(parent)")? == 0 {
                sys::process::exit_now(1);
            }
            // It may have ended before it was asked for that signal: then none comes.
            if plan.kill_child.is_some() && has_gone(&theirs)? {
                sys::process::exit_now(1);
            }
            drop(theirs);
            go_on(plan)
        }
        Side::Parent(child) => {
            drop(theirs);
            if let Some(mut helper) = helper {
                helper.bind_files()?;
                helper.dismiss()?;
            }
            ours.write_all(&[1]).context("write(child)")?;
            attending.stay_with(child)
        }
    }
}

/// Whether nobody has the other end of a socket any more.
fn has_gone(socket: &UnixStream) -> Result<bool> {
    let mut fds = [PollFd::new(socket, PollFlags::IN)];
    rustix::io::retry_on_intr(|| poll(&mut fds, Some(&Timespec::default())))
        .context("poll(parent)")?;
    Ok(fds[0].revents().contains(PollFlags::HUP))
}

/// The new user namespace belongs to the effective user of whoever makes it.
fn become_owner(uid: u32, gid: u32) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    let (same_uid, same_gid) = (rustix::process::getuid(), rustix::process::getgid());
    set_thread_res_gid(same_gid, gid, same_gid).with_context(|| format!("setresgid({gid})"))?;
    set_thread_res_uid(same_uid, uid, same_uid).with_context(|| format!("setresuid({uid})"))
}

fn work_of(plan: &Plan) -> Result<Work> {
    use maps::Files;
    use std::path::Path;
    let (uid, gid) = (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    let user = super::args::user_name(uid);
    let files = |subordinate, map| Files {
        subordinate: Path::new(subordinate),
        map: Path::new(map),
        user: user.as_deref(),
        uid,
    };
    let users = files("/etc/subuid", "/proc/self/uid_map");
    let groups = files("/etc/subgid", "/proc/self/gid_map");
    Ok(Work {
        users: plan.users.resolve(u64::from(uid), &users)?,
        groups: plan.groups.resolve(u64::from(gid), &groups)?,
        deny_setgroups: plan.deny_setgroups,
        files: plan.files.clone(),
    })
}

/// In the process that becomes the program.
fn go_on(plan: &Plan) -> Result<ExitCode> {
    if plan.kinds.contains(&NamespaceKind::Mount) {
        place::propagate(plan)?;
    }
    place::arrange(plan)?;
    plan.identity.assume()?;
    match creds::execute(&plan.program, &plan.environment) {
        Ok(never) => match never {},
        Err(e) => {
            eprintln!("hullctl: ns unshare: {e:#}");
            Ok(ExitCode::from(creds::code_of(&e)))
        }
    }
}
