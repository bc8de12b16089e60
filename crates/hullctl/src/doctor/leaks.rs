//! What is left of containers that are dead: found by what the runtime wrote down of them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use cgroup::Manager;
use runtime::record::Record;
use runtime::root::StateRoot;
use runtime::verdict::ENDED;
use runtime::{Container, ProcessId, Status};
use rustix::mount::{UnmountFlags, unmount};
use serde::Serialize;

use super::places::Places;
use super::{images, network, supervisors};
use crate::run::leftovers;

/// The sort of thing that is left.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    /// What a killed `create` left in the state root.
    Abandoned,
    /// A control group of a container that is gone.
    Cgroup,
    /// A mount below the directory of a container that is gone.
    Mount,
    /// A directory of a `hullctl run` that was killed.
    RunDirectory,
    /// Addresses, links, rules and namespaces of a pod that is gone.
    Network,
    /// Layers mounted for a container that is gone, which keep an image.
    Image,
    /// A supervisor that nobody needs.
    Supervisor,
    /// A container whose supervisor is dead.
    Container,
    /// The sandbox process of a pod that is gone.
    Pause,
}

/// One thing that is left.
#[derive(Clone, Debug, Serialize)]
pub struct Leak {
    kind: Kind,
    container: String,
    what: PathBuf,
    why: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fixed: Option<bool>,
    #[serde(skip_serializing_if = "String::is_empty")]
    note: String,
    #[serde(skip)]
    record: Option<Box<Record>>,
    /// Whose network it is.
    #[serde(skip)]
    owner: &'static str,
    /// Which process.
    #[serde(skip_serializing_if = "Option::is_none")]
    process: Option<ProcessId>,
}

impl Leak {
    pub(super) fn new(kind: Kind, container: &str, what: PathBuf, why: &str) -> Self {
        Self {
            kind,
            container: container.to_owned(),
            what,
            why: why.to_owned(),
            fixed: None,
            note: String::new(),
            record: None,
            owner: "",
            process: None,
        }
    }

    /// The same, of a network of this owner's.
    pub(super) fn of_owner(self, owner: &'static str) -> Self {
        Self { owner, ..self }
    }

    /// The same, and this is the process.
    pub(super) fn of_process(self, process: ProcessId) -> Self {
        Self {
            process: Some(process),
            ..self
        }
    }

    /// Whether it is gone now.
    pub fn is_fixed(&self) -> bool {
        self.fixed == Some(true)
    }

    /// For people.
    pub fn line(&self) -> String {
        let state = match self.fixed {
            None => "left",
            Some(true) if self.process.is_some() => "ended",
            Some(true) => "removed",
            Some(false) => "could not be removed",
        };
        let note = if self.note.is_empty() {
            String::new()
        } else {
            format!(" ({})", self.note)
        };
        format!(
            "{state}: {} of {}: {}{note}",
            self.what.display(),
            self.container,
            self.why
        )
    }

    /// Removes it.
    pub fn fix(&mut self, root: &Path) {
        let done = match self.kind {
            Kind::Abandoned => sweep(root, &self.what),
            Kind::Cgroup => self.remove_group(),
            Kind::Mount => unmount(&self.what, UnmountFlags::DETACH).context("umount2(MNT_DETACH)"),
            Kind::RunDirectory => fs::remove_dir(&self.what).context("rmdir"),
            Kind::Network => network::remove(&self.what, self.owner, &self.container),
            Kind::Image => images::remove(&self.what, &self.container),
            Kind::Supervisor => self.end(|p| supervisors::end_supervisor(root, &self.what, p)),
            Kind::Container => supervisors::end_container(root, &self.what, &self.container),
            Kind::Pause => self.end(supervisors::kill),
        };
        self.fixed = Some(done.is_ok());
        self.note = done.err().map(|e| format!("{e:#}")).unwrap_or_default();
    }

    fn end(&self, how: impl FnOnce(ProcessId) -> Result<()>) -> Result<()> {
        how(self.process.context("no process")?)
    }

    /// Only one that nobody is in: whoever is there may have been put there by somebody else.
    fn remove_group(&self) -> Result<()> {
        let state = self.record.as_ref().and_then(|r| r.cgroup.clone());
        let mut manager = Manager::from_state(state.context("no control group is written down")?);
        let inside = fs::read_to_string(self.what.join("cgroup.procs")).unwrap_or_default();
        if let Some(pid) = inside.lines().find_map(|line| line.parse::<i32>().ok()) {
            let name = crate::proc::name(pid);
            anyhow::bail!("process {pid} ({name}) is still in it; end it first");
        }
        Ok(manager.delete()?)
    }
}

fn sweep(root: &Path, what: &Path) -> Result<()> {
    let mut complaints = Vec::new();
    if let Some(root) = StateRoot::open(root)? {
        runtime::sweep::all(&root, &mut |text| complaints.push(text.to_owned()))?;
    }
    if what.exists() {
        anyhow::bail!("{}", complaints.join("; "));
    }
    Ok(())
}

/// Everything that is left.
pub fn find(places: &Places) -> Result<Vec<Leak>> {
    let root = places.root.as_path();
    let mut leaks = abandoned(root)?;
    let living = living_groups(root)?;
    for (id, record) in ended(root) {
        leaks.extend(groups(&id, &record, &living));
    }
    leaks.extend(supervisors::find(places)?);
    leaks.extend(mounts(root)?);
    leaks.extend(leftovers().into_iter().map(|dir| {
        Leak::new(
            Kind::RunDirectory,
            "a killed `hullctl run`",
            dir,
            "its mounts went with it, the directory did not",
        )
    }));
    leaks.extend(network::find(places)?);
    leaks.extend(images::find(places)?);
    Ok(leaks)
}

fn abandoned(root: &Path) -> Result<Vec<Leak>> {
    let Some(state) = StateRoot::open(root)? else {
        return Ok(Vec::new());
    };
    let mut leaks = Vec::new();
    for entry in fs::read_dir(root)
        .with_context(|| format!("open({})", root.display()))?
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("creating@") && !state.stillborn()?.is_empty() {
            leaks.push(Leak::new(
                Kind::Abandoned,
                &name,
                entry.path(),
                "its `create` was killed before it had a name",
            ));
        }
    }
    for id in state.ids()? {
        let Ok(container) = Container::open(&state, &id) else {
            continue;
        };
        if container.is_abandoned()? {
            let path = state.path_of(&id);
            leaks.push(Leak::new(
                Kind::Abandoned,
                id.as_str(),
                path,
                "its `create` was killed half-way",
            ));
        }
    }
    Ok(leaks)
}

/// Directories of groups that containers that are there have.
fn living_groups(root: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut living = BTreeSet::new();
    if let Some(state) = StateRoot::open(root)? {
        for id in state.ids()? {
            if let Ok(container) = Container::open(&state, &id)
                && container.status().is_ok_and(|s| s != Status::Creating)
                && let Some(manager) = container.cgroups()
            {
                living.extend(manager.paths().into_values());
            }
        }
    }
    Ok(living)
}

/// The containers that are remembered.
fn ended(root: &Path) -> Vec<(String, Record)> {
    let entries = fs::read_dir(root.join(ENDED))
        .into_iter()
        .flatten()
        .flatten();
    let record = |entry: fs::DirEntry| {
        let path = entry.path().join("state.json");
        let record = Record::from_json(&fs::read(&path).ok()?, &path).ok()?;
        Some((record.id.clone(), record))
    };
    entries.filter_map(record).collect()
}

fn groups(id: &str, record: &Record, living: &BTreeSet<PathBuf>) -> Vec<Leak> {
    let Some(state) = &record.cgroup else {
        return Vec::new();
    };
    let dirs: BTreeSet<PathBuf> = Manager::from_state(state.clone())
        .paths()
        .into_values()
        .collect();
    let left = dirs
        .into_iter()
        .filter(|dir| dir.is_dir() && !living.contains(dir));
    left.map(|dir| Leak {
        record: Some(Box::new(record.clone())),
        ..Leak::new(
            Kind::Cgroup,
            id,
            dir,
            "the container was deleted, its control group is there",
        )
    })
    .collect()
}

/// Mounts below directories of the state root, where none belongs.
fn mounts(root: &Path) -> Result<Vec<Leak>> {
    let root = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    let path = "/proc/self/mountinfo";
    let text = fs::read_to_string(path).with_context(|| format!("read({path})"))?;
    let points = text
        .lines()
        .filter_map(|l| l.split(' ').nth(4))
        .map(PathBuf::from);
    let below = points.filter(|p| p.starts_with(&root) && *p != root);
    let leaks = below.filter_map(|point| {
        let name = point.strip_prefix(&root).ok()?.components().next()?;
        let name = name.as_os_str().to_string_lossy().into_owned();
        let dead = name == ENDED || !root.join(&name).join("state.json").exists();
        dead.then(|| {
            Leak::new(
                Kind::Mount,
                &name,
                point,
                "nothing is to be mounted there any more",
            )
        })
    });
    Ok(leaks.collect())
}
