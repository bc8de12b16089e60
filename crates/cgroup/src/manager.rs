//! One container's control groups, whatever the machine's shape.

use std::collections::BTreeMap;
use std::path::PathBuf;

use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};
use spec::oci::Resources;
use sys::{Errno, trace};

use crate::create::{Made, remove_all};
use crate::dir::Dir;
use crate::error::{Error, Result};
use crate::exec::SubCgroups;
use crate::join::Joiner;
use crate::layout::{Layout, Mode};
use crate::mounts::{HierarchyMount, MountLayout};
use crate::path::CgroupPath;
use crate::policy::{Judge, Policy};
use crate::stats::Stats;
use crate::{exec, parse, v1, v2};

/// What is asked for when a container is made.
#[derive(Clone, Debug, Default)]
pub struct Request<'a> {
    /// `linux.cgroupsPath`.
    pub path: Option<&'a str>,
    /// The container's id.
    pub id: &'a str,
    /// What to do about limits that cannot be enforced.
    pub policy: Policy,
}

/// A container's control groups.
///
/// Made by [`Manager::new`], which only resolves paths; brought to life by [`Manager::create`];
/// found again by [`Manager::from_state`].
#[derive(Debug)]
pub struct Manager {
    mode: Mode,
    policy: Policy,
    /// Whether `cgroupsPath` named a place; without, a rootless container may go without one.
    path_given: bool,
    v1: Vec<v1::Group>,
    unified: Option<v2::Tree>,
}

/// The lasting part of a [`Manager`], for the container's state file.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct State {
    mode: Mode,
    policy: Policy,
    path_given: bool,
    v1: Vec<v1::GroupState>,
    unified: Option<v2::TreeState>,
}

impl Manager {
    /// Resolves where the container's control groups go. Makes nothing.
    ///
    /// # Errors
    /// A bad path, or no control-group file system.
    pub fn new(request: &Request<'_>) -> Result<Self> {
        let path = CgroupPath::parse(request.path, request.id)?;
        let layout = Layout::detect()?;
        Ok(Self::in_layout(&layout, &path, request))
    }

    fn in_layout(layout: &Layout, path: &CgroupPath, request: &Request<'_>) -> Self {
        let v1 = layout.v1.iter().map(|h| v1::Group {
            controllers: h.controllers.clone(),
            mountpoint: h.mountpoint.clone(),
            dir: Dir::new(path.resolve(h, layout.mode)),
        });
        let unified = layout.unified.as_ref().map(|h| v2::Tree {
            mountpoint: h.mountpoint.clone(),
            dir: Dir::new(path.resolve(h, layout.mode)),
        });
        Self {
            mode: layout.mode,
            policy: request.policy.clone(),
            path_given: request.path.is_some_and(|p| !p.is_empty()),
            v1: v1.collect(),
            unified,
        }
    }

    /// Finds a container's control groups again.
    #[must_use]
    pub fn from_state(state: State) -> Self {
        Self {
            mode: state.mode,
            policy: state.policy,
            path_given: state.path_given,
            v1: state.v1.into_iter().map(Into::into).collect(),
            unified: state.unified.map(Into::into),
        }
    }

    /// What [`Manager::from_state`] needs.
    #[must_use]
    pub fn state(&self) -> State {
        State {
            mode: self.mode,
            policy: self.policy.clone(),
            path_given: self.path_given,
            v1: self.v1.iter().map(v1::Group::state).collect(),
            unified: self.unified.as_ref().map(v2::Tree::state),
        }
    }

    /// The shape of this machine's control groups.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Directories by controller, as runc's state has them: `name=systemd` for a named hierarchy
    /// and an empty name for the version 2 tree.
    #[must_use]
    pub fn paths(&self) -> BTreeMap<String, PathBuf> {
        let v1 = self.v1.iter().flat_map(|g| {
            let path = g.dir.path();
            g.controllers.iter().map(|c| (c.clone(), path.to_owned()))
        });
        let unified = self.unified.iter();
        v1.chain(unified.map(|t| (String::new(), t.dir.path().to_owned())))
            .collect()
    }

    /// Makes the control groups: all, or none and an error.
    ///
    /// # Errors
    /// A directory cannot be made; or it exists and has processes, or is frozen.
    pub fn create(&mut self) -> Result<()> {
        let mut made = Made::default();
        let mut existed = false;
        let mut without = Vec::new();
        for (i, group) in self.v1.iter().enumerate() {
            match made.mkdir_all(group.dir.path(), &|dir| group.after_mkdir(dir)) {
                Ok(new) => existed |= !new,
                Err(e) if self.may_go_without(&e) => without.push(i),
                Err(e) => return Err(e),
            }
        }
        for i in without.into_iter().rev() {
            self.v1.remove(i);
        }
        if let Some(tree) = &self.unified {
            match made.mkdir_all(tree.dir.path(), &|_| Ok(())) {
                Ok(new) => {
                    existed |= !new;
                    if self.mode == Mode::V2 {
                        v2::controllers::enable_all(&tree.mountpoint, tree.dir.path())?;
                        tree.check_type()?;
                    }
                }
                Err(e) if self.may_go_without(&e) => self.unified = None,
                Err(e) => return Err(e),
            }
        }
        if existed {
            self.check_unused()?;
        }
        made.keep();
        Ok(())
    }

    fn may_go_without(&self, e: &Error) -> bool {
        self.policy.rootless && !self.path_given && e.kind() == crate::error::ErrorKind::Permission
    }

    /// A group that was there before must be ours alone and must let us run.
    fn check_unused(&self) -> Result<()> {
        let dirs = self.v1.iter().map(|g| &g.dir);
        for dir in dirs.chain(self.unified.iter().map(|t| &t.dir)) {
            let count = pids_of(dir, true)?.len();
            if count > 0 {
                let path = dir.path().to_owned();
                return Err(Error::NotEmpty { path, count });
            }
        }
        if self.is_frozen()? {
            let path = self.main_dir().map(|d| d.path().to_owned());
            return Err(Error::Frozen {
                path: path.unwrap_or_default(),
            });
        }
        Ok(())
    }

    /// Whether there is any control group; rootless containers may have none.
    #[must_use]
    pub fn has_any(&self) -> bool {
        self.main_dir().is_some()
    }

    /// The group that processes are counted and signalled in.
    fn main_dir(&self) -> Option<&Dir> {
        let unified = self.unified.as_ref().map(|t| &t.dir);
        unified.or_else(|| {
            v1::find(&self.v1, "freezer")
                .or_else(|| v1::find(&self.v1, "devices"))
                .or_else(|| self.v1.first().map(|g| &g.dir))
        })
    }

    /// Opens what a process needs to enter the control groups.
    ///
    /// # Errors
    /// A file cannot be opened.
    pub fn joiner(&self) -> Result<Joiner> {
        trace::step(
            "open",
            || "tasks files of the cgroup hierarchies",
            || {
                Joiner::open(
                    self.v1.iter().map(|g| &g.dir),
                    self.unified.as_ref().map(|t| &t.dir),
                )
            },
        )
    }

    /// Opens what an exec'd process needs. `init` is the container's first process.
    ///
    /// # Errors
    /// A group that does not exist or cannot be opened, or an unknown controller.
    pub fn exec_joiner(&self, sub: &SubCgroups, init: Option<Pid>) -> Result<Joiner> {
        let is_v2 = self.mode == Mode::V2;
        let v1 = if is_v2 {
            Vec::new()
        } else {
            exec::v1_dirs(&self.v1, sub)?
        };
        let unified = self.unified.as_ref();
        let unified = unified.map(|tree| exec::unified_dir(tree, is_v2, sub, init));
        Joiner::open(v1.iter(), unified.transpose()?.as_ref())
    }

    /// Moves another process into all control groups. Slow: see [`Joiner::join`].
    ///
    /// # Errors
    /// The write that failed.
    pub fn join(&self, pid: Pid) -> Result<()> {
        self.joiner()?.join(pid)
    }

    /// Applies limits; used at create and by `update`. Returns warnings.
    ///
    /// # Errors
    /// A value the kernel refuses, or a controller that is missing and not tolerated. Limits
    /// before it are in force then.
    pub fn apply(&self, resources: &Resources) -> Result<Vec<String>> {
        let mut judge = Judge::new(&self.policy);
        match (&self.unified, self.mode) {
            (Some(tree), Mode::V2) => v2::resources::apply(tree, &mut judge, resources)?,
            (Some(tree), _) => {
                let (first, second) = self.split(tree, resources);
                v1::resources::apply(&self.v1, &mut judge, &first)?;
                if second != Resources::default() {
                    v2::resources::apply(tree, &mut judge, &second)?;
                }
            }
            (None, _) => {
                v1::resources::apply(&self.v1, &mut judge, resources)?;
                if !resources.unified.is_empty() {
                    judge.missing("unified", "cgroup2", "no cgroup v2 tree is mounted")?;
                }
            }
        }
        Ok(judge.warnings)
    }

    /// On a hybrid machine: what version 1 hierarchies enforce, and what only the unified tree
    /// can (a controller may be there; `unified` always is).
    fn split(&self, tree: &v2::Tree, resources: &Resources) -> (Resources, Resources) {
        let mut first = resources.clone();
        let mut second = Resources {
            unified: std::mem::take(&mut first.unified),
            ..Resources::default()
        };
        let only_v2 = |name| {
            v1::find(&self.v1, name).is_none() && v2::controllers::tree_has(&tree.mountpoint, name)
        };
        if !first.hugepage_limits.is_empty() && only_v2("hugetlb") {
            second.hugepage_limits = std::mem::take(&mut first.hugepage_limits);
        }
        if first.memory.is_some() && only_v2("memory") {
            second.memory = first.memory.take();
        }
        if first.pids.is_some() && only_v2("pids") {
            second.pids = first.pids.take();
        }
        if !first.rdma.is_empty() && only_v2("rdma") {
            second.rdma = std::mem::take(&mut first.rdma);
        }
        if !first.devices.is_empty() && v1::find(&self.v1, "devices").is_none() {
            second.devices = std::mem::take(&mut first.devices);
        }
        (first, second)
    }

    /// Gives the version 2 group to a user (config-linux.md, Cgroup ownership); nothing on
    /// other machines.
    ///
    /// # Errors
    /// chown(2)'s.
    pub fn delegate(&self, uid: u32) -> Result<()> {
        match (&self.unified, self.mode) {
            (Some(tree), Mode::V2) => tree.delegate(rustix::fs::Uid::from_raw(uid)),
            _ => Ok(()),
        }
    }

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

    /// Freezes all processes, and waits until they are. The unified tree's freezer is preferred,
    /// also on hybrid machines: its tasks can be killed while frozen.
    ///
    /// # Errors
    /// No freezer, or tasks that do not stop in time.
    pub fn freeze(&self) -> Result<()> {
        self.with_freezer(v2::freezer::freeze, v1::freezer::freeze)
    }

    /// Thaws; both freezers, whoever has frozen.
    ///
    /// # Errors
    /// No freezer, or the write that failed.
    pub fn thaw(&self) -> Result<()> {
        if let Some(dir) = v1::find(&self.v1, "freezer")
            && v1::freezer::is_frozen(dir)?
        {
            v1::freezer::thaw(dir)?;
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
            return Ok(());
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

    /// Removes the control groups with all below them; succeeds when they are gone already.
    /// Groups above them, even if [`Manager::create`] made them, stay: others may be on their
    /// way into them.
    ///
    /// # Errors
    /// All that failed; the rest is removed nonetheless.
    pub fn delete(&mut self) -> Result<()> {
        let mut dirs: Vec<&Dir> = self.v1.iter().map(|g| &g.dir).collect();
        dirs.extend(self.unified.iter().map(|t| &t.dir));
        let errors = remove_all(&dirs);
        for group in &mut self.v1 {
            group.dir.close();
        }
        if let Some(tree) = &mut self.unified {
            tree.dir.close();
        }
        Error::join(errors).map_or(Ok(()), Err)
    }

    /// What a mount of type `cgroup` shows inside the container.
    #[must_use]
    pub fn mount_layout(&self) -> MountLayout {
        let hierarchies = self.v1.iter().map(HierarchyMount::new);
        MountLayout {
            mode: self.mode,
            v1: hierarchies.collect(),
            unified: self.unified.as_ref().map(|t| t.dir.path().to_owned()),
        }
    }
}

/// Processes of a group, by default only its own. Empty where it is gone.
fn pids_of(dir: &Dir, recursive: bool) -> Result<Vec<i32>> {
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
