//! [`Manager`] on a container that exists: its processes, their freezer, their end, their
//! statistics.

use std::path::Path;

use rustix::process::{Pid, Signal};
use sys::Errno;

use crate::dir::Dir;
use crate::error::{Error, Result};
use crate::layout::Mode;
use crate::manager::Manager;
use crate::stats::Stats;
use crate::{parse, v1, v2};

impl Manager {
    /// Processes, optionally with those in groups that the container has made below.
    ///
    /// # Errors
    /// cgroup.procs cannot be read.
    pub fn procs(&self, recursive: bool) -> Result<Vec<i32>> {
        match self.main_dir() {
            Some(dir) => pids_of(dir, recursive),
            None => Ok(Vec::new()),
        }
    }

    /// Removes the group that tells which processes there are, if there is none in it nor below:
    /// cheaper than to look. What systemd has made is left to systemd.
    pub fn remove_if_deserted(&self) -> bool {
        let own = self.main_dir().filter(|_| self.scope.is_none());
        own.is_some_and(|dir| dir.rmdir().is_ok())
    }

    /// Freezes all processes, and waits until they are. The unified tree's freezer is preferred,
    /// also on hybrid machines: its tasks can be killed while frozen.
    ///
    /// # Errors
    /// No freezer, or tasks that do not stop in time.
    pub fn freeze(&self) -> Result<()> {
        self.with_freezer(v2::freezer::freeze, v1::freezer::freeze)
    }

    /// Thaws; both freezers, whoever has frozen. A group that has gone needs none: systemd removes
    /// a scope as soon as its last process has died.
    ///
    /// # Errors
    /// No freezer, or the write that failed.
    pub fn thaw(&self) -> Result<()> {
        if let Some(dir) = v1::find(&self.v1, "freezer")
            && v1::freezer::is_frozen(dir)?
        {
            v1::freezer::thaw(dir)?;
        }
        if self.mode == Mode::V2 && self.main_dir().is_some_and(|dir| !dir.exists()) {
            return Ok(());
        }
        self.with_freezer(v2::freezer::thaw, v1::freezer::thaw)
    }

    /// Whether one of the freezers was told to freeze.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn is_frozen(&self) -> Result<bool> {
        let unified = self
            .unified
            .as_ref()
            .map(|t| v2::freezer::is_frozen(&t.dir));
        if unified.transpose()? == Some(true) {
            return Ok(true);
        }
        let v1 = v1::find(&self.v1, "freezer").map(v1::freezer::is_frozen);
        Ok(v1.transpose()?.unwrap_or(false))
    }

    fn with_freezer(
        &self,
        v2: impl Fn(&Dir) -> Result<()>,
        v1: impl Fn(&Dir) -> Result<()>,
    ) -> Result<()> {
        let unified = self.unified.as_ref().map(|t| &t.dir);
        if let Some(dir) = unified.filter(|d| d.has("cgroup.freeze")) {
            return v2(dir);
        }
        match v1::find(&self.v1, "freezer") {
            Some(dir) => v1(dir),
            None => Err(Error::Unavailable {
                reason: "no freezer controller".into(),
            }),
        }
    }

    /// Kills every process at once, also those in groups below. No error when there is none.
    ///
    /// # Errors
    /// A process could not be signalled.
    pub fn kill(&self) -> Result<()> {
        let unified = self.unified.as_ref().map(|t| v2::freezer::kill(&t.dir));
        if unified.transpose()? == Some(true) {
            // Who is held by the other freezer dies only when it lets go.
            return match v1::find(&self.v1, "freezer") {
                Some(dir) if v1::freezer::is_frozen(dir)? => v1::freezer::thaw(dir),
                _ => Ok(()),
            };
        }
        // Frozen processes cannot fork: one pass gets all. Version 1 delivers after the thaw.
        let frozen = match v1::find(&self.v1, "freezer") {
            Some(dir) if dir.exists() => Some(dir),
            _ => None,
        };
        if let Some(dir) = frozen {
            v1::freezer::freeze(dir)?;
        }
        let result = self.signal(Signal::KILL);
        if let Some(dir) = frozen {
            v1::freezer::thaw(dir)?;
        }
        result
    }

    /// Sends a signal to every process, also to those in groups below. A process that forks at
    /// that moment can escape all signals but the one of [`Manager::kill`].
    ///
    /// # Errors
    /// kill(2)'s, except that a process has gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let mut seen = Vec::new();
        // SIGKILL without a freezer: again until nobody is new.
        let rounds = if signal == Signal::KILL { 100 } else { 1 };
        for _ in 0..rounds {
            let new: Vec<i32> = self.procs(true)?;
            let new: Vec<i32> = new.into_iter().filter(|p| !seen.contains(p)).collect();
            if new.is_empty() {
                break;
            }
            for &pid in &new {
                // 0 is a process outside of our pid namespace; kill(0) would be ourselves.
                if let Some(pid) = Pid::from_raw(pid).filter(|p| p.as_raw_nonzero().get() > 0) {
                    match rustix::process::kill_process(pid, signal) {
                        Ok(()) | Err(Errno::SRCH) => {}
                        Err(e) => {
                            let args = format!("{}, {}", pid.as_raw_nonzero(), signal.as_raw());
                            return Err(sys::Error::new("kill", args, e).into());
                        }
                    }
                }
            }
            seen.extend(new);
        }
        Ok(())
    }

    /// Statistics in runc's shape.
    ///
    /// # Errors
    /// A file that cannot be read for another reason than that it is absent.
    pub fn stats(&self) -> Result<Stats> {
        let Some(tree) = &self.unified else {
            return v1::stats::read(&self.v1);
        };
        if self.mode == Mode::V2 {
            return v2::stats::read(&tree.dir);
        }
        let mut stats = v1::stats::read(&self.v1)?;
        v2::stats::pressure(&tree.dir, &mut stats)?;
        Ok(stats)
    }

    /// Processes that the OOM killer has killed so far; `None` where nobody counts. Read it
    /// before [`Manager::delete`].
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn oom_kills(&self) -> Result<Option<u64>> {
        match (v1::find(&self.v1, "memory"), &self.unified) {
            (Some(dir), _) => v1::oom::kills(dir),
            (None, Some(tree)) => v2::oom::kills(&tree.dir),
            (None, None) => Ok(None),
        }
    }

    /// As [`Manager::oom_kills`], of the slice that the container's scope lies in, with all its
    /// other scopes: systemd removes a scope as soon as nobody is in it, and what was counted in
    /// there goes with it. `None` without a scope, and on version 1, which counts no descendants.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn oom_kills_of_slice(&self) -> Result<Option<u64>> {
        let (Mode::V2, Some(tree)) = (self.mode, &self.unified) else {
            return Ok(None);
        };
        let is_scope = |p: &&Path| p.extension().is_some_and(|e| e == "scope");
        match tree
            .dir
            .path()
            .ancestors()
            .find(is_scope)
            .and_then(Path::parent)
        {
            Some(slice) => v2::oom::kills(&Dir::new(slice)),
            None => Ok(None),
        }
    }

    /// Starts watching for the OOM killer.
    ///
    /// # Errors
    /// No memory controller, or a call that failed.
    pub fn watch_oom(&self) -> Result<crate::OomWatch> {
        match (v1::find(&self.v1, "memory"), &self.unified) {
            (Some(dir), _) => crate::OomWatch::v1(dir),
            (None, Some(tree)) => crate::OomWatch::v2(&tree.dir),
            (None, None) => Err(Error::Unavailable {
                reason: "no memory controller".into(),
            }),
        }
    }
}

/// Processes of a group, by default only its own. Empty where it is gone.
pub(crate) fn pids_of(dir: &Dir, recursive: bool) -> Result<Vec<i32>> {
    let mut all = Vec::new();
    let mut left = vec![Dir::new(dir.path())];
    while let Some(dir) = left.pop() {
        match dir.read_opt("cgroup.procs")? {
            Some(text) => all.extend(parse::pids(&text)),
            None => continue,
        }
        if recursive {
            left.extend(dir.children()?);
        }
    }
    Ok(all)
}
