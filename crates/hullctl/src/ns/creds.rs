//! The last steps before another program takes over: identity, environment, execve.

use std::convert::Infallible;
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;

use anyhow::{Context as _, Result, anyhow};
use rustix::io::Errno;
use rustix::thread::{
    Gid, Uid, capabilities, configure_capability_in_ambient_set, set_capabilities,
    set_keep_capabilities, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

/// Who the program is to be.
#[derive(Clone, Copy, Debug, Default)]
pub struct Identity {
    /// All three user ids.
    pub uid: Option<u32>,
    /// All three group ids; supplementary groups go.
    pub gid: Option<u32>,
    /// Keep the capabilities across the change and across execve(2).
    pub keep_caps: bool,
}

impl Identity {
    /// Takes the identity.
    pub fn assume(self) -> Result<()> {
        if self.keep_caps {
            set_keep_capabilities(true).context("prctl(PR_SET_KEEPCAPS, 1)")?;
        }
        if let Some(gid) = self.gid {
            match set_thread_groups(&[]) {
                // Where setgroups is denied (a user namespace of one's own) they cannot go.
                Ok(()) | Err(Errno::PERM) => {}
                Err(e) => return Err(e).context("setgroups(0)"),
            }
            let gid = Gid::from_raw(gid);
            set_thread_res_gid(gid, gid, gid).with_context(|| {
                format!("setresgid({gid}): is it mapped in /proc/self/gid_map?")
            })?;
        }
        if let Some(uid) = self.uid {
            let uid = Uid::from_raw(uid);
            set_thread_res_uid(uid, uid, uid).with_context(|| {
                format!("setresuid({uid}): is it mapped in /proc/self/uid_map?")
            })?;
        }
        if self.keep_caps {
            hand_down_capabilities()?;
        }
        Ok(())
    }
}

/// Makes all permitted capabilities inheritable and ambient, so that execve(2) keeps them.
fn hand_down_capabilities() -> Result<()> {
    let mut sets = capabilities(None).context("capget(self)")?;
    sets.effective = sets.permitted;
    sets.inheritable = sets.permitted;
    set_capabilities(None, sets).context("capset(self): all permitted ones inheritable")?;
    for set in sets.permitted {
        // The kernel may know capabilities that this program does not name; they stay as they are.
        match configure_capability_in_ambient_set(set, true) {
            Ok(()) | Err(Errno::INVAL) => {}
            Err(e) => return Err(e).context(format!("prctl(PR_CAP_AMBIENT_RAISE, {set:?})")),
        }
    }
    Ok(())
}

/// The environment of the program.
#[derive(Clone, Debug, Default)]
pub enum Environment {
    /// As it is.
    #[default]
    Kept,
    /// Exactly these.
    Given(Vec<(OsString, OsString)>),
}

/// execve(2) along $PATH; returns only on failure.
pub fn execute(words: &[OsString], environment: &Environment) -> Result<Infallible> {
    let (program, args) = words.split_first().context("no program to execute")?;
    sys::signal::reset_for_exec()?;
    let mut command = std::process::Command::new(program);
    command.args(args);
    if let Environment::Given(pairs) = environment {
        command.env_clear().envs(pairs.iter().cloned());
    }
    let e = command.exec();
    Err(anyhow!(e).context(format!("execve({})", program.display())))
}

/// The exit code of a program that could not be executed, as shells and util-linux have it.
pub fn code_of(e: &anyhow::Error) -> u8 {
    let kind = e.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    match kind {
        Some(std::io::ErrorKind::NotFound) => 127,
        _ => 126,
    }
}
