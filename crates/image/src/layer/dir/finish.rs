//! Completing a layer with what the layers below know, and giving directories their attributes.

use std::ffi::OsStr;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{AtFlags, renameat, unlinkat};
use sys::Context as _;

use super::nodes::{LINKS, Own, ROOT};
use super::{DirWriter, Moved, call};
use crate::layer::attrs::Attrs;
use crate::layer::entry::Shown;
use crate::layer::write::{Data, Found, NoData, ReadData};
use crate::layer::{Entry, EntryKind, EntryPath, LayerWriter as _, Lower};
use crate::{Error, Result};

impl DirWriter {
    pub(super) fn complete(&mut self, lower: &dyn Lower) -> Result<()> {
        if self.is_layer() {
            for (path, target) in std::mem::take(&mut self.pending) {
                self.link_below(&path, &target, lower)?;
            }
        }
        // More nodes may come while this goes on.
        let mut at = 0;
        while at < self.nodes.len() {
            let id = u32::try_from(at).unwrap_or(u32::MAX);
            at += 1;
            if self.node(id).dead {
                continue;
            }
            if self.node(id).implicit {
                self.settle(id, lower)?;
            }
            if self.is_layer() && !self.node(id).dead {
                self.drop_idle_whiteouts(id, lower)?;
            }
        }
        self.give_directories()
    }

    /// A directory that the layer only passes through: the layers below know what it is.
    fn settle(&mut self, id: u32, lower: &dyn Lower) -> Result<()> {
        let path = self.path_of(id);
        let fresh = self.node(id).fresh;
        let found = if fresh { None } else { lower.find(&path)? };
        match found {
            Some(Found { mut entry, .. }) if entry.kind == EntryKind::Directory => {
                let attrs = self.policy.attrs(&mut entry)?;
                self.give_node(id, attrs);
                Ok(())
            }
            Some(found) if id != ROOT && is_link(&found.entry) => {
                let real = resolve(lower, &path)?;
                let to = self.directory(real.components())?;
                if to == id {
                    return Ok(());
                }
                self.merge(id, to)
            }
            _ => {
                let attrs = self.default_attrs(id)?;
                self.give_node(id, attrs);
                Ok(())
            }
        }
    }

    fn default_attrs(&self, id: u32) -> Result<Attrs> {
        let mut entry = Entry {
            path: EntryPath::default(),
            kind: EntryKind::Directory,
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: self.fallback.get(&id).copied().unwrap_or_default(),
            xattrs: Default::default(),
        };
        self.policy.attrs(&mut entry)
    }

    /// Moves all of one directory into another: on the way the layer meant a link of the layers
    /// below.
    fn merge(&mut self, from: u32, to: u32) -> Result<()> {
        let note = Moved {
            before: self.files,
            from: self.path_of(from).to_bytes(),
            to: [b"tree/".as_slice(), &self.path_of(to).to_bytes()].concat(),
        };
        self.moved.push(note);
        let mut todo = vec![(from, to)];
        let mut empty = Vec::new();
        while let Some((from, to)) = todo.pop() {
            empty.push(from);
            let names: Vec<(Vec<u8>, Own)> = self.node_mut(from).own.drain().collect();
            for (name, own) in names {
                match (self.child(from, &name), self.child(to, &name)) {
                    (Some(a), Some(b)) => todo.push((a, b)),
                    _ => self.move_entry(from, to, &name, own)?,
                }
            }
        }
        for id in empty.into_iter().rev() {
            let (parent, name) = (self.node(id).parent, self.node(id).name.clone());
            let dir = self.fd(parent)?;
            unlinkat(&dir, OsStr::from_bytes(&name), AtFlags::REMOVEDIR)
                .context("unlinkat", || Shown(&name).to_string())?;
            self.node_mut(parent).own.remove(&name);
            self.node_mut(parent).children.remove(&name);
            self.node_mut(id).dead = true;
        }
        self.last = None;
        Ok(())
    }

    fn move_entry(&mut self, from: u32, to: u32, name: &[u8], own: Own) -> Result<()> {
        if self.owned(to, name).is_some() {
            self.clear(to, name)?;
        }
        let (a, b) = (self.fd(from)?, self.fd(to)?);
        let os = OsStr::from_bytes(name);
        renameat(&a, os, &b, os).context("renameat", || Shown(name).to_string())?;
        self.own(to, name, own);
        if let Some(child) = self.node_mut(from).children.remove(name) {
            self.node_mut(child).parent = to;
            self.node_mut(to).children.insert(name.to_vec(), child);
        }
        Ok(())
    }

    /// A whiteout of what no lower layer has would show in listings of the lowest layer.
    fn drop_idle_whiteouts(&mut self, id: u32, lower: &dyn Lower) -> Result<()> {
        let own = &self.node(id).own;
        let hidden = own.iter().filter(|(_, what)| **what == Own::Whiteout);
        let names: Vec<Vec<u8>> = hidden.map(|(name, _)| name.clone()).collect();
        for name in names {
            let path = self.path_of(id).join(&name)?;
            if lower.find(&path)?.is_none() {
                let dir = self.fd(id)?;
                unlinkat(&dir, OsStr::from_bytes(&name), AtFlags::empty())
                    .map_err(|e| call("unlinkat", &path, e))?;
                self.node_mut(id).own.remove(&name);
            }
        }
        if self.node(id).opaque {
            let path = self.path_of(id);
            let below = lower.find(&path)?;
            self.node_mut(id).opaque = below.is_some_and(|f| f.entry.kind == EntryKind::Directory);
        }
        Ok(())
    }

    /// A link to a file of a lower layer: the file is copied here, so that both names are one
    /// file in this layer.
    fn link_below(
        &mut self,
        path: &EntryPath,
        target: &EntryPath,
        lower: &dyn Lower,
    ) -> Result<()> {
        let refuse = |why| Error::Layer {
            what: format!("{path}: hard link to {target}"),
            why,
        };
        let dir = resolve(lower, &target.parent())?;
        let real = dir.join(target.name())?;
        let here = self.directory(dir.components())?;
        if self.owned(here, target.name()).is_none() {
            let found = lower.find(&real)?;
            let found =
                found.ok_or_else(|| refuse("there is no such file in this or a lower layer"))?;
            if found.entry.kind == EntryKind::Directory {
                return Err(refuse("it is a directory"));
            }
            let mut entry = found.entry;
            entry.path = real.clone();
            let data: &mut dyn Data = match found.data {
                Some(data) => &mut ReadData::new(data),
                None => &mut NoData,
            };
            self.entry(entry, data)?;
        }
        let parent = self.parent_of(path)?;
        if !self.link(parent, path, here, target.name())? {
            return Err(refuse("there is no such file in this or a lower layer"));
        }
        self.own(parent, path.name(), Own::Entry);
        Ok(())
    }

    /// Children come after their parents in the list, so going backwards no directory shuts
    /// those out that are still to come.
    fn give_directories(&mut self) -> Result<()> {
        for id in (0..self.nodes.len()).rev() {
            let id = u32::try_from(id).unwrap_or(u32::MAX);
            if self.node(id).dead {
                continue;
            }
            let opaque = self.node(id).opaque && self.is_layer();
            let Some(mut attrs) = self.node_mut(id).attrs.take() else {
                continue;
            };
            if opaque {
                attrs
                    .xattrs
                    .insert(self.opaque_name().to_vec(), b"y".to_vec());
            }
            let (fd, path) = (self.fd(id)?, self.path_of(id));
            self.clear_xattrs(id, &attrs)?;
            self.policy.give_fd(fd.as_fd(), &attrs, true, &path)?;
            self.node_mut(id).attrs = Some(attrs);
        }
        Ok(())
    }

    /// A directory of a lower layer gets the attributes of its new entry only.
    fn clear_xattrs(&mut self, id: u32, attrs: &Attrs) -> Result<()> {
        if self.is_layer() {
            return Ok(());
        }
        let fd = self.fd(id)?;
        for (name, _) in crate::layer::attrs::read_xattrs(&fd)? {
            if !attrs.xattrs.contains_key(&name) && !name.starts_with(b"security.selinux") {
                let _ = rustix::fs::fremovexattr(&fd, OsStr::from_bytes(&name));
            }
        }
        Ok(())
    }
}

fn is_link(entry: &Entry) -> bool {
    matches!(entry.kind, EntryKind::Symlink { .. })
}

/// Follows links of the layers below, inside their root; what is missing stays as it is named.
pub(crate) fn resolve(lower: &dyn Lower, path: &EntryPath) -> Result<EntryPath> {
    let mut at: Vec<Vec<u8>> = Vec::new();
    let mut links = 0;
    let mut rest: Vec<Vec<u8>> = path.components().iter().rev().cloned().collect();
    while let Some(name) = rest.pop() {
        if name == b".." {
            at.pop();
            continue;
        }
        at.push(name);
        let here = EntryPath::from_checked(at.clone());
        let Some(found) = lower.find(&here)? else {
            continue;
        };
        if let EntryKind::Symlink { target } = found.entry.kind {
            links += 1;
            if links > LINKS {
                return Err(Error::Layer {
                    what: path.to_string(),
                    why: "more than 40 symbolic links on the way",
                });
            }
            at.pop();
            if target.starts_with(b"/") {
                at.clear();
            }
            let parts = target.split(|&b| b == b'/').rev();
            let parts = parts.filter(|p| !matches!(*p, b"" | b"."));
            rest.extend(parts.map(<[u8]>::to_vec));
        }
    }
    Ok(EntryPath::from_checked(at))
}
