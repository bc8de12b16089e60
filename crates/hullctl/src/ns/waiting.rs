//! A child that stands in for this process: forked, attended, and its end taken over.

use std::os::fd::OwnedFd;
use std::process::ExitCode;

use anyhow::{Result, bail};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, waitpid};
use sys::Context as _;
use sys::process::{CloneArgs, Cloned, clone3};
use sys::signal::{SignalSet, read_signal, set_mask, signalfd};

const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;
const SIGCHLD: i32 = 17;
const SIGSTOP: i32 = 19;
const SIGCONT: i32 = 18;

/// Signals held back from the parent from [`Attending::begin`] on.
#[derive(Debug)]
pub struct Attending {
    signals: OwnedFd,
    before: SignalSet,
    forward: bool,
}

/// Which side of [`fork`] this is.
#[derive(Debug)]
pub enum Side {
    /// The new process.
    Child,
    /// This one.
    Parent(Pid),
}

/// fork(2).
pub fn fork() -> Result<Side> {
    Ok(match clone3(&CloneArgs::default())? {
        Cloned::Child => Side::Child,
        Cloned::Parent { pid, .. } => Side::Parent(pid),
    })
}

impl Attending {
    /// Holds back what would end the parent before the child; with `forward` the child gets
    /// SIGTERM and SIGINT that the parent receives.
    pub fn begin(forward: bool) -> Result<Self> {
        let set = [SIGINT, SIGTERM, SIGCHLD];
        let set = set.into_iter().fold(SignalSet::empty(), SignalSet::with);
        let before = set_mask(&set)?;
        let signals = signalfd(&set)?;
        Ok(Self {
            signals,
            before,
            forward,
        })
    }

    /// What the child needs before it goes on.
    pub fn in_child(&self) -> Result<()> {
        set_mask(&self.before)?;
        Ok(())
    }

    /// Waits for the child and ends as it ended: with its code, or by its signal.
    pub fn stay_with(self, child: Pid) -> Result<ExitCode> {
        loop {
            if let Some(code) = taken_over(child)? {
                return Ok(code);
            }
            let mut fds = [PollFd::new(&self.signals, PollFlags::IN)];
            match poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(e) => bail!("poll(signals): {}", sys::ErrnoText(e)),
            }
            while let Some(signal) = read_signal(&self.signals)? {
                if self.forward && signal != SIGCHLD {
                    // It has not been waited for, so the pid is its own.
                    sys::pidfd::kill(child, signal)?;
                }
            }
        }
    }
}

/// Takes over the child's end, if it has ended; a stop is taken over too, as a shell's job
/// control wants it.
fn taken_over(child: Pid) -> Result<Option<ExitCode>> {
    loop {
        let options = WaitOptions::NOHANG | WaitOptions::UNTRACED;
        let status = match waitpid(Some(child), options) {
            Ok(Some((_, status))) => status,
            Ok(None) => return Ok(None),
            Err(Errno::INTR) => continue,
            Err(e) => bail!("waitpid({}): {}", child.as_raw_nonzero(), sys::ErrnoText(e)),
        };
        if status.stopped() {
            let own = rustix::process::getpid();
            sys::pidfd::kill(own, SIGSTOP)?;
            sys::pidfd::kill(child, SIGCONT)?;
        } else {
            return as_it_ended(status).map(Some);
        }
    }
}

fn as_it_ended(status: WaitStatus) -> Result<ExitCode> {
    if let Some(signal) = status.terminating_signal() {
        // The same end, so that whoever waits for us sees what happened. Without a core file:
        // the child has left one if any.
        let _ = rustix::process::setrlimit(
            rustix::process::Resource::Core,
            rustix::process::Rlimit {
                current: Some(0),
                maximum: Some(0),
            },
        );
        sys::signal::reset_for_exec()?;
        sys::pidfd::kill(rustix::process::getpid(), signal)?;
    }
    let code = runtime::foreground::exit_code(status);
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
}

/// The calling process dies by `signal` when its parent does.
pub fn die_with_parent(signal: i32) -> Result<()> {
    let Some(signal) = Signal::from_named_raw(signal) else {
        bail!("prctl(PR_SET_PDEATHSIG, {signal}): give a signal with a name");
    };
    rustix::process::set_parent_process_death_signal(Some(signal))
        .context("prctl", || format!("PR_SET_PDEATHSIG, {signal:?}"))?;
    Ok(())
}
