//! One measured process: started by a bare fork, so that its figures hold as little of ours as
//! possible.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Pid;
use sys::process::{CloneArgs, Cloned, clone3, execve, exit_now};
use sys::usage::Ended;

/// Longer than any step may take; a runtime that hangs must not hang the bench.
const DEADLINE: Timespec = Timespec {
    tv_sec: 20,
    tv_nsec: 0,
};

/// A command, ready to be executed.
#[derive(Debug)]
pub struct Command {
    program: CString,
    argv: Vec<CString>,
    /// Its environment: nothing but a path.
    envp: Vec<CString>,
}

/// What one command took.
#[derive(Clone, Copy, Debug)]
pub struct Took {
    /// From before the fork until the end was seen.
    pub wall: Duration,
    /// The end itself.
    pub ended: Ended,
}

impl Command {
    /// The command `program args...`.
    ///
    /// # Errors
    /// A NUL byte in a word.
    pub fn new<'a>(program: &Path, args: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let program = CString::new(program.as_os_str().as_bytes())?;
        let mut argv = vec![program.clone()];
        for arg in args {
            argv.push(CString::new(arg)?);
        }
        let envp =
            vec![c"PATH=/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin".into()];
        Ok(Self {
            program,
            argv,
            envp,
        })
    }

    /// Runs it to its end; its standard error goes to `complaints`.
    ///
    /// # Errors
    /// A failed fork, and a command that does not end in time.
    pub fn run(&self, complaints: &File) -> Result<Took> {
        let argv: Vec<&CStr> = self.argv.iter().map(CString::as_c_str).collect();
        let envp: Vec<&CStr> = self.envp.iter().map(CString::as_c_str).collect();
        let began = Instant::now();
        let (pid, pidfd) = match clone3(&CloneArgs::default())? {
            Cloned::Child => self.become_it(complaints, &argv, &envp),
            Cloned::Parent { pid, pidfd } => (pid, pidfd),
        };
        wait(pid, &pidfd, began).with_context(|| format!("{:?}", self.argv))
    }

    /// The child's side: standard streams, then the program.
    fn become_it(&self, complaints: &File, argv: &[&CStr], envp: &[&CStr]) -> ! {
        let null = File::options().read(true).write(true).open("/dev/null");
        let ready = null.is_ok_and(|null| {
            rustix::stdio::dup2_stdin(null.as_fd()).is_ok()
                && rustix::stdio::dup2_stdout(null.as_fd()).is_ok()
                && rustix::stdio::dup2_stderr(complaints.as_fd()).is_ok()
        });
        if ready {
            execve(&self.program, argv, envp);
        }
        exit_now(127)
    }
}

/// Waits for a child that was forked at `began`.
///
/// # Errors
/// A child that does not end in time is killed and is an error.
pub fn wait(pid: Pid, pidfd: &OwnedFd, began: Instant) -> Result<Took> {
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    let in_time = poll(&mut fds, Some(&DEADLINE))? > 0;
    let wall = began.elapsed();
    if !in_time {
        sys::pidfd::send_signal(pidfd, rustix::process::Signal::KILL.as_raw())?;
    }
    let ended = sys::usage::wait(pid)?;
    if !in_time {
        bail!("did not end within {} s", DEADLINE.tv_sec);
    }
    Ok(Took { wall, ended })
}
