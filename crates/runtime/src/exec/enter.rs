//! The way into the namespaces of a container that runs.

use std::fs::File;
use std::os::fd::OwnedFd;

use rustix::fs::{Stat, stat};
use spec::plan::NamespaceKind;
use sys::{Context as _, Errno, trace};

use crate::identity::SetGroups;
use crate::{Doing as _, Error, ProcessId, Result};

/// The namespaces in which a container's first process differs from us.
#[derive(Debug)]
pub(super) struct Entry {
    init: ProcessId,
    /// `None` on kernels without pidfds.
    pidfd: Option<OwnedFd>,
    /// All but the pid namespace, which is entered by being born in it.
    kinds: Vec<NamespaceKind>,
    /// The pid namespace, if it is another.
    pid_namespace: Option<File>,
    /// Whether setgroups(2) is allowed in its user namespace.
    pub(super) setgroups: SetGroups,
}

impl Entry {
    /// Looks at the namespaces, and opens what is needed in the parent.
    ///
    /// # Errors
    /// The process has ended, or its namespaces cannot be opened.
    pub(super) fn open(init: ProcessId) -> Result<Self> {
        let mut kinds = Vec::new();
        let mut pid_namespace = None;
        for kind in NamespaceKind::ALL {
            match other_namespace(init, kind)? {
                Some(path) if kind == NamespaceKind::Pid => pid_namespace = Some(open(&path)?),
                Some(_) => kinds.push(kind),
                None => {}
            }
        }
        let pidfd = match init.pidfd() {
            Ok(Some(pidfd)) => Some(pidfd),
            Ok(None) => return Err(Error::NotRunning),
            Err(Error::Sys(e)) if e.errno == Errno::NOSYS => None,
            Err(e) => return Err(e),
        };
        let setgroups = std::fs::read(format!("/proc/{}/setgroups", init.pid));
        let denied = setgroups.is_ok_and(|text| text.starts_with(b"deny"));
        // What was looked up by pid is the container's only if the pid still is.
        if !init.is_alive()? {
            return Err(Error::NotRunning);
        }
        Ok(Self {
            init,
            pidfd,
            kinds,
            pid_namespace,
            setgroups: if denied {
                SetGroups::Denied
            } else {
                SetGroups::Allowed
            },
        })
    }

    /// Whether the container has a user namespace of its own.
    pub(super) fn changes_user(&self) -> bool {
        self.kinds.contains(&NamespaceKind::User)
    }

    /// Has further children of ours be born in the container's pid namespace. What comes back
    /// undoes it when dropped.
    ///
    /// # Errors
    /// setns(2)'s; EPERM where the user namespace has to be entered first.
    pub(super) fn aim_children(&self) -> sys::Result<Option<Aim>> {
        let Some(theirs) = &self.pid_namespace else {
            return Ok(None);
        };
        let path = "/proc/self/ns/pid";
        let home = File::open(path).context("open", || path)?;
        self.aim(theirs)?;
        Ok(Some(Aim { home }))
    }

    /// The same, for good: for a process that only lives to clone another.
    ///
    /// # Errors
    /// setns(2)'s.
    pub(super) fn aim_children_for_good(&self) -> sys::Result<()> {
        self.pid_namespace
            .as_ref()
            .map_or(Ok(()), |ns| self.aim(ns))
    }

    #[expect(clippy::unused_self, reason = "an entry is what is aimed at")]
    fn aim(&self, namespace: &File) -> sys::Result<()> {
        let flag = NamespaceKind::Pid.clone_flag();
        trace::step(
            "setns",
            || "pid namespace, for the child",
            || sys::namespace::setns(namespace, flag),
        )
    }

    /// Enters the user namespace alone: for a process that gains its rights there.
    ///
    /// # Errors
    /// setns(2)'s.
    pub(super) fn enter_user(&self) -> Result<()> {
        self.enter_these(&[NamespaceKind::User])
    }

    /// Enters all of them, but for the user namespace where `staged` says that it was entered;
    /// the root and the working directory become the container's.
    ///
    /// # Errors
    /// setns(2)'s.
    pub(super) fn enter(&self, staged: bool) -> Result<()> {
        let kinds = self.kinds.iter().copied();
        let left: Vec<_> = kinds
            .filter(|k| !staged || *k != NamespaceKind::User)
            .collect();
        self.enter_these(&left)
    }

    fn enter_these(&self, kinds: &[NamespaceKind]) -> Result<()> {
        if kinds.is_empty() {
            return Ok(());
        }
        let names = || {
            let names: Vec<&str> = kinds.iter().map(|k| k.oci_name()).collect();
            format!("{} namespaces", names.join(", "))
        };
        trace::step("setns", names, || match self.enter_at_once(kinds) {
            // Kernels before 5.8.
            Err(e) if matches!(e.errno, Errno::NOSYS | Errno::INVAL) => {
                let files = open_all(self.init, kinds)?;
                if !self.init.is_alive()? {
                    return Err(Error::NotRunning);
                }
                enter_one_by_one(&files)
            }
            other => Ok(other?),
        })
        .doing(|| "enter the container")
    }

    fn enter_at_once(&self, kinds: &[NamespaceKind]) -> sys::Result<()> {
        let flags = kinds.iter().fold(0, |all, k| all | k.clone_flag());
        match &self.pidfd {
            Some(pidfd) => sys::namespace::setns_all(pidfd, flags),
            None => Err(sys::Error::new("setns", "no pidfd", Errno::NOSYS)),
        }
    }
}

/// Enters each while the rights for it are there: those of the runtime's user namespace first,
/// then the user namespace, then those that belong to it. The mount namespace is the last of
/// both, because the paths of this side go with it.
fn enter_one_by_one(files: &[(NamespaceKind, File)]) -> Result<()> {
    let set = |kind: NamespaceKind, file: &File| sys::namespace::setns(file, kind.clone_flag());
    let user = files.iter().find(|(kind, _)| *kind == NamespaceKind::User);
    let mut left = Vec::new();
    for (kind, file) in files.iter().filter(|(k, _)| *k != NamespaceKind::User) {
        match set(*kind, file) {
            Err(e) if e.errno == Errno::PERM && user.is_some() => left.push((*kind, file)),
            other => other.doing(|| format!("{} namespace", kind.oci_name()))?,
        }
    }
    if let Some((kind, file)) = user {
        set(*kind, file).doing(|| "user namespace")?;
    }
    for (kind, file) in left {
        set(kind, file).doing(|| format!("{} namespace", kind.oci_name()))?;
    }
    Ok(())
}

fn open_all(init: ProcessId, kinds: &[NamespaceKind]) -> Result<Vec<(NamespaceKind, File)>> {
    let mut files = Vec::new();
    for &kind in kinds {
        let file = open(&path_of(init, kind))?;
        files.push((kind, file));
    }
    Ok(files)
}

fn open(path: &str) -> Result<File> {
    Ok(File::open(path).context("open", || path)?)
}

fn path_of(init: ProcessId, kind: NamespaceKind) -> String {
    format!("/proc/{}/ns/{}", init.pid, kind.proc_name())
}

/// The path of the process's namespace, if it is not ours as well; `None` also where the kernel
/// has none of this kind.
fn other_namespace(init: ProcessId, kind: NamespaceKind) -> Result<Option<String>> {
    let ours = format!("/proc/self/ns/{}", kind.proc_name());
    let theirs = path_of(init, kind);
    let ours = match stat(&ours) {
        Err(Errno::NOENT) => return Ok(None),
        other => other.context("stat", || ours)?,
    };
    let same = |a: &Stat, b: &Stat| (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino);
    let found = match stat(&theirs) {
        // A process on its way out has let go of its namespaces.
        Err(Errno::NOENT | Errno::SRCH) => return Err(Error::NotRunning),
        other => other.context("stat", || theirs.clone())?,
    };
    Ok((!same(&ours, &found)).then_some(theirs))
}

/// Our own pid namespace for children; put back when dropped.
#[derive(Debug)]
pub(super) struct Aim {
    home: File,
}

impl Drop for Aim {
    fn drop(&mut self) {
        // Only processes made after this one would notice.
        let _ = sys::namespace::setns(&self.home, NamespaceKind::Pid.clone_flag());
    }
}
