//! OCI runtimes that are programs: runc, crun, youki.

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sys::Context as _;

use super::jobs::{Wish, of_child};
use super::worker::Made;
use crate::protocol::{Create, External, Kind};
use crate::{Error, Result};

/// Files that last as long as one call of the program.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn new(dir: &Path, name: &str) -> Self {
        let path = dir.join(format!("{name}.{}", std::process::id()));
        // Left by a worker that had the same pid and was killed.
        let _ = std::fs::remove_file(&path);
        Self { path }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // It may never have been made.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Runs a command of the program.
pub(super) fn run(program: &External, words: &[&str]) -> Result<()> {
    let mut command = command(program, None);
    command.args(words);
    finish(command, None)
}

/// `create`.
pub(super) fn create(program: &External, dir: &Path, wish: &Create) -> Result<Made> {
    keep_orphans()?;
    let (pid_file, log) = (Scratch::new(dir, "pid"), Scratch::new(dir, "log"));
    let mut command = command(program, Some(&log));
    if wish.systemd_cgroup {
        command.arg("--systemd-cgroup");
    }
    command.arg("create").arg("--bundle").arg(&wish.bundle);
    command.arg("--pid-file").arg(&pid_file.path);
    let console = Console::of(dir, wish.stdio == crate::protocol::Stdio::Terminal)?;
    console.add_to(&mut command);
    command.arg(&wish.id);
    finish(command, Some(&log))?;
    let mut made = of_child(read_pid(&pid_file.path)?)?;
    made.fds.extend(console.receive()?);
    if wish.start {
        run(program, &["start", &wish.id])?;
    }
    Ok(made)
}

/// `exec`.
pub(super) fn exec(dir: &Path, wish: &Wish) -> Result<Made> {
    let program = wish.runtime.as_ref().ok_or(runtime::Error::NotRunning)?;
    keep_orphans()?;
    let (pid_file, log) = (Scratch::new(dir, "pid"), Scratch::new(dir, "log"));
    let document = Scratch::new(dir, "process");
    let mut command = command(program, Some(&log));
    command
        .args(["exec", "--detach", "--pid-file"])
        .arg(&pid_file.path);
    let console = Console::of(dir, wish.terminal)?;
    console.add_to(&mut command);
    if wish.terminal {
        command.arg("--tty");
    }
    match &wish.document {
        Some(text) => {
            let args = || document.path.display().to_string();
            std::fs::write(&document.path, text).context("write", args)?;
            command.arg("--process").arg(&document.path).arg(&wish.id);
        }
        None => {
            command.arg(&wish.id).args(&wish.args);
        }
    }
    finish(command, Some(&log))?;
    let mut made = of_child(read_pid(&pid_file.path)?)?;
    made.fds.extend(console.receive()?);
    Ok(made)
}

fn command(program: &External, log: Option<&Scratch>) -> Command {
    let mut command = Command::new(&program.path);
    if let Some(root) = &program.root {
        command.arg("--root").arg(root);
    }
    match log {
        Some(log) => {
            command.arg("--log").arg(&log.path);
        }
        None => {
            command.stderr(Stdio::piped());
        }
    }
    command
}

/// Has what the program leaves become ours until we end: a process that ends at once would else be
/// an orphan of the supervisor's that it does not know yet.
fn keep_orphans() -> Result<()> {
    let own = Some(rustix::process::getpid());
    let set = rustix::process::set_child_subreaper(own);
    Ok(set.context("prctl", || "PR_SET_CHILD_SUBREAPER, 1")?)
}

/// Waits for the program; what it complains of becomes the error.
fn finish(mut command: Command, log: Option<&Scratch>) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let said = match log {
        // Its standard error is the container's.
        Some(log) => {
            let status = command.status().context("execve", || name.clone())?;
            if status.success() {
                return Ok(());
            }
            std::fs::read_to_string(&log.path).unwrap_or_default()
        }
        None => {
            let output = command.output().context("execve", || name.clone())?;
            if output.status.success() {
                return Ok(());
            }
            String::from_utf8_lossy(&output.stderr).into_owned()
        }
    };
    let line = said.lines().rfind(|l| !l.trim().is_empty());
    let text = format!("{name}: {}", line.unwrap_or("failed and says nothing"));
    let kind = if text.contains("does not exist") || text.contains("No such container") {
        Kind::NotFound
    } else if text.contains("executable file not found") || text.contains("exec format error") {
        Kind::Program
    } else {
        Kind::Failed
    };
    Err(Error::of_kind(kind, text))
}

fn read_pid(path: &Path) -> Result<i32> {
    let args = || path.display().to_string();
    let text = std::fs::read_to_string(path).context("read", args)?;
    let pid = text.trim().parse();
    pid.map_err(|_| Error::Invalid(format!("{}: {text:?} is no pid", args())))
}

/// The socket that gets the master of a terminal.
struct Console {
    made: Option<(Scratch, UnixListener)>,
}

impl Console {
    fn of(dir: &Path, wanted: bool) -> Result<Self> {
        if !wanted {
            return Ok(Self { made: None });
        }
        let scratch = Scratch::new(dir, "tty");
        let bound = UnixListener::bind(&scratch.path);
        let listener = bound.context("bind", || scratch.path.display().to_string())?;
        Ok(Self {
            made: Some((scratch, listener)),
        })
    }

    fn add_to(&self, command: &mut Command) {
        if let Some((scratch, _)) = &self.made {
            command.arg("--console-socket").arg(&scratch.path);
        }
    }

    /// The program has sent it before it ended.
    fn receive(self) -> Result<Option<std::os::fd::OwnedFd>> {
        let Some((scratch, listener)) = self.made else {
            return Ok(None);
        };
        let args = || scratch.path.display().to_string();
        listener.set_nonblocking(true).context("fcntl", args)?;
        let (stream, _) = listener.accept().context("accept", args)?;
        Ok(runtime::console::receive_fd(&stream)?.map(|(_, fd)| fd))
    }
}
