//! Commands in containers.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use sys::{Context as _, Errno};

use super::connection::Caller;
use super::jobs::{self, Wish};
use super::poller::{Source, Token};
use super::worker::{Job, Outcome};
use super::{Supervisor, after, ending, not_found, stuck};
use crate::protocol::{Ended, Exec, ExecSync, Kind, Output, Part, Phase, Process, Reply};
use crate::{Error, Result};

/// How much of an output is kept where nobody says.
const MAX_OUTPUT: u64 = 16 << 20;
/// What is taken at once.
const CHUNK: usize = 64 * 1024;
/// How long the end of a killed command may take before its output is given without it.
const PATIENCE: Duration = Duration::from_secs(5);

/// A command that runs in a container.
#[derive(Debug)]
pub(super) struct Command {
    container: u64,
    id: String,
    caller: Caller,
    /// 0 before it runs.
    pub pid: i32,
    pidfd: Option<(OwnedFd, Option<Token>)>,
    /// Where its output is collected; none for a command that has streams of its own.
    collected: Option<[Captured; 2]>,
    truncated: bool,
    max_output: u64,
    kill_at: Option<Instant>,
    give_up_at: Option<Instant>,
    timed_out: bool,
}

/// An output that is collected.
#[derive(Debug, Default)]
struct Captured {
    pipe: Option<(OwnedFd, Option<Token>)>,
    file: Option<OwnedFd>,
    size: u64,
}

impl Command {
    pub fn deadline(&self) -> Option<Instant> {
        [self.kill_at, self.give_up_at].into_iter().flatten().min()
    }
}

impl Supervisor {
    /// Begins to run a command with the client's descriptors.
    pub(super) fn exec(&mut self, caller: Caller, exec: Exec, fds: Vec<OwnedFd>) -> Result<()> {
        let null = super::duplicate(&self.null)?;
        let mut stdio = [null.as_fd(); 3];
        for (part, fd) in exec.parts.iter().zip(&fds) {
            match part {
                Part::Stdin => stdio[0] = fd.as_fd(),
                Part::Stdout => stdio[1] = fd.as_fd(),
                Part::Stderr => stdio[2] = fd.as_fd(),
                Part::Pidfd | Part::Terminal => {
                    let text = "a command takes standard input, output and error".to_owned();
                    return Err(Error::Invalid(text));
                }
            }
        }
        let wish = Wish {
            id: exec.id,
            document: exec.document,
            args: exec.args,
            terminal: exec.terminal,
            size: exec.size,
            leaf: None,
            runtime: None,
        };
        self.begin(caller, wish, stdio, None)
    }

    /// Begins to run a command whose output is collected.
    pub(super) fn exec_sync(&mut self, caller: Caller, exec: ExecSync) -> Result<()> {
        let null = super::duplicate(&self.null)?;
        let pipe = || pipe_with(PipeFlags::CLOEXEC).context("pipe2", || "");
        let ((ours_out, out), (ours_err, err)) = (pipe()?, pipe()?);
        let wish = Wish {
            id: exec.id,
            document: None,
            args: exec.args,
            terminal: false,
            size: None,
            leaf: None,
            runtime: None,
        };
        let captured = [ours_out, ours_err].map(|fd| Captured {
            pipe: Some((fd, None)),
            ..Captured::default()
        });
        let limit =
            (exec.timeout_millis > 0).then(|| after(Duration::from_millis(exec.timeout_millis)));
        let collect = Collect {
            captured,
            kill_at: limit,
            max_output: exec.max_output.unwrap_or(MAX_OUTPUT).min(MAX_OUTPUT),
        };
        let stdio = [null.as_fd(), out.as_fd(), err.as_fd()];
        self.begin(caller, wish, stdio, Some(collect))
    }

    fn begin(
        &mut self,
        caller: Caller,
        mut wish: Wish,
        stdio: [BorrowedFd<'_>; 3],
        collect: Option<Collect>,
    ) -> Result<()> {
        let container = self.by_id(&wish.id)?;
        let found = self
            .containers
            .get(&container)
            .ok_or_else(|| not_found(&wish.id))?;
        if found.status.phase != Phase::Running || found.ended.is_some() {
            let text = format!("container {:?} does not run", wish.id);
            return Err(Error::of_kind(Kind::WrongState, text));
        }
        wish.runtime.clone_from(&found.status.create.runtime);
        let key = self.next_key();
        wish.leaf = Some(leaf_name(key));
        let mut command = Command {
            container,
            id: wish.id.clone(),
            caller,
            pid: 0,
            pidfd: None,
            collected: None,
            truncated: false,
            max_output: 0,
            kill_at: None,
            give_up_at: None,
            timed_out: false,
        };
        if let Some(collect) = collect {
            command.collected = Some(collect.captured);
            command.kill_at = collect.kill_at;
            command.max_output = collect.max_output;
        }
        let (root, dir) = (self.options.root.clone(), self.options.dir.clone());
        let task =
            |warn: &mut dyn FnMut(&str)| jobs::exec(&root, &dir, wish.clone(), warn).map(Some);
        self.employ(Job::Exec(key), stdio, &task)?;
        self.commands.insert(key, command);
        self.watch_captured(key);
        Ok(())
    }

    fn watch_captured(&mut self, key: u64) {
        let Some(command) = self.commands.get_mut(&key) else {
            return;
        };
        for (stream, captured) in command.collected.iter_mut().flatten().enumerate() {
            if let Some((fd, token)) = &mut captured.pipe {
                *token = self
                    .poller
                    .add(fd, Source::Captured(key, stream), false)
                    .ok();
            }
        }
    }

    /// A worker has started a command, or not.
    pub(super) fn command_started(&mut self, key: u64, outcome: Outcome) {
        let Some(command) = self.commands.get_mut(&key) else {
            return;
        };
        let caller = command.caller;
        let Some(made) = outcome.made else {
            if command.timed_out {
                // Its worker may have come as far as a process of its own.
                self.kill_command(key);
                return self.finish_command(key, Ended::default());
            }
            if let Some(failure) = outcome.failure {
                self.reply(caller, Reply::Failed(failure));
            }
            self.drop_command(key);
            return;
        };
        command.pid = made.pid;
        let mut fds = made.fds.into_iter();
        command.pidfd = fds.next().map(|fd| (fd, None));
        let terminal = fds.next();
        if let Some((fd, token)) = &mut command.pidfd {
            *token = self.poller.add(fd, Source::Exec(key), false).ok();
        }
        if command.collected.is_none() {
            let pidfd = command.pidfd.as_ref().map(|(fd, _)| fd);
            let copy = pidfd.and_then(|fd| super::duplicate(fd).ok());
            let all = [(Part::Pidfd, copy), (Part::Terminal, terminal)];
            let all: Vec<(Part, OwnedFd)> = all
                .into_iter()
                .filter_map(|(part, fd)| Some((part, fd?)))
                .collect();
            let process = Process {
                pid: made.pid,
                exec: key,
                parts: all.iter().map(|(part, _)| *part).collect(),
                warnings: outcome.warnings,
            };
            let fds: Vec<BorrowedFd<'_>> = all.iter().map(|(_, fd)| fd.as_fd()).collect();
            self.reply_with(caller, Reply::Started(process), &fds);
        }
        if self.commands.get(&key).is_some_and(|c| c.timed_out) {
            self.kill_command(key);
        }
        self.on_command_end(key);
    }

    /// Signals a command.
    pub(super) fn signal_command(&self, key: u64, signal: i32) -> Result<()> {
        let pidfd = self.commands.get(&key).and_then(|c| c.pidfd.as_ref());
        match pidfd {
            Some((pidfd, _)) => Ok(sys::pidfd::send_signal(pidfd, signal)?),
            None => Err(Error::of_kind(
                Kind::NotFound,
                format!("no command {key} runs"),
            )),
        }
    }

    /// Output of a command.
    pub(super) fn on_captured(&mut self, key: u64, stream: usize) {
        let Some(command) = self.commands.get_mut(&key) else {
            return;
        };
        let max = command.max_output;
        let Some(captured) = command.collected.as_mut().and_then(|c| c.get_mut(stream)) else {
            return;
        };
        match captured.take(max, &self.null) {
            Ok(Taken::Kept) => {}
            Ok(Taken::Dropped) => command.truncated = true,
            Ok(Taken::Nothing) => {}
            Ok(Taken::End) | Err(_) => {
                if let Some((fd, Some(token))) = captured.pipe.take() {
                    self.poller.remove(&fd, token);
                }
            }
        }
    }

    /// A command may have ended.
    pub(super) fn on_command_end(&mut self, key: u64) {
        let Some(command) = self.commands.get(&key) else {
            return;
        };
        let Some((pidfd, _)) = &command.pidfd else {
            return;
        };
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        match waitid(WaitId::PidFd(pidfd.as_fd()), options) {
            Ok(None) => {}
            Ok(Some(status)) => self.finish_command(key, ending::ended(&status)),
            Err(e) => {
                let note = format!("its exit code is not known: wait: {e}");
                let ended = Ended {
                    note: Some(note),
                    ..Ended::default()
                };
                self.finish_command(key, ended);
            }
        }
    }

    fn finish_command(&mut self, key: u64, ended: Ended) {
        // All that it has written itself is there; others who hold its output open are not
        // waited for.
        self.drain_command(key);
        let Some(command) = self.commands.get_mut(&key) else {
            return;
        };
        let caller = command.caller;
        match command.collected.take() {
            None => self.reply(caller, Reply::Ended(ended)),
            Some(collected) => {
                let mut output = Output {
                    ended,
                    timed_out: command.timed_out,
                    truncated: command.truncated,
                    parts: Vec::new(),
                };
                let mut files = Vec::new();
                for (captured, part) in collected.into_iter().zip([Part::Stdout, Part::Stderr]) {
                    if let Some(file) = captured.file {
                        output.parts.push(part);
                        files.push(file);
                    }
                    if let Some((fd, Some(token))) = captured.pipe {
                        self.poller.remove(&fd, token);
                    }
                }
                let fds: Vec<BorrowedFd<'_>> = files.iter().map(OwnedFd::as_fd).collect();
                self.reply_with(caller, Reply::Output(output), &fds);
            }
        }
        self.drop_command(key);
    }

    fn drain_command(&mut self, key: u64) {
        for stream in 0..2 {
            // More than a pipe holds, and an end where somebody goes on writing.
            for _ in 0..32 {
                let Some(command) = self.commands.get_mut(&key) else {
                    return;
                };
                let max = command.max_output;
                let captured = command.collected.as_mut().and_then(|c| c.get_mut(stream));
                match captured.map(|c| c.take(max, &self.null)) {
                    Some(Ok(Taken::Kept)) => {}
                    Some(Ok(Taken::Dropped)) => command.truncated = true,
                    _ => break,
                }
            }
        }
    }

    fn drop_command(&mut self, key: u64) {
        let Some(command) = self.commands.remove(&key) else {
            return;
        };
        if let Some((fd, Some(token))) = command.pidfd {
            self.poller.remove(&fd, token);
        }
        for captured in command.collected.into_iter().flatten() {
            if let Some((fd, Some(token))) = captured.pipe {
                self.poller.remove(&fd, token);
            }
        }
        self.remove_leaves(command.container, key);
    }

    /// Removes the control group of a command, and those of earlier ones that were not empty.
    fn remove_leaves(&mut self, container: u64, key: u64) {
        let Some(container) = self.containers.get_mut(&container) else {
            return;
        };
        container.leaves.push(key);
        let Ok(found) = jobs::open(&self.options.root, container.id()) else {
            return;
        };
        let Some(manager) = found.cgroups() else {
            container.leaves.clear();
            return;
        };
        container.leaves.retain(|key| {
            let leaf = manager.leaf(&leaf_name(*key));
            // What others are still in goes with the container.
            leaf.is_some_and(|leaf| !leaf.remove_if_empty())
        });
    }

    /// A deadline of a command has passed, perhaps.
    pub(super) fn on_command_time(&mut self, key: u64) {
        let Some(command) = self.commands.get_mut(&key) else {
            return;
        };
        let now = Instant::now();
        if command.kill_at.take_if(|at| *at <= now).is_some() {
            command.timed_out = true;
            command.give_up_at = Some(after(PATIENCE));
            self.kill_command(key);
        } else if command.give_up_at.take_if(|at| *at <= now).is_some() {
            let note = format!(
                "it was killed and has not ended: {}",
                stuck::report(&[command.pid])
            );
            let ended = Ended {
                note: Some(note),
                ..Ended::default()
            };
            self.finish_command(key, ended);
        }
    }

    /// Has those killed whose output nobody waits for any more.
    pub(super) fn abandon_commands(&mut self, connection: u64) {
        for command in self.commands.values_mut() {
            if command.caller.connection == connection && command.collected.is_some() {
                command.kill_at = Some(Instant::now());
            }
        }
    }

    /// Kills a command with all that it has started.
    fn kill_command(&mut self, key: u64) {
        let Some(command) = self.commands.get(&key) else {
            return;
        };
        let leaf = jobs::open(&self.options.root, &command.id).ok();
        let leaf = leaf.and_then(|c| c.cgroups()?.leaf(&leaf_name(key)));
        if let Some(leaf) = leaf
            && let Err(e) = leaf.kill()
        {
            super::complain(&format!("kill a command in {}: {e}", command.id));
        }
        if let Some((pidfd, _)) = &command.pidfd {
            // It may have ended, or been killed with its group.
            let _ = sys::pidfd::send_signal(pidfd, ending::SIGKILL);
        }
        // One that has not begun yet is still its worker's.
        self.dismiss_command(key);
    }
}

/// What is wanted of a command whose output is collected.
struct Collect {
    captured: [Captured; 2],
    kill_at: Option<Instant>,
    max_output: u64,
}

enum Taken {
    Kept,
    Dropped,
    Nothing,
    End,
}

impl Captured {
    /// Moves what is there into the file, up to the limit; what is beyond is dropped.
    fn take(&mut self, max: u64, null: &OwnedFd) -> Result<Taken> {
        let Some((pipe, _)) = &self.pipe else {
            return Ok(Taken::Nothing);
        };
        let room = usize::try_from(max.saturating_sub(self.size)).unwrap_or(usize::MAX);
        let (target, length) = if room == 0 {
            (null, CHUNK)
        } else {
            if self.file.is_none() {
                let file = memfd_create("output", MemfdFlags::CLOEXEC);
                self.file = Some(file.context("memfd_create", || "output")?);
            }
            (self.file.as_ref().unwrap_or(null), room.min(CHUNK))
        };
        let moved = splice(pipe, None, target, None, length, SpliceFlags::NONBLOCK);
        if self.size == 0 && !matches!(moved, Ok(n) if n > 0) {
            self.file = None;
        }
        match moved {
            Ok(0) => Ok(Taken::End),
            Ok(_) if room == 0 => Ok(Taken::Dropped),
            Ok(n) => {
                self.size += n as u64;
                Ok(Taken::Kept)
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(Taken::Nothing),
            Err(e) => Err(sys::Error::new("splice", "output of a command", e).into()),
        }
    }
}

fn leaf_name(key: u64) -> String {
    let own = rustix::process::getpid().as_raw_nonzero();
    format!("hull-exec-{own}-{key}")
}
