//! How containers end, and are made to.

use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use cgroup::OomEvent;
use rustix::process::{WaitId, WaitIdOptions, WaitIdStatus, waitid};
use sys::Errno;

use super::connection::Caller;
use super::container::Container;
use super::poller::Source;
use super::worker::{Job, Outcome};
use super::{Supervisor, after, jobs, not_found, stuck, words};
use crate::protocol::{Ended, Exit, Kind, Oom, Phase, Reply, Stop, What};
use crate::{Error, Result};

pub(super) const SIGKILL: i32 = 9;
/// How long an end waits for those who still hold the container's output open.
const GRACE: Duration = Duration::from_secs(2);
/// How often is looked meanwhile whether anybody is left who could.
const TICK: Duration = Duration::from_millis(50);
/// How long the end of a killed process may take before all others are killed too, and before
/// something is said to hold it.
const PATIENCE: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(10)];
/// A process that is killed so soon after the container ran out of memory was killed for it.
const OOM_WINDOW: Duration = Duration::from_secs(2);
/// How often is looked for a kill after the container ran out of memory.
const OOM_LOOKS: u32 = 40;

impl Container {
    /// When something is to be done without an event.
    pub fn deadline(&self) -> Option<Instant> {
        let all = [
            self.oom_at,
            self.kill_at,
            self.kill_all_at,
            self.give_up_at,
            self.look_at,
            self.again.map(|again| again.at),
        ];
        all.into_iter().flatten().min()
    }

    fn has_output(&self) -> bool {
        self.outputs.iter().any(Option::is_some)
    }
}

impl Supervisor {
    /// The first process may have ended.
    pub(super) fn on_container_end(&mut self, key: u64) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        let Some((pidfd, _)) = &container.pidfd else {
            return;
        };
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let ended = match waitid(WaitId::PidFd(pidfd.as_fd()), options) {
            Ok(None) => return,
            Ok(Some(status)) => ended(&status),
            // Not our child.
            Err(_) => match super::adopt::end_of(pidfd, container.status.pid) {
                Some(ended) => ended,
                None => {
                    container.look_at = Some(after(TICK));
                    return self.unwatch(key);
                }
            },
        };
        container.look_at = None;
        container.status.exit = None;
        container.ended = Some((ended, Instant::now()));
        self.unwatch(key);
        if let Some(container) = self.containers.get_mut(&key) {
            container.pidfd = None;
        }
        self.settle(key);
    }

    fn unwatch(&mut self, key: u64) {
        if let Some(container) = self.containers.get_mut(&key)
            && let Some((pidfd, token)) = &mut container.pidfd
            && let Some(token) = token.take()
        {
            self.poller.remove(pidfd, token);
        }
    }

    /// Publishes an end once nothing comes before it any more, and forgets a container that is
    /// unmade.
    pub(super) fn settle(&mut self, key: u64) {
        let Some(container) = self.containers.get(&key) else {
            return;
        };
        if container.busy {
            return;
        }
        if container.status.phase != Phase::Exited {
            let Some((_, at)) = &container.ended else {
                return;
            };
            let is_late = at.elapsed() >= GRACE;
            if container.has_output() && !is_late {
                self.drain(key);
            }
            let has_output = self.containers.get(&key).is_some_and(Container::has_output);
            if has_output && !is_late && !self.is_deserted(key) {
                if let Some(container) = self.containers.get_mut(&key) {
                    container.look_at = Some(after(TICK));
                }
                return;
            }
            self.publish(key);
        }
        let unmade = self.containers.get(&key).and_then(|c| c.unmade);
        if let Some(caller) = unmade {
            self.forget(key, caller);
        }
    }

    /// Whether nobody is left in the container's control groups.
    fn is_deserted(&self, key: u64) -> bool {
        let Some(container) = self.containers.get(&key) else {
            return true;
        };
        match jobs::open(&self.options.root, container.id()) {
            Ok(found) => found
                .cgroups()
                .is_none_or(|m| m.procs(true).is_ok_and(|pids| pids.is_empty())),
            // An external runtime's, or unmade.
            Err(_) => container.unmade.is_some(),
        }
    }

    fn publish(&mut self, key: u64) {
        self.drain(key);
        let oom = self.verdict(key);
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        let (ended, _) = container
            .ended
            .take()
            .unwrap_or_else(|| (Ended::default(), Instant::now()));
        if let Some(log) = &mut container.log {
            // Whoever still holds an output open begins a new line.
            (0..2).for_each(|stream| log.end(stream));
        }
        let reason = match (&container.start_failure, oom, ended.code) {
            (Some(_), _, _) => "StartError",
            (_, Oom::Container, _) => "OOMKilled",
            (_, _, Some(0)) => "Completed",
            (_, _, None) => "Unknown",
            _ => "Error",
        };
        let note = container.start_failure.clone();
        let exit = Exit {
            oom,
            reason: reason.to_owned(),
            started: container.status.started.clone(),
            finished: runtime::clock::now_rfc3339(),
            killed_by: container.killed_by.clone(),
            ended: Ended {
                note: note.or(ended.note),
                ..ended
            },
        };
        container.status.phase = Phase::Exited;
        container.status.exit = Some(exit.clone());
        container.stdin = None;
        container.kill_at = None;
        container.kill_all_at = None;
        container.give_up_at = None;
        container.look_at = None;
        container.oom_at = None;
        container.again = None;
        let stops = std::mem::take(&mut container.stops);
        let last = exit.ended.clone();
        for follower in std::mem::take(&mut container.followers).into_values() {
            follower.remove(&mut self.poller);
        }
        let id = self.id_of(key);
        if oom == Oom::Container {
            // The kernel's own count may have gone with the group.
            self.remember(key, "oom", "killed");
        }
        self.remember_end(key, &last);
        self.save(key);
        self.announce(&id, What::Exited(exit));
        stops
            .into_iter()
            .for_each(|caller| self.reply(caller, Reply::Done));
    }

    /// What the OOM killer had to do with an end. Read before the control groups go.
    fn verdict(&mut self, key: u64) -> Oom {
        let kills = self
            .count_oom_kills(key)
            .or_else(|| self.kills_of_gone_scope(key));
        self.settle_slice(key);
        let Some(container) = self.containers.get_mut(&key) else {
            return Oom::None;
        };
        let is_new = kills.is_some_and(|k| k > container.status.oom_kills);
        let kills = kills.unwrap_or(container.status.oom_kills);
        let killed = container
            .ended
            .as_ref()
            .is_some_and(|(e, _)| e.signal == Some(SIGKILL));
        let recent = container
            .last_oom
            .is_some_and(|at| at.elapsed() < OOM_WINDOW);
        if kills == 0 {
            Oom::None
        } else if killed && container.killed_by.is_none() && (is_new || recent) {
            Oom::Container
        } else {
            Oom::Others
        }
    }

    fn count_oom_kills(&self, key: u64) -> Option<u64> {
        self.cgroups(key)?.oom_kills().ok()?
    }

    fn cgroups(&self, key: u64) -> Option<cgroup::Manager> {
        let container = self.containers.get(&key)?;
        let found = jobs::story(&self.options.root, &container.status.create).ok()?;
        found.cgroups()
    }

    /// The kills of a container whose scope systemd has removed before anybody looked: those that
    /// its slice has counted in its time, and that are not known to be others'.
    fn kills_of_gone_scope(&self, key: u64) -> Option<u64> {
        let now = self.cgroups(key)?.oom_kills_of_slice().ok()??;
        let container = self.containers.get(&key)?;
        let since = now.saturating_sub(container.slice_kills?);
        Some(container.status.oom_kills + since)
    }

    /// What the slice of a container has counted by now is its own and nobody else's: those that
    /// run on do not take it for theirs.
    fn settle_slice(&mut self, key: u64) {
        let Some(now) = self.cgroups(key).and_then(|m| m.oom_kills_of_slice().ok()?) else {
            return;
        };
        for (&other, container) in &mut self.containers {
            let goes_on = other != key && container.ended.is_none();
            if let Some(known) = container.slice_kills.as_mut().filter(|_| goes_on) {
                *known = now;
            }
        }
    }

    /// Begins to watch a container's memory, as far as somebody counts.
    pub(super) fn watch_memory(&mut self, key: u64) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        let create = &container.status.create;
        let Ok(found) = jobs::story(&self.options.root, create) else {
            return;
        };
        // An external runtime is asked for the end of all: it knows what it has made.
        container.own_pids = create.runtime.is_none() && found.record.own_pid_namespace;
        let Some(manager) = found.cgroups() else {
            return;
        };
        // Without a memory controller there is nothing to watch.
        container.slice_kills = manager.oom_kills_of_slice().ok().flatten();
        if let Ok(watch) = manager.watch_oom()
            && let Ok(token) = self.poller.add(&watch, Source::Oom(key), false)
        {
            container.oom = Some((watch, token));
        }
    }

    pub(super) fn on_oom(&mut self, key: u64) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        let Some((watch, _)) = &mut container.oom else {
            return;
        };
        match watch.take() {
            Ok(OomEvent::None) => {}
            Ok(OomEvent::Oom) => {
                container.oom_looks = OOM_LOOKS;
                self.look_for_kills(key);
            }
            // Nobody is in the group any more, for now or for good.
            Ok(OomEvent::Gone) | Err(_) => {
                if let Some((watch, token)) = container.oom.take() {
                    self.poller.remove(&watch, token);
                }
            }
        }
    }

    /// Out of memory is told before anybody is killed: looks until there is a kill, for a while.
    fn look_for_kills(&mut self, key: u64) {
        let kills = self.count_oom_kills(key).unwrap_or(0);
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        if kills > container.status.oom_kills {
            container.status.oom_kills = kills;
            container.last_oom = Some(Instant::now());
            container.oom_at = None;
            let id = self.id_of(key);
            self.save(key);
            return self.announce(&id, What::Oom(kills));
        }
        container.oom_looks = container.oom_looks.saturating_sub(1);
        container.oom_at = (container.oom_looks > 0).then(|| after(TICK));
    }

    /// Sends a signal to the first process of a container.
    pub(super) fn send_signal(&mut self, key: u64, signal: i32, by: &str) -> Result<()> {
        let container = self.containers.get_mut(&key).ok_or_else(|| not_found(""))?;
        let Some((pidfd, _)) = container
            .pidfd
            .as_ref()
            .filter(|_| container.ended.is_none())
        else {
            return Err(runtime::Error::NotRunning.into());
        };
        match sys::pidfd::send_signal(pidfd, signal) {
            Err(e) if e.errno == Errno::SRCH => return Err(runtime::Error::NotRunning.into()),
            other => other?,
        }
        if signal != 0 {
            container.killed_by = Some(format!("{by}: signal {signal}"));
            self.remember(key, "stop", &format!("{signal} {by}"));
        }
        Ok(())
    }

    /// Writes something down that `hullctl why` is to find, also when the container is gone.
    fn remember(&self, key: u64, what: &str, detail: &str) {
        if let Some(container) = self.containers.get(&key)
            && let Ok(found) = jobs::story(&self.options.root, &container.status.create)
        {
            runtime::verdict::note(&found, what, detail);
        }
    }

    fn remember_end(&self, key: u64, ended: &Ended) {
        let log = self
            .containers
            .get(&key)
            .and_then(|c| c.status.create.log.as_ref());
        if let (true, Some(log)) = (ended.code != Some(0), log)
            && let Some(line) = words::last(&log.path)
        {
            self.remember(key, "said", &line);
        }
        match (ended.signal, ended.code) {
            (Some(signal), _) => self.remember(key, "exit", &format!("signal {signal}")),
            (None, Some(code)) => self.remember(key, "exit", &format!("code {code}")),
            (None, None) => {}
        }
    }

    /// Writes down who kills a container in another way than by a signal of ours.
    pub(super) fn note_killer(&mut self, id: &str, by: &str) {
        if let Ok(key) = self.by_id(id)
            && let Some(container) = self.containers.get_mut(&key)
        {
            container.killed_by = Some(by.to_owned());
            self.remember(key, "stop", &format!("{SIGKILL} {by}"));
        }
    }

    /// Sends a signal to all processes of a container.
    pub(super) fn signal_all(&mut self, key: u64, signal: i32) {
        let Some(container) = self.containers.get(&key) else {
            return;
        };
        let (root, create) = (self.options.root.clone(), container.status.create.clone());
        let task = |_: &mut dyn FnMut(&str)| jobs::kill(&root, &create, signal).map(|()| None);
        if let Err(e) = self.employ_quietly(Job::Kill(key), &task) {
            super::complain(&format!("kill {}: {e}", create.id));
        }
    }

    /// A worker has killed all processes of a container, or not.
    pub(super) fn killed(&mut self, key: u64, outcome: Outcome) {
        if let Some(failure) = outcome.failure {
            let id = self.id_of(key);
            super::complain(&format!("kill {id}: {}", failure.message));
        }
        self.settle(key);
    }

    /// A client wants a container to end.
    pub(super) fn stop(&mut self, caller: Caller, wish: &Stop) -> Result<()> {
        let key = self.by_id(&wish.id)?;
        let container = self
            .containers
            .get_mut(&key)
            .ok_or_else(|| not_found(&wish.id))?;
        match container.status.phase {
            Phase::Exited => {
                self.reply(caller, Reply::Done);
                return Ok(());
            }
            Phase::Creating => {
                let text = format!("container {:?} is being created", wish.id);
                return Err(Error::of_kind(Kind::WrongState, text));
            }
            Phase::Created | Phase::Running => {}
        }
        let is_first = container.stops.is_empty();
        container.stops.push(caller);
        // Who waits to be started has no program yet that could act on a signal.
        let at_once = wish.signal == SIGKILL || container.status.phase == Phase::Created;
        let at = if at_once {
            Instant::now()
        } else {
            after(Duration::from_millis(wish.grace_millis))
        };
        container.kill_at = Some(container.kill_at.map_or(at, |before| before.min(at)));
        container.killer.clone_from(&wish.by);
        if is_first && !at_once {
            self.send_until_heard(key, wish.signal, &wish.by);
        }
        self.on_time(key);
        Ok(())
    }

    /// A deadline of a container has passed, perhaps.
    pub(super) fn on_time(&mut self, key: u64) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        let now = Instant::now();
        let due = |at: &mut Option<Instant>| at.take_if(|at| *at <= now).is_some();
        let kill = due(&mut container.kill_at);
        let kill_all = due(&mut container.kill_all_at);
        let give_up = due(&mut container.give_up_at);
        let oom = due(&mut container.oom_at);
        let look = due(&mut container.look_at);
        let again = container.again.is_some_and(|again| again.at <= now);
        if kill {
            container.kill_all_at = Some(after(PATIENCE[0]));
            container.give_up_at = Some(after(PATIENCE[1]));
            let (all, by) = (!container.own_pids, container.killer.clone());
            // It may have ended meanwhile, which is what is wanted.
            let _ = self.send_signal(key, SIGKILL, &by);
            if all {
                self.signal_all(key, SIGKILL);
            }
        }
        if kill_all {
            self.signal_all(key, SIGKILL);
        }
        if again {
            self.tell_again(key);
        }
        if give_up {
            self.give_up(key);
        }
        if oom {
            self.look_for_kills(key);
        }
        if look {
            self.on_container_end(key);
            self.settle(key);
        }
    }

    /// A killed container does not end: says why.
    fn give_up(&mut self, key: u64) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        let mut waiting = std::mem::take(&mut container.stops);
        let deletes = std::mem::take(&mut container.deletes);
        waiting.extend(deletes.into_iter().map(|(caller, _)| caller));
        let (id, init) = (container.id().to_owned(), container.status.pid);
        let mut pids = vec![init];
        pids.extend(self.workers_of(key));
        if let Ok(found) = jobs::open(&self.options.root, &id)
            && let Some(manager) = found.cgroups()
        {
            pids.extend(manager.procs(true).unwrap_or_default());
        }
        let text = format!(
            "container {id:?} was killed and has not ended: {}",
            stuck::report(&pids)
        );
        super::complain(&text);
        for caller in waiting {
            self.fail(caller, &Error::of_kind(Kind::Failed, text.clone()));
        }
    }
}

/// When to give up waiting for what was killed just now.
pub(super) fn patience() -> Instant {
    after(PATIENCE[1])
}

/// An end as waitid(2) tells it.
pub(super) fn ended(status: &WaitIdStatus) -> Ended {
    let signal = status.terminating_signal();
    Ended {
        code: status.exit_status().or_else(|| signal.map(|s| 128 + s)),
        signal,
        note: None,
    }
}
