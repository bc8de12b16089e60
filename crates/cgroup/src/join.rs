//! Putting processes into control groups.
//!
//! A write of a pid to `cgroup.procs` takes the kernel's lock over all forks and execs, and the
//! first one after a quiet moment waits for an RCU grace period to get it: some ten
//! milliseconds, more than all else that a container's start costs. A single-threaded process
//! that moves *itself*, by a `0` to the version 1 file `tasks`, needs no such lock (since Linux
//! 5.5, `cgroup_procs_write_start` in kernel/cgroup/cgroup.c), and neither does clone3(2) with
//! CLONE_INTO_CGROUP. So the parent opens the files, and the child writes.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{Mode, OFlags};
use sys::{Context, Errno, trace};

use crate::dir::{Dir, write_to};
use crate::error::{Error, Result};
use crate::systemd::Scope;

/// Everything that a process needs to enter a container's control groups.
///
/// Made by the parent, used by the child; holds only descriptors, all close-on-exec, so it works
/// across namespaces, pivot_root(2) and a change of ids (the kernel checks the rights of whoever
/// opened the file).
#[derive(Debug)]
pub struct Joiner {
    v1: Vec<(PathBuf, OwnedFd)>,
    unified: Option<Unified>,
    /// Somebody else moves the process, and then lets it go on by this eventfd.
    gate: Option<OwnedFd>,
    /// systemd is to move it: its scope, and the group below.
    attach: Option<(Scope, String)>,
}

#[derive(Debug)]
struct Unified {
    path: PathBuf,
    /// O_PATH, for CLONE_INTO_CGROUP.
    dir: OwnedFd,
    procs: OwnedFd,
}

impl Joiner {
    /// Opens what is needed for these directories.
    pub(crate) fn open<'a>(
        v1: impl Iterator<Item = &'a Dir>,
        unified: Option<&Dir>,
    ) -> Result<Self> {
        let v1 = v1
            .map(|dir| Ok((dir.path().to_owned(), open_tasks(dir)?)))
            .collect::<Result<_>>()?;
        let unified = unified.map(Unified::open).transpose()?;
        Ok(Self {
            v1,
            unified,
            gate: None,
            attach: None,
        })
    }

    /// For a process that is moved by systemd and the parent: it only waits for them.
    pub(crate) fn waiting(gate: OwnedFd) -> Self {
        Self {
            v1: Vec::new(),
            unified: None,
            gate: Some(gate),
            attach: None,
        }
    }

    /// For a process that only systemd may move into its group: [`Joiner::admit`] asks it.
    pub(crate) fn attached(scope: Scope, below: String) -> Result<Self> {
        let gate = eventfd(0, EventfdFlags::CLOEXEC).context("eventfd", || "0")?;
        Ok(Self {
            attach: Some((scope, below)),
            ..Self::waiting(gate)
        })
    }

    /// The parent's part, once the process exists: nothing in most cases. A user's process may
    /// not be moved by the user where the way leads through groups that are root's (from a login
    /// session into a scope); the user's systemd can.
    ///
    /// # Errors
    /// systemd refused or did not answer.
    pub fn admit(&self, pid: rustix::process::Pid) -> Result<()> {
        let (Some((scope, below)), Some(gate)) = (&self.attach, &self.gate) else {
            return Ok(());
        };
        scope.attach(below, pid)?;
        open_gate(gate)
    }

    /// The directory to give to clone3(2) as CLONE_INTO_CGROUP: the unified tree's.
    #[must_use]
    pub fn clone_fd(&self) -> Option<BorrowedFd<'_>> {
        self.unified.as_ref().map(|u| u.dir.as_fd())
    }

    /// Moves the calling process, which must have one thread only, into all control groups.
    /// With the systemd driver it waits until [`crate::Manager::start_scope`] has done so, in the
    /// parent; should the parent die instead, it is for the caller to die with it (prctl(2),
    /// PR_SET_PDEATHSIG).
    ///
    /// `cloned_into` says that clone3(2) has placed it in the unified tree already.
    ///
    /// # Errors
    /// The write that failed.
    pub fn join_self(&self, cloned_into: bool) -> Result<()> {
        if let Some(gate) = &self.gate {
            return trace::step("read", || "until systemd has made the scope", || pass(gate));
        }
        let unified = self.unified.as_ref().filter(|_| !cloned_into);
        trace::step(
            "write",
            || format!("0 to tasks of {} cgroup hierarchies", self.v1.len()),
            || {
                for (path, fd) in &self.v1 {
                    enter(path, fd.as_fd(), b"0")?;
                }
                unified.map_or(Ok(()), |u| enter(&u.path, u.procs.as_fd(), b"0"))
            },
        )
    }

    /// Moves another process into all control groups. Slow, see the module's head; opens
    /// `cgroup.procs` anew, because `tasks` would move one thread only.
    ///
    /// # Errors
    /// The write that failed.
    pub fn join(&self, pid: rustix::process::Pid) -> Result<()> {
        let pid = pid.as_raw_nonzero().to_string();
        trace::step(
            "write",
            || format!("{pid} to cgroup.procs of {} hierarchies", self.v1.len()),
            || {
                for (path, _) in &self.v1 {
                    Dir::new(path).write("cgroup.procs", &pid)?;
                }
                self.unified
                    .as_ref()
                    .map_or(Ok(()), |u| enter(&u.path, u.procs.as_fd(), pid.as_bytes()))
            },
        )
    }
}

impl Unified {
    fn open(dir: &Dir) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(dir.path(), flags, Mode::empty())
            .context("open", || format!("{:?}, O_PATH", dir.path()))?;
        Ok(Self {
            path: dir.path().to_owned(),
            dir: fd,
            procs: dir.open("cgroup.procs", OFlags::WRONLY)?,
        })
    }
}

/// Lets go on who waits in [`Joiner::join_self`].
pub(crate) fn open_gate(gate: &OwnedFd) -> Result<()> {
    let opened = rustix::io::write(gate, &1_u64.to_ne_bytes());
    Ok(opened
        .map(drop)
        .context("write", || "eventfd of the systemd driver")?)
}

/// Waits for the eventfd to be signalled.
fn pass(gate: &OwnedFd) -> Result<()> {
    loop {
        match rustix::io::read(gate, &mut [0_u8; 8]) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(e) => Err(e).context("read", || "eventfd of the systemd driver")?,
        }
    }
}

fn open_tasks(dir: &Dir) -> sys::Result<OwnedFd> {
    let open = |file: &str| {
        let path = dir.path().join(file);
        rustix::fs::open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
            .context("open", || format!("{path:?}"))
    };
    // A delegated version 1 directory may have given away cgroup.procs alone.
    open("tasks").or_else(|e| match e.errno {
        Errno::ACCESS | Errno::PERM => open("cgroup.procs"),
        _ => Err(e),
    })
}

fn enter(path: &std::path::Path, fd: BorrowedFd<'_>, pid: &[u8]) -> Result<()> {
    let describe = || format!("{path:?}: enter cgroup, pid {}", pid.escape_ascii());
    write_to(fd, pid, describe).map_err(|e| match e.errno {
        // cgroups(7): a threaded group takes threads of processes of its domain only.
        Errno::OPNOTSUPP => Error::Threaded {
            path: path.to_owned(),
            kind: "threaded or domain invalid".into(),
        },
        _ => Error::Sys(e),
    })
}
