//! Workers: forks of the supervisor, each for one step that may block.

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use runtime::ErrorKind;
use runtime::wire::{self, Channel, Message};
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group,
    set_parent_process_death_signal, waitid,
};
use sys::process::{CloneArgs, Cloned, clone3};
use sys::signal::SignalSet;

use super::Supervisor;
use super::connection::Caller;
use super::poller::{Source, Token};
use crate::error::kind_of;
use crate::protocol::{Failure, Kind};
use crate::{Error, Result};

/// Most warnings that a worker passes on: all it says must fit into its channel.
const MAX_WARNINGS: usize = 32;

/// What a worker is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Job {
    Create(u64, Caller),
    Start(u64, Caller),
    /// Of a container that may be unknown here.
    Delete(Option<u64>, Caller),
    Exec(u64),
    /// Kills all processes of a container.
    Kill(u64),
    /// Nothing more: the container is made, and becomes the supervisor's when its maker ends.
    Over(u64),
}

/// A worker at work.
#[derive(Debug)]
pub(super) struct Worker {
    pid: Pid,
    pidfd: OwnedFd,
    token: Token,
    channel: Channel,
    /// Where what it says is acted on before it has ended.
    ear: Option<Token>,
    said: Outcome,
    pub job: Job,
}

/// What a worker has made: a process, with its pidfd and perhaps its terminal.
#[derive(Debug)]
pub(super) struct Made {
    pub pid: i32,
    pub fds: Vec<OwnedFd>,
}

/// What a worker has said.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub made: Option<Made>,
    pub failure: Option<Failure>,
    pub warnings: Vec<String>,
    /// There is nothing more to come.
    complete: bool,
}

/// What a worker does.
pub(super) type Task<'a> = &'a dyn Fn(&mut dyn FnMut(&str)) -> Result<Option<Made>>;

impl Supervisor {
    /// Forks a worker with these as standard input, output and error.
    pub(super) fn employ(
        &mut self,
        job: Job,
        stdio: [BorrowedFd<'_>; 3],
        task: Task<'_>,
    ) -> Result<()> {
        let (ours, theirs) = Channel::pair()?;
        match clone3(&CloneArgs::default())? {
            Cloned::Child => {
                let oom_score = self.oom_score.as_deref();
                work(&theirs, stdio, oom_score, task);
                sys::process::exit_now(0)
            }
            Cloned::Parent { pid, pidfd } => {
                drop(theirs);
                let key = self.next_key();
                let token = self.poller.add(&pidfd, Source::Worker(key), false)?;
                // A created container waits: nobody need wait for its maker's end.
                let ear = matches!(job, Job::Create(..));
                let ear = ear.then(|| self.poller.add(&ours, Source::Word(key), false));
                let worker = Worker {
                    pid,
                    pidfd,
                    token,
                    channel: ours,
                    ear: ear.transpose()?,
                    said: Outcome::default(),
                    job,
                };
                self.workers.insert(key, worker);
                Ok(())
            }
        }
    }

    /// The same without standard input, output and error.
    pub(super) fn employ_quietly(&mut self, job: Job, task: Task<'_>) -> Result<()> {
        let null = super::duplicate(&self.null)?;
        let null = null.as_fd();
        self.employ(job, [null, null, null], task)
    }

    /// Looks whether a worker has ended, and goes on with what it has done.
    pub(super) fn on_worker(&mut self, key: u64) {
        let Some(worker) = self.workers.get(&key) else {
            return;
        };
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let ended = waitid(WaitId::PidFd(worker.pidfd.as_fd()), options);
        if matches!(ended, Ok(None)) {
            return;
        }
        let Some(worker) = self.workers.remove(&key) else {
            return;
        };
        self.poller.remove(&worker.pidfd, worker.token);
        if let Some(ear) = worker.ear {
            self.poller.remove(&worker.channel, ear);
        }
        let signal = ended.ok().flatten().and_then(|s| s.terminating_signal());
        let job = worker.job;
        self.finish(job, worker.outcome(signal));
    }

    /// A worker has said something: goes on without waiting for its end if that was all.
    pub(super) fn on_word(&mut self, key: u64) {
        let Some(worker) = self.workers.get_mut(&key) else {
            return;
        };
        let may_go_on = worker.listen();
        // Of one that was killed, the end tells the rest.
        if let Some(ear) = worker.ear.take_if(|_| worker.said.complete || !may_go_on) {
            self.poller.remove(&worker.channel, ear);
        }
        if worker.said.complete {
            let job = worker.job;
            if let Job::Create(container, _) = job {
                worker.job = Job::Over(container);
            }
            let outcome = std::mem::take(&mut worker.said);
            self.finish(job, outcome);
        }
    }

    fn finish(&mut self, job: Job, outcome: Outcome) {
        match job {
            Job::Create(container, caller) => self.created(container, caller, outcome),
            Job::Start(container, caller) => self.started(container, caller, outcome),
            Job::Delete(container, caller) => self.deleted(container, caller, outcome),
            Job::Exec(command) => self.command_started(command, outcome),
            Job::Kill(container) => self.killed(container, outcome),
            // It may have ended before it was our child.
            Job::Over(container) => self.on_container_end(container),
        }
    }

    /// Those who make or start a container.
    pub(super) fn workers_of(&self, container: u64) -> impl Iterator<Item = i32> {
        let is_its = move |w: &&Worker| match w.job {
            Job::Create(key, _) | Job::Start(key, _) => key == container,
            _ => false,
        };
        let workers = self.workers.values().filter(is_its);
        workers.map(|w| w.pid.as_raw_nonzero().get())
    }

    /// Kills the workers of a container, and what they have begun: a hook lives on without whom
    /// it was run by.
    pub(super) fn dismiss(&self, container: u64) {
        for pid in self.workers_of(container).filter_map(Pid::from_raw) {
            // It is our child, and not waited for yet. Held still, it begins nothing more.
            let _ = kill_process(pid, Signal::STOP);
            let begun = children_of(pid);
            let _ = kill_process(pid, Signal::KILL);
            for child in begun {
                // A hook leads a group of its own; what leads none is killed by itself.
                if kill_process_group(child, Signal::KILL).is_err() {
                    let _ = kill_process(child, Signal::KILL);
                }
            }
        }
    }
}

impl Supervisor {
    /// Kills the worker of a command.
    pub(super) fn dismiss_command(&self, command: u64) {
        let is_its = |w: &&Worker| matches!(w.job, Job::Exec(key) if key == command);
        if let Some(worker) = self.workers.values().find(is_its) {
            // It may have ended meanwhile.
            let _ = kill_process(worker.pid, Signal::KILL);
        }
    }
}

/// The children of a process (proc_pid_task(5), children).
fn children_of(pid: Pid) -> Vec<Pid> {
    let number = pid.as_raw_nonzero();
    let list = std::fs::read_to_string(format!("/proc/{number}/task/{number}/children"));
    let list = list.unwrap_or_default();
    let numbers = list.split_whitespace().filter_map(|n| n.parse().ok());
    numbers.filter_map(Pid::from_raw).collect()
}

impl Worker {
    /// Takes what it has said by now; whether it may say more.
    fn listen(&mut self) -> bool {
        while let Ok(true) = self.channel.has_news(&wire::AT_ONCE) {
            match self.channel.recv() {
                Ok(Some((message, fds))) => self.said.take(message, fds),
                Ok(None) | Err(_) => return false,
            }
        }
        true
    }

    /// All that it has said; it has ended.
    fn outcome(mut self, signal: Option<i32>) -> Outcome {
        self.listen();
        let mut outcome = self.said;
        if !outcome.complete {
            let how = signal.map_or_else(String::new, |s| format!(" by signal {s}"));
            outcome.failure = Some(Failure {
                kind: Kind::Failed,
                message: format!("the operation was ended{how} before it was complete"),
            });
        }
        outcome
    }
}

impl Outcome {
    pub fn failed(kind: Kind, message: String) -> Self {
        Self {
            failure: Some(Failure { kind, message }),
            complete: true,
            ..Self::default()
        }
    }

    fn take(&mut self, message: Message, fds: Vec<OwnedFd>) {
        match message {
            Message::Warning(text) => return self.warnings.push(text),
            Message::Failed { kind, text } => {
                self.failure = Some(Failure {
                    kind: kind_of(kind),
                    message: text,
                });
            }
            Message::Staged { pid } => self.made = Some(Made { pid, fds }),
            _ => {}
        }
        self.complete = true;
    }
}

/// What the fork does.
fn work(channel: &Channel, stdio: [BorrowedFd<'_>; 3], oom_score: Option<&str>, task: Task<'_>) {
    if let Some(before) = oom_score {
        // Raising it is always allowed; a container must not be spared as its supervisor is.
        let _ = std::fs::write("/proc/self/oom_score_adj", before);
    }
    let result = prepare(channel, stdio).and_then(|()| {
        let mut warnings = 0;
        task(&mut |text| {
            warnings += 1;
            if warnings <= MAX_WARNINGS {
                // The supervisor may have gone; then this ends soon too.
                let _ = channel.send(&Message::Warning(text.to_owned()));
            }
        })
    });
    let sent = match result {
        Ok(Some(made)) => {
            let fds: Vec<BorrowedFd<'_>> = made.fds.iter().map(AsFd::as_fd).collect();
            channel.send_with(&Message::Staged { pid: made.pid }, &fds)
        }
        Ok(None) => channel.send(&Message::Go),
        Err(e) => channel.send(&Message::Failed {
            kind: kind_for_wire(e.kind()),
            text: e.to_string(),
        }),
    };
    // The supervisor has gone, and with it whoever wanted to know.
    let _ = sent;
}

/// Lets go of everything of the supervisor's: a container must not hold what another one's end
/// depends on.
fn prepare(channel: &Channel, stdio: [BorrowedFd<'_>; 3]) -> Result<()> {
    let fail = |e| Error::from(sys::Error::new("dup2", "standard input or output", e));
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|e| sys::Error::new("prctl", "PR_SET_PDEATHSIG, SIGKILL", e))?;
    rustix::stdio::dup2_stdin(stdio[0]).map_err(fail)?;
    rustix::stdio::dup2_stdout(stdio[1]).map_err(fail)?;
    rustix::stdio::dup2_stderr(stdio[2]).map_err(fail)?;
    let keep = u32::try_from(channel.as_fd().as_raw_fd()).unwrap_or(0);
    // The values that own them are in frames that this process never returns to.
    sys::process::close_all_from(3, &[keep])?;
    sys::signal::set_mask(&SignalSet::empty())?;
    Ok(())
}

fn kind_for_wire(kind: Kind) -> ErrorKind {
    match kind {
        Kind::Failed => ErrorKind::Failed,
        Kind::Invalid => ErrorKind::Invalid,
        Kind::NotFound => ErrorKind::NotFound,
        Kind::Exists => ErrorKind::Exists,
        Kind::WrongState => ErrorKind::WrongState,
        Kind::Program => ErrorKind::Program,
    }
}
