//! The last steps of a process that is ours, before it is the user's.
//!
//! The order matters: what needs privilege comes before it is given up, what needs the user's
//! rights (the working directory, the program) after; and a system-call filter comes as late as
//! its own rights allow, so that it need not allow what is done here.

use std::os::fd::AsFd as _;

use seccomp::Filter;
use spec::plan::{MemoryPolicyPlan, PersonalityPlan, ProcessPlan};
use sys::{Context as _, Errno, trace};

use crate::exec_program::Program;
use crate::identity::{self, Labels, SetGroups};
use crate::wire::{Channel, Message};
use crate::{Error, Result};

/// What the user's program is to be.
#[derive(Debug)]
pub struct BecomeProgram<'a> {
    /// Who and what.
    pub process: &'a ProcessPlan,
    /// personality(2).
    pub personality: Option<PersonalityPlan>,
    /// set_mempolicy(2).
    pub memory_policy: Option<&'a MemoryPolicyPlan>,
    /// The system-call filter.
    pub filter: Option<&'a Filter>,
    /// The caller's file mode creation mask where it was changed meanwhile, for a process that is
    /// not given one of its own.
    pub umask: Option<u32>,
    /// Whether groups can be set.
    pub setgroups: SetGroups,
    /// Opened before the container's file systems were entered.
    pub labels: Labels,
    /// Descriptors passed on beyond standard error.
    pub descriptors: Descriptors,
}

/// Descriptors from number 3 on that the user's program gets.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Descriptors {
    /// By socket activation (sd_listen_fds(3)): the first so many, and the environment says so.
    pub listen: u32,
    /// The next so many, by `--preserve-fds`.
    pub more: u32,
}

impl Descriptors {
    /// The first number that is not passed on.
    #[must_use]
    pub const fn end(self) -> u32 {
        self.listen.saturating_add(self.more).saturating_add(3)
    }

    /// Checks that all of them were inherited. One of ours in a gap gives itself away by being
    /// close-on-exec, so it must be called before [`sys::process::close_on_exec_from`].
    ///
    /// # Errors
    /// [`Error::Invalid`] for one that is not.
    pub fn check(self) -> Result<()> {
        for number in 3..self.end() {
            if !sys::process::is_inherited(number) {
                let text = format!(
                    "please check that descriptor {number} is open: {} are to be passed on",
                    self.end() - 3
                );
                return Err(Error::Invalid(text));
            }
        }
        Ok(())
    }
}

impl BecomeProgram<'_> {
    /// Takes the steps. Only returns on failure.
    ///
    /// `channel` leads to whoever waits for the start: warnings, [`Message::Listener`] and
    /// [`Message::Executing`] go there; its end closes with execve(2).
    #[must_use]
    pub fn run(self, channel: &Channel) -> Error {
        match self.prepare(channel) {
            Ok(program) => trace::step("execve", || "the user's program", || program.exec()),
            Err(e) => e,
        }
    }

    fn prepare(self, channel: &Channel) -> Result<Program> {
        let process = self.process;
        let mut env = process.env.clone();
        self.complete(&mut env);
        identity::set_scheduling(process)?;
        if let Some(policy) = self.memory_policy {
            identity::set_memory_policy(policy)?;
        }
        if let Some(personality) = self.personality {
            identity::set_personality(personality)?;
        }
        identity::own_stdio(process.user.uid, process.terminal.is_some())?;
        self.labels.apply()?;
        if process.no_new_privileges {
            identity::set_no_new_privs()?;
        }
        // Without no_new_privs a filter takes a privilege that is about to go.
        let (early, late) = match self.filter {
            Some(filter) if process.no_new_privileges => (None, Some(filter)),
            other => (other, None),
        };
        // A directory that the user may not enter can still be where the program starts.
        let entered = enter(process)?;
        install(early, channel)?;
        let refused = trace::step(
            "setgroups + setresgid + setresuid + capset",
            || format!("user {}, group {}", process.user.uid, process.user.gid),
            || identity::assume(process, self.setgroups),
        )?;
        if refused != 0 {
            let names = identity::cap_names(refused).join(", ");
            channel.tell(&Message::Warning(format!(
                "capabilities not available: {names}"
            )))?;
        }
        identity::set_umask(process.user.umask.or(self.umask));
        if !entered && !enter(process)? {
            return Err(cwd_error(process, Errno::ACCESS));
        }
        let program = Program::find(&process.args, &env)?;
        // The second line of defence: all of ours are so from their opening, what was inherited
        // from the program's start. Without /proc an old kernel cannot do it again.
        let _ = sys::process::close_on_exec_from(self.descriptors.end());
        channel.tell(&Message::Executing)?;
        install(late, channel)?;
        Ok(program)
    }

    /// Variables that the configuration need not name.
    fn complete(&self, env: &mut Vec<String>) {
        let listen = self.descriptors.listen;
        if listen > 0 {
            env.retain(|e| !e.starts_with("LISTEN_FDS=") && !e.starts_with("LISTEN_PID="));
            env.push(format!("LISTEN_FDS={listen}"));
            env.push(format!("LISTEN_PID={}", rustix::process::getpid()));
        }
        if !env.iter().any(|e| e.starts_with("HOME=")) {
            env.push(format!("HOME={}", identity::home_of(self.process.user.uid)));
        }
    }
}

/// Enters the working directory, and makes sure that it is inside the root: a path of the image
/// may lead through a descriptor that leads out (CVE-2024-21626). False where that is forbidden
/// to whoever we are now.
fn enter(process: &ProcessPlan) -> Result<bool> {
    match rustix::process::chdir(&process.cwd) {
        Ok(()) => {}
        Err(Errno::ACCESS | Errno::PERM) => return Ok(false),
        Err(e) => return Err(cwd_error(process, e)),
    }
    let now = rustix::process::getcwd(Vec::new()).map_err(|e| cwd_error(process, e))?;
    // The kernel writes "(unreachable)/…" for a directory outside the root (getcwd(2)).
    if now.as_bytes().starts_with(b"/") {
        return Ok(true);
    }
    let text = format!(
        "cwd {:?}: current working directory is outside of container mount namespace root",
        process.cwd
    );
    Err(Error::Invalid(text))
}

fn cwd_error(process: &ProcessPlan, errno: Errno) -> Error {
    let (cwd, text) = (&process.cwd, sys::ErrnoText(errno));
    Error::Invalid(format!(
        "chdir to cwd ({cwd:?}) set in config.json failed: {text}"
    ))
}

/// Installs a filter; announces the number of its listener before, because after it the filter
/// would have to allow that. It must allow read(2); where the listener cannot be taken, also
/// sendmsg(2) and recvmsg(2).
fn install(filter: Option<&Filter>, channel: &Channel) -> Result<()> {
    let Some(filter) = filter else { return Ok(()) };
    if filter.notify {
        channel.send(&Message::Listener {
            fd: next_descriptor()?,
        })?;
    }
    let count = || format!("{} instructions", filter.program.len());
    let listener = trace::step("seccomp", count, || {
        sys::seccomp::install(&filter.to_bytes(), filter.flags)
    })?;
    if let Some(listener) = listener {
        // execve(2) closes it: only once the agent has its own. Should the filter ask the agent
        // about this very read(2), the agent can answer by then.
        if channel.await_go_or_give()? {
            channel.send_with(&Message::Given, &[listener.as_fd()])?;
            channel.expect_go()?;
        }
        drop(listener);
    }
    Ok(())
}

/// The number that the next descriptor will get.
fn next_descriptor() -> Result<i32> {
    use std::os::fd::AsRawFd as _;
    let file = std::fs::File::open("/").context("open", || "/")?;
    Ok(file.as_raw_fd())
}
