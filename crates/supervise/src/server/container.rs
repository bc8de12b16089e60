//! A container: making, starting, unmaking it.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Instant;

use cgroup::OomWatch;
use runtime::ContainerId;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::pipe::{PipeFlags, pipe_with};
use sys::Context as _;

use super::connection::Caller;
use super::deaf::Again;
use super::log::Log;
use super::output::{Follower, Output};
use super::poller::{Source, Token};
use super::worker::{Job, Outcome};
use super::{Supervisor, jobs};
use crate::protocol::{
    Create, Delete, Ended, Failure, Kind, Part, Phase, Process, Reply, Status, Stdin, Stdio, What,
};
use crate::{Error, Result, packet};

/// A container of the pod.
#[derive(Debug, Default)]
pub(super) struct Container {
    pub status: Status,
    /// Of its first process, while that is waited for.
    pub pidfd: Option<(OwnedFd, Option<Token>)>,
    /// It was taken over: its process is nobody's child here.
    pub adopted: bool,
    /// Standard output and error, or the terminal as the first.
    pub outputs: [Option<Output>; 2],
    /// What writes to its input, where that is a pipe.
    pub stdin: Option<OwnedFd>,
    pub log: Option<Log>,
    pub followers: BTreeMap<u64, Follower>,
    pub oom: Option<(OomWatch, Token)>,
    pub last_oom: Option<Instant>,
    /// OOM kills in its slice when it began, or that others are known to have had since.
    pub slice_kills: Option<u64>,
    /// When to look for kills again, and how often.
    pub oom_at: Option<Instant>,
    pub oom_looks: u32,
    /// A worker whose result comes before the container's end.
    pub busy: bool,
    /// Why it must not come to be, although its worker may make it.
    pub refused: Option<Failure>,
    /// Why its program could not be started.
    pub start_failure: Option<String>,
    /// How and when its first process has ended; published once its output is written.
    pub ended: Option<(Ended, Instant)>,
    /// Who wants to know that it has ended.
    pub stops: Vec<Caller>,
    pub kill_at: Option<Instant>,
    pub kill_all_at: Option<Instant>,
    pub give_up_at: Option<Instant>,
    /// A stop signal that it did not notice.
    pub again: Option<Again>,
    pub killed_by: Option<String>,
    /// Who has asked for it to be killed at the deadline.
    pub killer: String,
    /// Its pid namespace is its own, so that the end of its first process is that of all.
    pub own_pids: bool,
    /// Control groups of commands that could not be removed yet.
    pub leaves: Vec<u64>,
    /// Who wants it unmade once its worker has ended.
    pub deletes: Vec<(Caller, Delete)>,
    /// It is unmade; only its end has not been published.
    pub unmade: Option<Caller>,
    /// When to look again how an adopted process has ended.
    pub look_at: Option<Instant>,
}

/// The child's ends.
struct Ends {
    stdin: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

impl Container {
    pub fn id(&self) -> &str {
        &self.status.create.id
    }

    /// Whether this pid is its first process, which has not been waited for.
    pub fn is_process(&self, pid: i32) -> bool {
        self.status.pid == pid && self.pidfd.is_some() && !self.adopted
    }

    /// As it is now.
    pub fn snapshot(&self) -> Status {
        let mut status = self.status.clone();
        status.attached = u32::try_from(self.followers.len()).unwrap_or(u32::MAX);
        status.lost = self.log.as_ref().map_or(0, |log| log.lost);
        status
    }

    /// The master of its terminal.
    pub fn terminal(&self) -> Option<BorrowedFd<'_>> {
        let output = self.outputs[0].as_ref();
        output.filter(|o| o.is_terminal).map(|o| o.fd.as_fd())
    }

    /// Duplicates of what another supervisor would need.
    pub fn kept(&self) -> Result<Vec<(Part, OwnedFd)>> {
        let [first, second] = &self.outputs;
        let first = first.as_ref().map(|o| {
            let part = if o.is_terminal {
                Part::Terminal
            } else {
                Part::Stdout
            };
            (part, &o.fd)
        });
        let second = second.as_ref().map(|o| (Part::Stderr, &o.fd));
        // An input that ends with its client would not, if it were kept elsewhere.
        let stdin = self.stdin.as_ref();
        let stdin = stdin.filter(|_| self.status.create.stdin == Stdin::Open);
        let pidfd = self.pidfd.as_ref().map(|(fd, _)| (Part::Pidfd, fd));
        let all = pidfd.into_iter().chain(first).chain(second);
        let all = all.chain(stdin.map(|fd| (Part::Stdin, fd)));
        all.map(|(part, fd)| Ok((part, super::duplicate(fd)?)))
            .collect()
    }
}

impl Supervisor {
    /// Begins to make a container.
    pub(super) fn create(&mut self, caller: Caller, create: Create) -> Result<()> {
        let id = ContainerId::new(&create.id)?;
        if self.containers.values().any(|c| c.id() == id.as_str()) {
            let text = format!("container with given ID already exists: {id}");
            return Err(Error::of_kind(Kind::Exists, text));
        }
        let mut container = Container {
            busy: true,
            ..Container::default()
        };
        let ends = self.connect(&mut container, &create)?;
        container.status.create = create.clone();
        let key = self.next_key();
        let stdio = [&ends.stdin, &ends.stdout, &ends.stderr].map(|fd| fd.as_fd());
        let (root, dir) = (self.options.root.clone(), self.options.dir.clone());
        let task = |warn: &mut dyn FnMut(&str)| jobs::create(&root, &dir, &create, warn).map(Some);
        self.employ(Job::Create(key, caller), stdio, &task)?;
        // The worker is at work meanwhile: where many files were removed, ext4 takes its time.
        match create.log.map(|options| Log::open(options, false)) {
            Some(Ok(log)) => container.log = Some(log),
            Some(Err(e)) => {
                container.refused = Some(e.to_failure());
                self.dismiss(key);
            }
            None => {}
        }
        self.containers.insert(key, container);
        Ok(())
    }

    /// Makes the pipes; what comes back is the container's.
    fn connect(&self, container: &mut Container, create: &Create) -> Result<Ends> {
        let null = || super::duplicate(&self.null);
        let mut ends = Ends {
            stdin: null()?,
            stdout: null()?,
            stderr: null()?,
        };
        if create.stdio != Stdio::Pipes {
            return Ok(ends);
        }
        for (stream, end) in [&mut ends.stdout, &mut ends.stderr].into_iter().enumerate() {
            let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC).context("pipe2", || "")?;
            do_not_block(&ours)?;
            container.outputs[stream] = Some(Output::new(ours, false));
            *end = theirs;
        }
        if create.stdin != Stdin::Closed {
            let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC).context("pipe2", || "")?;
            container.stdin = Some(ours);
            ends.stdin = theirs;
        }
        Ok(ends)
    }

    /// A worker has made a container, or not.
    pub(super) fn created(&mut self, key: u64, caller: Caller, outcome: Outcome) {
        let container = self.containers.get_mut(&key);
        let refused = container.and_then(|c| c.refused.take());
        let Some(made) = outcome.made.filter(|_| refused.is_none()) else {
            let container = self.containers.remove(&key);
            if let Some(failure) = refused.or(outcome.failure) {
                self.reply(caller, Reply::Failed(failure));
            }
            // What a killed worker has left is unmade without knowing it here.
            return self.begin_deletes(container.map(|c| c.deletes).unwrap_or_default());
        };
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        container.busy = false;
        container.give_up_at = None;
        let status = &mut container.status;
        status.pid = made.pid;
        status.created = runtime::clock::now_rfc3339();
        status.phase = Phase::Created;
        let mut fds = made.fds.into_iter();
        container.pidfd = fds.next().map(|fd| (fd, None));
        if let Some(terminal) = fds.next() {
            // Where it fails, a read that finds nothing shows it.
            let _ = do_not_block(&terminal);
            container.outputs[0] = Some(Output::new(terminal, true));
        }
        let started = status.create.start;
        self.watch(key);
        let id = self.id_of(key);
        self.announce(&id, What::Created(made.pid));
        if started {
            self.set_running(key);
        }
        self.save(key);
        self.tell_created(key, caller, outcome.warnings);
        // Before anybody can have it started, and nobody need wait for it.
        self.watch_memory(key);
        self.after_worker(key);
    }

    /// The worker of a container has ended: what has waited for that goes on.
    pub(super) fn after_worker(&mut self, key: u64) {
        let container = self.containers.get_mut(&key);
        let deletes = container.map(|c| std::mem::take(&mut c.deletes));
        self.begin_deletes(deletes.unwrap_or_default());
        self.settle(key);
    }

    fn begin_deletes(&mut self, deletes: Vec<(Caller, Delete)>) {
        for (caller, wish) in deletes {
            if let Err(e) = self.delete(caller, &wish) {
                self.fail(caller, &e);
            }
        }
    }

    fn tell_created(&mut self, key: u64, caller: Caller, warnings: Vec<String>) {
        let Some(container) = self.containers.get(&key) else {
            return;
        };
        let pid = container.status.pid;
        match container.kept() {
            Ok(kept) => {
                let process = Process {
                    pid,
                    exec: 0,
                    parts: kept.iter().map(|(part, _)| *part).collect(),
                    warnings,
                };
                let fds: Vec<BorrowedFd<'_>> = kept.iter().map(|(_, fd)| fd.as_fd()).collect();
                self.reply_with(caller, Reply::Created(process), &fds);
            }
            Err(e) => self.fail(caller, &e),
        }
    }

    /// Registers the container's descriptors.
    pub(super) fn watch(&mut self, key: u64) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        if let Some((fd, token)) = &mut container.pidfd {
            *token = self.poller.add(fd, Source::Container(key), false).ok();
        }
        for (stream, output) in container.outputs.iter_mut().enumerate() {
            if let Some(output) = output {
                let source = Source::Output(key, stream);
                output.token = self.poller.add(&output.fd, source, false).ok();
            }
        }
    }

    /// Begins to unmake a container.
    pub(super) fn delete(&mut self, caller: Caller, wish: &Delete) -> Result<()> {
        let id = ContainerId::new(&wish.id)?;
        let key = self.by_id(id.as_str()).ok();
        let mut external = None;
        if let Some(container) = key.and_then(|key| self.containers.get(&key)) {
            external = container.status.create.runtime.clone();
            let ended = container.status.phase == Phase::Exited;
            if wish.force && !ended && container.killed_by.is_none() {
                self.note_killer(&wish.id, "deleted by force");
            }
        }
        if let Some(key) = key
            && let Some(container) = self.containers.get_mut(&key).filter(|c| c.busy)
        {
            container.deletes.push((caller, wish.clone()));
            container.give_up_at = Some(super::ending::patience());
            if wish.force {
                self.dismiss(key);
                self.end_start(key);
            }
            return Ok(());
        }
        let (root, force) = (self.options.root.clone(), wish.force);
        let task = |warn: &mut dyn FnMut(&str)| {
            jobs::delete(&root, &id, external.as_ref(), force, warn).map(|()| None)
        };
        self.employ_quietly(Job::Delete(key, caller), &task)
    }

    /// A worker has unmade a container, or not.
    pub(super) fn deleted(&mut self, key: Option<u64>, caller: Caller, outcome: Outcome) {
        if let Some(failure) = outcome.failure
            && failure.kind != Kind::NotFound
        {
            self.reply(caller, Reply::Failed(failure));
            return;
        }
        match key.and_then(|key| self.containers.get_mut(&key).map(|c| (key, c))) {
            Some((key, container)) => {
                container.unmade = Some(caller);
                self.settle(key);
            }
            None => self.reply(caller, Reply::Done),
        }
    }

    /// Forgets a container whose end has been published.
    pub(super) fn forget(&mut self, key: u64, caller: Caller) {
        self.release(key);
        let id = self.id_of(key);
        self.containers.remove(&key);
        // It is there if the container ever was.
        let _ = std::fs::remove_file(self.status_path(&id));
        self.announce(&id, What::Deleted);
        self.reply(caller, Reply::Done);
    }

    /// Closes all that a container holds.
    pub(super) fn release(&mut self, key: u64) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        if let Some((fd, Some(token))) = container.pidfd.take() {
            self.poller.remove(&fd, token);
        }
        for output in &mut container.outputs {
            if let Some(output) = output.take()
                && let Some(token) = output.token
            {
                self.poller.remove(&output.fd, token);
            }
        }
        if let Some((watch, token)) = container.oom.take() {
            self.poller.remove(&watch, token);
        }
        for follower in std::mem::take(&mut container.followers).into_values() {
            follower.remove(&mut self.poller);
        }
        container.stdin = None;
        container.log = None;
    }

    pub(super) fn id_of(&self, key: u64) -> String {
        let container = self.containers.get(&key);
        container.map_or_else(String::new, |c| c.id().to_owned())
    }

    pub(super) fn status_path(&self, id: &str) -> std::path::PathBuf {
        self.options.dir.join(format!("{id}.json"))
    }

    /// Writes down how a container is.
    pub(super) fn save(&self, key: u64) {
        let Some(container) = self.containers.get(&key) else {
            return;
        };
        let path = self.status_path(container.id());
        let saved =
            packet::to_json(&container.snapshot()).and_then(|bytes| super::replace(&path, &bytes));
        if let Err(e) = saved {
            super::complain(&e.to_string());
        }
    }
}

fn do_not_block(fd: &OwnedFd) -> Result<()> {
    let flags = fcntl_getfl(fd).context("fcntl", || "F_GETFL")?;
    Ok(fcntl_setfl(fd, flags | OFlags::NONBLOCK).context("fcntl", || "F_SETFL, O_NONBLOCK")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_taken_once() {
        let pid = rustix::process::getpid();
        let number = pid.as_raw_nonzero().get();
        let mut container = Container::default();
        container.status.pid = number;
        container.pidfd = Some((sys::pidfd::open(pid).unwrap(), None));
        assert!(container.is_process(number));
        // What is waited for later, because it was its maker's child until then, is an orphan.
        container.pidfd = None;
        container.status.phase = Phase::Exited;
        assert!(!container.is_process(number));
    }
}
