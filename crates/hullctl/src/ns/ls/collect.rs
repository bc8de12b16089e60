//! Finding all namespaces: by processes, by the files they are bound to, by their relatives.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use anyhow::{Context as _, Result};
use rustix::io::Errno;
use spec::plan::NamespaceKind;

use super::super::kinds::{KINDS, inode_in, path_of};
use crate::proc::containers::{Known, known, names_by_pid};
use crate::proc::stat::{self, Stat};

/// A namespace.
#[derive(Debug)]
pub struct Namespace {
    /// Its kind.
    pub kind: NamespaceKind,
    /// What it is known by.
    pub inode: u64,
    /// The processes in it, ascending.
    pub pids: Vec<i32>,
    /// Where it is bound to files.
    pub files: Vec<String>,
    /// Its parent, for pid and user namespaces.
    pub parent: Option<u64>,
    /// The user namespace that owns it.
    pub owner: Option<u64>,
    /// The uid that made it, for user namespaces.
    pub made_by: Option<u32>,
}

/// A process, as far as the columns show it.
#[derive(Debug)]
pub struct Process {
    /// State, parent.
    pub stat: Stat,
    /// Whose it is.
    pub uid: u32,
}

/// All that was found.
#[derive(Debug, Default)]
pub struct Collected {
    /// By inode.
    pub namespaces: Vec<Namespace>,
    /// By pid.
    pub processes: BTreeMap<i32, Process>,
    /// The containers of the state root.
    pub containers: Vec<Known>,
    /// The name of each process's container.
    pub container_of: BTreeMap<i32, String>,
    /// The kernel does not know the questions for parent and owner.
    pub relations_unknown: bool,
}

type Found = BTreeMap<u64, Namespace>;

/// Looks everywhere.
pub fn collect(state_root: &Path) -> Result<Collected> {
    let mut found = Found::new();
    let mut all = Collected {
        containers: known(state_root)?,
        ..Collected::default()
    };
    all.container_of = names_by_pid(&all.containers);
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    // This process is nobody's business: it shares everything with its caller.
    for pid in crate::proc::pids()?.into_iter().filter(|&pid| pid != own) {
        let Some(stat) = stat::read(pid, None) else {
            continue;
        };
        let Ok(owner) = std::fs::metadata(format!("/proc/{pid}")) else {
            continue;
        };
        let uid = std::os::unix::fs::MetadataExt::uid(&owner);
        all.processes.insert(pid, Process { stat, uid });
        for k in KINDS {
            of_process(&mut found, pid, k.kind, &mut all.relations_unknown);
        }
    }
    bound(&mut found, &mut all.relations_unknown)?;
    all.namespaces = found.into_values().collect();
    Ok(all)
}

impl Collected {
    /// The namespace with this inode.
    pub fn by_inode(&self, inode: u64) -> Option<&Namespace> {
        self.namespaces.iter().find(|n| n.inode == inode)
    }
}

fn of_process(found: &mut Found, pid: i32, kind: NamespaceKind, unknown: &mut bool) {
    let path = path_of(pid, kind);
    let link = std::fs::read_link(&path).ok();
    let Some(inode) = link.and_then(|l| inode_in(&l.to_string_lossy())) else {
        return;
    };
    if let Some(namespace) = found.get_mut(&inode) {
        namespace.pids.push(pid);
        return;
    }
    let mut namespace = bare(kind, inode);
    namespace.pids.push(pid);
    let opened = File::open(&path).map(OwnedFd::from);
    found.insert(inode, namespace);
    if let Ok(fd) = opened {
        relate(found, inode, &fd, unknown);
    }
}

const fn bare(kind: NamespaceKind, inode: u64) -> Namespace {
    Namespace {
        kind,
        inode,
        pids: Vec::new(),
        files: Vec::new(),
        parent: None,
        owner: None,
        made_by: None,
    }
}

/// Asks for owner and parent, and adds them where they were not known: a parent may have no
/// process any more.
fn relate(found: &mut Found, inode: u64, fd: &OwnedFd, unknown: &mut bool) {
    let kind = found.get(&inode).map(|n| n.kind);
    let owner = answer(sys::nsfs::owner(fd.as_fd()), unknown);
    let has_parent = matches!(kind, Some(NamespaceKind::Pid | NamespaceKind::User));
    let parent = has_parent.then(|| answer(sys::nsfs::parent(fd.as_fd()), unknown));
    let owner = owner.and_then(|fd| add(found, NamespaceKind::User, &fd, unknown));
    let parent = parent
        .flatten()
        .and_then(|fd| add(found, kind.unwrap_or(NamespaceKind::User), &fd, unknown));
    if let Some(namespace) = found.get_mut(&inode) {
        namespace.owner = owner;
        namespace.parent = parent;
        namespace.made_by = sys::nsfs::owner_uid(fd.as_fd()).ok();
    }
}

/// The answer; a relative out of sight (EPERM) has none.
fn answer(result: sys::Result<OwnedFd>, unknown: &mut bool) -> Option<OwnedFd> {
    match result {
        Ok(fd) => Some(fd),
        Err(e) => {
            *unknown |= e.errno == Errno::NOTTY;
            None
        }
    }
}

/// The inode of an opened namespace, which is known from now on.
fn add(found: &mut Found, kind: NamespaceKind, fd: &OwnedFd, unknown: &mut bool) -> Option<u64> {
    let inode = rustix::fs::fstat(fd).ok()?.st_ino;
    if let Entry::Vacant(free) = found.entry(inode) {
        free.insert(bare(kind, inode));
        relate(found, inode, fd, unknown);
    }
    Some(inode)
}

/// Namespaces that are bound to files in this mount namespace.
fn bound(found: &mut Found, unknown: &mut bool) -> Result<()> {
    let path = "/proc/self/mountinfo";
    let text = std::fs::read_to_string(path).with_context(|| format!("read({path})"))?;
    for (file, link) in text.lines().filter_map(bound_in) {
        let Some(inode) = inode_in(&link) else {
            continue;
        };
        let name = link.split(':').next().unwrap_or_default();
        let Some(kind) = super::super::kinds::by_name(name) else {
            continue;
        };
        if let Entry::Vacant(free) = found.entry(inode) {
            free.insert(bare(kind, inode));
            if let Ok(fd) = File::open(&file) {
                relate(found, inode, &fd.into(), unknown);
            }
        }
        if let Some(namespace) = found.get_mut(&inode)
            && !namespace.files.contains(&file)
        {
            namespace.files.push(file);
        }
    }
    Ok(())
}

/// Mount point and root (`net:[4026532000]`) of an nsfs mount.
fn bound_in(line: &str) -> Option<(String, String)> {
    let (before, after) = line.split_once(" - ")?;
    if !after.starts_with("nsfs ") {
        return None;
    }
    let mut fields = before.split(' ').skip(3);
    let (root, point) = (fields.next()?, fields.next()?);
    Some((unescape(point), root.to_owned()))
}

/// mountinfo writes blanks as `\040`.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\012", "\n")
        .replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_namespaces() {
        let line = "59 30 0:4 net:[4026532213] /run/netns/a\\040b rw shared:1 - nsfs nsfs rw";
        assert_eq!(
            bound_in(line),
            Some(("/run/netns/a b".to_owned(), "net:[4026532213]".to_owned()))
        );
        assert_eq!(bound_in("59 30 0:4 / /run rw - tmpfs tmpfs rw"), None);
    }
}
