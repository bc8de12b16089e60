//! One container's control groups, whatever the machine's shape.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rustix::process::Pid;
use serde::{Deserialize, Serialize};
use spec::oci::Resources;
use sys::trace;

use crate::control::pids_of;
use crate::create::{Made, remove_all};
use crate::dir::Dir;
use crate::error::{Error, Result};
use crate::exec::SubCgroups;
use crate::join::Joiner;
use crate::layout::{Layout, Mode};
use crate::mounts::{HierarchyMount, MountLayout};
use crate::path::CgroupPath;
use crate::policy::{Judge, Policy, unenforced};
use crate::scoped::{ScopeRequest, SystemdRequest};
use crate::systemd::Scope;
use crate::{exec, v1, v2};

/// What is asked for when a container is made.
#[derive(Clone, Debug, Default)]
pub struct Request<'a> {
    /// `linux.cgroupsPath`.
    pub path: Option<&'a str>,
    /// The container's id.
    pub id: &'a str,
    /// What to do about limits that cannot be enforced.
    pub policy: Policy,
    /// Have systemd make the group: `--systemd-cgroup`. A rootless container's scope belongs to
    /// the user's manager.
    pub systemd: Option<SystemdRequest<'a>>,
}

const LIMITS_V1_MEMORY: [&str; 3] = [
    "memory.oom_control",
    "memory.limit_in_bytes",
    "memory.max_usage_in_bytes",
];
const LIMITS_PIDS: [&str; 2] = ["pids.events", "pids.max"];
const LIMITS_V2: [&str; 4] = ["memory.events", "memory.max", "memory.peak", "cpu.stat"];

/// A container's control groups.
///
/// Made by [`Manager::new`], which only resolves paths; brought to life by [`Manager::create`];
/// found again by [`Manager::from_state`].
#[derive(Debug)]
pub struct Manager {
    pub(crate) mode: Mode,
    pub(crate) policy: Policy,
    /// Whether `cgroupsPath` named a place; without, a rootless container may go without one.
    path_given: bool,
    pub(crate) v1: Vec<v1::Group>,
    pub(crate) unified: Option<v2::Tree>,
    pub(crate) scope: Option<Scope>,
    /// What the scope is started with beside limits.
    pub(crate) scope_request: Option<ScopeRequest>,
}

/// The lasting part of a [`Manager`], for the container's state file.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct State {
    mode: Mode,
    policy: Policy,
    path_given: bool,
    v1: Vec<v1::GroupState>,
    unified: Option<v2::TreeState>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scope: Option<Scope>,
}

impl Manager {
    /// Resolves where the container's control groups go. Makes nothing.
    ///
    /// # Errors
    /// A bad path, or no control-group file system.
    pub fn new(request: &Request<'_>) -> Result<Self> {
        let layout = Layout::detect()?;
        match &request.systemd {
            Some(systemd) => Self::scoped(&layout, request, systemd),
            None => {
                let path = CgroupPath::parse(request.path, request.id)?;
                Ok(Self::in_layout(&layout, &path, request))
            }
        }
    }

    pub(crate) fn in_layout(layout: &Layout, path: &CgroupPath, request: &Request<'_>) -> Self {
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
            scope: None,
            scope_request: None,
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
            scope: state.scope,
            scope_request: None,
        }
    }

    /// A manager of other groups on the same machine.
    pub(crate) fn part(&self, v1: Vec<v1::Group>, unified: Option<v2::Tree>) -> Self {
        Self {
            mode: self.mode,
            policy: self.policy.clone(),
            path_given: true,
            v1,
            unified,
            scope: None,
            scope_request: None,
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
            scope: self.scope.clone(),
        }
    }

    /// The shape of this machine's control groups.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The files that tell of limits which end processes or keep them from starting.
    pub fn limit_files(&self, visit: &mut dyn FnMut(&Path)) {
        let mut all = |dir: &Path, names: &[&str]| names.iter().for_each(|n| visit(&dir.join(n)));
        for group in &self.v1 {
            if group.has("memory") {
                all(group.dir.path(), &LIMITS_V1_MEMORY);
            }
            if group.has("pids") {
                all(group.dir.path(), &LIMITS_PIDS);
            }
        }
        if let Some(tree) = &self.unified {
            all(tree.dir.path(), &LIMITS_V2);
            all(tree.dir.path(), &LIMITS_PIDS);
        }
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

    /// Makes the control groups: all, or none and an error. With the systemd driver nothing is
    /// made yet, because a scope cannot be empty: see [`Manager::start_scope`].
    ///
    /// # Errors
    /// A directory cannot be made; or it exists and has processes, or is frozen.
    pub fn create(&mut self) -> Result<()> {
        if self.needs_scope() {
            return Ok(());
        }
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
    pub(crate) fn main_dir(&self) -> Option<&Dir> {
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
        if let Some(request) = &self.scope_request {
            return request.joiner();
        }
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

    /// Opens what an exec'd process needs; [`Joiner::admit`] is to be called once it exists.
    /// `init` is the container's first process.
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
        let unified = unified.transpose()?;
        if let Some(dir) = &unified
            && let Some(joiner) = self.scope_entry(dir)?
        {
            return Ok(joiner);
        }
        Joiner::open(v1.iter(), unified.as_ref())
    }

    /// Moves another process into all control groups. Slow: see [`Joiner::join`].
    ///
    /// # Errors
    /// The write that failed.
    pub fn join(&self, pid: Pid) -> Result<()> {
        self.joiner()?.join(pid)
    }

    /// Applies limits through the groups' files. Returns warnings.
    ///
    /// # Errors
    /// A value the kernel refuses, or a controller that is missing and not tolerated. Limits
    /// before it are in force then.
    pub fn apply(&self, resources: &Resources) -> Result<Vec<String>> {
        if self.policy.rootless && !self.has_any() {
            return Ok(unenforced(resources).into_iter().collect());
        }
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

    /// Removes the control groups with all below them; succeeds when they are gone already.
    /// Groups above them, even if [`Manager::create`] made them, stay: others may be on their
    /// way into them.
    ///
    /// # Errors
    /// All that failed; the rest is removed nonetheless.
    pub fn delete(&mut self) -> Result<()> {
        let mut errors: Vec<Error> = Vec::new();
        if let Some(scope) = &self.scope
            && let Err(e) = scope.stop()
            // A scope that has left no trace needs no systemd to stop it.
            && self.scope_exists()
        {
            errors.push(e);
        }
        let mut dirs: Vec<&Dir> = self.v1.iter().map(|g| &g.dir).collect();
        dirs.extend(self.unified.iter().map(|t| &t.dir));
        errors.extend(remove_all(&dirs));
        for group in &mut self.v1 {
            group.dir.close();
        }
        if let Some(tree) = &mut self.unified {
            tree.dir.close();
        }
        Error::join(errors).map_or(Ok(()), Err)
    }

    /// Whether systemd's directory of the scope, or one of ours for it, is still there.
    fn scope_exists(&self) -> bool {
        let v1 = self.v1.iter().any(|g| g.dir.exists());
        let unified = self.unified.as_ref().map(|t| t.dir.path());
        v1 || unified.is_some_and(|own| match self.mode {
            Mode::V2 => own.parent().is_some_and(Path::exists),
            _ => own.exists(),
        })
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
