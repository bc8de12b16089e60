//! Removing: what is in the way, and what whiteouts hide.

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, chmodat, mknodat, openat, renameat, unlinkat,
};
use rustix::io::Errno;
use sys::Context as _;

use super::nodes::Own;
use super::{DirWriter, Moved, Target, call};
use crate::Result;
use crate::layer::entry::Shown;

/// Deepest tree that is removed: PATH_MAX of single letters.
const DEPTH: u32 = 2048;

impl DirWriter {
    /// Removes what is in the way of a new entry.
    pub(super) fn clear(&mut self, parent: u32, name: &[u8]) -> Result<()> {
        let dir = self.fd(parent)?;
        let own = self.node_mut(parent).own.remove(name);
        let is_directory = self.child(parent, name).is_some();
        self.bury(parent, name);
        if own == Some(Own::Entry)
            && let Some(kept) = &self.replaced
        {
            let to = format!("{}", self.moved.len());
            renameat(&dir, OsStr::from_bytes(name), kept, to.as_str())
                .context("renameat", || format!("{}, replaced/{to}", Shown(name)))?;
            let from = self.path_of(parent).join(name)?.to_bytes();
            self.moved.push(Moved {
                before: self.files,
                from,
                to: format!("replaced/{to}").into_bytes(),
            });
            return Ok(());
        }
        match unlinkat(&dir, OsStr::from_bytes(name), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::ISDIR | Errno::PERM) => remove_tree(dir.as_fd(), name),
            Err(_) if is_directory => remove_tree(dir.as_fd(), name),
            Err(e) => Err(call("unlinkat", &self.path_of(parent).join(name)?, e)),
        }
    }

    /// Forgets the directories at and below a name.
    fn bury(&mut self, parent: u32, name: &[u8]) {
        let Some(top) = self.node_mut(parent).children.remove(name) else {
            return;
        };
        let mut all = vec![top];
        while let Some(id) = all.pop() {
            let node = self.node_mut(id);
            node.dead = true;
            node.fd = None;
            node.own.clear();
            all.extend(std::mem::take(&mut node.children).into_values());
        }
        self.open.retain(|&id| !self.nodes[id as usize].dead);
        self.last = None;
    }

    /// Marks `name` as hidden, for an overlay.
    pub(super) fn hide(&mut self, parent: u32, name: &[u8]) -> Result<()> {
        match (self.owned(parent, name), self.child(parent, name)) {
            (Some(Own::Entry), Some(id)) => self.node_mut(id).opaque = true,
            (Some(_), _) => {}
            (None, _) => {
                let dir = self.fd(parent)?;
                let name_os = OsStr::from_bytes(name);
                mknodat(&dir, name_os, FileType::CharacterDevice, Mode::empty(), 0)
                    .context("mknodat", || format!("{}, whiteout", Shown(name)))?;
                self.own(parent, name, Own::Whiteout);
            }
        }
        Ok(())
    }

    /// Deletes what lower layers have under a name; what this layer has stays.
    pub(super) fn delete_lower(&mut self, parent: u32, name: &[u8]) -> Result<()> {
        match (self.owned(parent, name), self.child(parent, name)) {
            (Some(_), Some(id)) => self.purge(id),
            (Some(_), None) => Ok(()),
            (None, _) => self.clear(parent, name),
        }
    }

    /// Deletes what lower layers have in a directory.
    pub(super) fn purge(&mut self, id: u32) -> Result<()> {
        let mut todo = vec![id];
        while let Some(id) = todo.pop() {
            let dir = self.fd(id)?;
            for name in names(dir.as_fd())? {
                let name = name.to_bytes();
                match (self.owned(id, name), self.child(id, name)) {
                    (None, _) => self.clear(id, name)?,
                    (Some(_), Some(child)) => todo.push(child),
                    (Some(_), None) => {}
                }
            }
        }
        Ok(())
    }

    /// The attribute that makes a directory hide what is below.
    pub(super) fn opaque_name(&self) -> &'static [u8] {
        match self.target {
            Target::Layer { userxattr: true } => b"user.overlay.opaque",
            _ => b"trusted.overlay.opaque",
        }
    }
}

/// The names in a directory, without `.` and `..`.
pub(crate) fn names(dir: BorrowedFd<'_>) -> Result<Vec<CString>> {
    let mut all = Vec::new();
    let read = Dir::read_from(dir).context("openat", || "directory, \".\"")?;
    for entry in read {
        let entry = entry.context("getdents64", || "directory")?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            all.push(name.to_owned());
        }
    }
    Ok(all)
}

/// Removes the tree `name` in `dir`, whatever it is.
pub(crate) fn remove_tree(dir: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    remove_at(dir, OsStr::from_bytes(name), DEPTH)
}

fn remove_at(dir: BorrowedFd<'_>, name: &OsStr, depth: u32) -> Result<()> {
    let describe = || Shown(name.as_bytes()).to_string();
    match unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(e) => return Err(e).context("unlinkat", describe).map_err(Into::into),
    }
    let fd = open_to_empty(dir, name)?;
    if depth == 0 {
        return Err(Errno::NAMETOOLONG)
            .context("unlinkat", describe)
            .map_err(Into::into);
    }
    for child in names(fd.as_fd())? {
        remove_at(fd.as_fd(), OsStr::from_bytes(child.to_bytes()), depth - 1)?;
    }
    unlinkat(dir, name, AtFlags::REMOVEDIR).context("unlinkat", describe)?;
    Ok(())
}

/// Without privilege, a directory's own mode may keep its owner from emptying it.
fn open_to_empty(dir: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || openat(dir, name, flags, Mode::empty());
    let writable = |fd: &OwnedFd| rustix::fs::fstat(fd).is_ok_and(|s| s.st_mode & 0o300 == 0o300);
    let opened = match open() {
        Ok(fd) if writable(&fd) => Ok(fd),
        Ok(_) | Err(Errno::ACCESS) => {
            let _ = chmodat(dir, name, Mode::RWXU, AtFlags::empty());
            open()
        }
        other => other,
    };
    opened
        .context("openat", || Shown(name.as_bytes()).to_string())
        .map_err(Into::into)
}

/// Empties a directory.
pub(crate) fn remove_contents(dir: BorrowedFd<'_>) -> Result<()> {
    for name in names(dir)? {
        remove_tree(dir, name.to_bytes())?;
    }
    Ok(())
}
