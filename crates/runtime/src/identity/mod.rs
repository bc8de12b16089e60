//! Who a process is: ids, groups, capabilities, and what else execve(2) carries over.
//!
//! All of this runs in the process that is about to become the user's program. The order
//! matters, and is the caller's: what needs privilege (scheduling, labels, a seccomp filter
//! without `no_new_privs`) comes before [`assume`], which gives privilege up.

mod attributes;
mod caps;
mod home;
mod labels;

pub use attributes::{
    set_limits, set_memory_policy, set_no_new_privs, set_oom_score_adj, set_personality,
    set_scheduling, set_umask,
};
pub use caps::{cap_names, grantable};
pub use home::home_of;
pub use labels::{Labels, apparmor_enabled, check_labels, join_session_keyring, selinux_enabled};

use std::os::fd::BorrowedFd;

use rustix::fs::{Gid, Uid};
use rustix::io::Errno;
use rustix::thread::{
    set_keep_capabilities, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};
use spec::plan::{CapabilitySets, ProcessPlan, UserPlan};
use sys::Context as _;

use crate::Result;

/// Whether setgroups(2) may be called in the user namespace (user_namespaces(7)).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SetGroups {
    /// It may.
    Allowed,
    /// `/proc/PID/setgroups` says `deny`: the map was made without privilege.
    Denied,
}

/// Becomes the user of `process` with exactly its capabilities: bounding set, groups, gid, uid,
/// the other sets, in the order that leaves each step the privilege it needs.
///
/// Without `capabilities` in the plan all sets become empty, as under runc and crun.
/// Returns the capabilities asked for that could not be granted, as a bit mask; the
/// specification wants a warning for them, not an error.
///
/// # Errors
/// The call that failed.
pub fn assume(process: &ProcessPlan, setgroups: SetGroups) -> Result<u64> {
    let wanted = process.capabilities.unwrap_or_default();
    let (sets, refused) = grantable(&wanted, caps::permitted()?);
    caps::drop_bounding(sets.bounding)?;
    let keep = process.user.uid != 0 && sets != CapabilitySets::default();
    if keep {
        set_keep_capabilities(true).context("prctl", || "PR_SET_KEEPCAPS, 1")?;
    }
    change_user(&process.user, setgroups)?;
    if keep {
        set_keep_capabilities(false).context("prctl", || "PR_SET_KEEPCAPS, 0")?;
    }
    caps::set(&sets)?;
    Ok(refused)
}

fn change_user(user: &UserPlan, setgroups: SetGroups) -> Result<()> {
    change_groups(&user.additional_gids, setgroups)?;
    let gid = Gid::from_raw(user.gid);
    let args = || format!("{0}, {0}, {0}", user.gid);
    set_thread_res_gid(gid, gid, gid).context("setresgid", args)?;
    let uid = Uid::from_raw(user.uid);
    let args = || format!("{0}, {0}, {0}", user.uid);
    set_thread_res_uid(uid, uid, uid).context("setresuid", args)?;
    Ok(())
}

/// Never leaves the groups of whoever started the runtime, save where the kernel forbids to
/// change them at all and none are asked for.
fn change_groups(gids: &[u32], setgroups: SetGroups) -> Result<()> {
    if gids.is_empty() && setgroups == SetGroups::Denied {
        return Ok(());
    }
    let groups: Vec<Gid> = gids.iter().map(|&g| Gid::from_raw(g)).collect();
    set_thread_groups(&groups).context("setgroups", || format!("{gids:?}"))?;
    Ok(())
}

/// Gives standard input, output and error to `uid`, as far as they are not `/dev/null` and the
/// file system allows it: a program that is not root could not reopen them through
/// `/proc/self/fd` otherwise. A terminal is only given away where it is the container's own
/// (`own_terminal`): another one is that of whoever started the runtime.
///
/// # Errors
/// fstat(2)'s, and fchown(2)'s for other reasons than a file that cannot change hands.
pub fn own_stdio(uid: u32, own_terminal: bool) -> Result<()> {
    let stdio: [BorrowedFd<'_>; 3] = [
        rustix::stdio::stdin(),
        rustix::stdio::stdout(),
        rustix::stdio::stderr(),
    ];
    for (n, fd) in stdio.into_iter().enumerate() {
        let stat = match rustix::fs::fstat(fd) {
            Ok(stat) => stat,
            // The caller may have been started without it.
            Err(Errno::BADF) => continue,
            Err(e) => return Err(sys::Error::new("fstat", n.to_string(), e).into()),
        };
        let foreign = !own_terminal && rustix::termios::isatty(fd);
        if stat.st_uid == uid || is_null_device(&stat) || foreign {
            continue;
        }
        match rustix::fs::fchown(fd, Some(Uid::from_raw(uid)), None) {
            // Unmapped ids, foreign file systems, read-only ones, and sockets or pipes of
            // another user namespace keep their owner.
            Ok(()) | Err(Errno::INVAL | Errno::PERM | Errno::ROFS | Errno::OPNOTSUPP) => {}
            Err(e) => return Err(sys::Error::new("fchown", format!("{n}, {uid}"), e).into()),
        }
    }
    Ok(())
}

fn is_null_device(stat: &rustix::fs::Stat) -> bool {
    let rdev = (
        rustix::fs::major(stat.st_rdev),
        rustix::fs::minor(stat.st_rdev),
    );
    rustix::fs::FileType::from_raw_mode(stat.st_mode).is_char_device() && rdev == (1, 3)
}
