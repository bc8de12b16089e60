//! Starting a container: followed here, unless something of it may take long.

use runtime::start::Pending;

use super::connection::Caller;
use super::poller::{Source, Token};
use super::worker::{Job, Outcome};
use super::{Supervisor, jobs, not_found};
use crate::protocol::{Kind, Phase, Reply, What};
use crate::{Error, Result};

/// A container that is being started.
#[derive(Debug)]
pub(super) struct Start {
    pending: Box<Pending>,
    token: Token,
    caller: Caller,
}

/// How a start has begun.
enum Begun {
    /// Its process tells how it goes on.
    Pending(Box<Pending>),
    /// The program runs: somebody was killed right after having started it.
    Already,
    /// It is a worker's.
    Elsewhere,
}

impl Supervisor {
    /// Begins to start a container.
    pub(super) fn start_container(&mut self, caller: Caller, id: &str) -> Result<()> {
        let key = self.by_id(id)?;
        let container = self.containers.get_mut(&key).ok_or_else(|| not_found(id))?;
        if container.status.phase == Phase::Running {
            // Asked again, because the supervisor that was asked first is gone.
            self.reply(caller, Reply::Done);
            return Ok(());
        }
        if container.busy || container.status.phase != Phase::Created {
            let text = format!(
                "container {id:?} is not one that can be started: {:?}",
                container.status.phase
            );
            return Err(Error::of_kind(Kind::WrongState, text));
        }
        container.busy = true;
        match self.begin_start(key) {
            Ok(Begun::Pending(pending)) => self.follow_start(key, caller, pending),
            Ok(Begun::Already) => self.started(key, caller, Outcome::default()),
            Ok(Begun::Elsewhere) => self.employ_for_start(key, caller)?,
            Err(e) => self.started(key, caller, Outcome::failed(e.kind(), e.to_string())),
        }
        Ok(())
    }

    fn follow_start(&mut self, key: u64, caller: Caller, pending: Box<Pending>) {
        match self.poller.add(&pending, Source::Start(key), false) {
            Ok(token) => {
                let start = Start {
                    pending,
                    token,
                    caller,
                };
                self.starts.insert(key, start);
            }
            Err(e) => self.started(key, caller, Outcome::failed(e.kind(), e.to_string())),
        }
    }

    fn begin_start(&self, key: u64) -> Result<Begun> {
        let create = self.containers.get(&key).map(|c| &c.status.create);
        let Some(create) = create.filter(|c| c.runtime.is_none()) else {
            return Ok(Begun::Elsewhere);
        };
        let container = jobs::open(&self.options.root, &create.id)?;
        match Pending::begin(container) {
            Ok(Some(pending)) => Ok(Begun::Pending(Box::new(pending))),
            Ok(None) => Ok(Begun::Elsewhere),
            Err(runtime::Error::WrongState(_)) if jobs::is_running(&self.options.root, create)? => {
                Ok(Begun::Already)
            }
            Err(e) => Err(e.into()),
        }
    }

    fn employ_for_start(&mut self, key: u64, caller: Caller) -> Result<()> {
        let Some(container) = self.containers.get_mut(&key) else {
            return Ok(());
        };
        let (root, create) = (self.options.root.clone(), container.status.create.clone());
        let task = |warn: &mut dyn FnMut(&str)| jobs::start(&root, &create, warn).map(|()| None);
        let employed = self.employ_quietly(Job::Start(key, caller), &task);
        if employed.is_err()
            && let Some(container) = self.containers.get_mut(&key)
        {
            container.busy = false;
        }
        employed
    }

    /// The process of a container that is being started has said something.
    pub(super) fn on_start(&mut self, key: u64) {
        let Some(start) = self.starts.get_mut(&key) else {
            return;
        };
        let outcome = match start.pending.go_on(&mut |_| {}) {
            Ok(false) => return,
            Ok(true) => Outcome::default(),
            Err(e) => {
                let e = Error::from(e);
                Outcome::failed(e.kind(), e.to_string())
            }
        };
        let Some(start) = self.starts.remove(&key) else {
            return;
        };
        self.poller.remove(&start.pending, start.token);
        let runs = outcome.failure.is_none();
        self.started(key, start.caller, outcome);
        if runs {
            start.pending.keep_stages();
        }
    }

    /// Does not wait any longer for the program of a container.
    pub(super) fn end_start(&mut self, key: u64) {
        if let Some(start) = self.starts.remove(&key) {
            self.poller.remove(&start.pending, start.token);
            let text = "the start was ended before it was complete".to_owned();
            self.started(key, start.caller, Outcome::failed(Kind::Failed, text));
        }
    }

    /// A container has been started, or not.
    pub(super) fn started(&mut self, key: u64, caller: Caller, outcome: Outcome) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        container.busy = false;
        container.give_up_at = container.give_up_at.filter(|_| !container.stops.is_empty());
        match outcome.failure {
            Some(failure) => {
                container.start_failure = Some(failure.message.clone());
                // What could not be started must not wait to be started again.
                if let Some((pidfd, _)) = &container.pidfd {
                    let _ = sys::pidfd::send_signal(pidfd, super::ending::SIGKILL);
                }
                self.reply(caller, Reply::Failed(failure));
            }
            None => {
                self.set_running(key);
                self.save(key);
                self.reply(caller, Reply::Done);
            }
        }
        self.after_worker(key);
    }

    pub(super) fn set_running(&mut self, key: u64) {
        if let Some(container) = self.containers.get_mut(&key) {
            container.status.phase = Phase::Running;
            container.status.started = runtime::clock::now_rfc3339();
        }
        let id = self.id_of(key);
        self.announce(&id, What::Started);
    }
}
