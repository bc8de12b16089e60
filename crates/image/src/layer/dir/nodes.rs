//! The directories of a tree: which exist, which are open, what this layer has put into them.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, openat, readlinkat};
use rustix::io::Errno;

use super::{DirWriter, call};
use crate::layer::attrs::Attrs;
use crate::layer::entry::EntryPath;
use crate::{Error, Result};

/// The root's node.
pub(super) const ROOT: u32 = 0;
/// Most descriptors that are kept open.
const OPEN: usize = 256;
/// Most links in one lookup (path_resolution(7)).
pub(super) const LINKS: u32 = 40;

/// What this layer has under a name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Own {
    /// An entry, or a directory on the way to one.
    Entry,
    /// A mark that hides what is below.
    Whiteout,
}

/// One directory.
#[derive(Debug)]
pub(super) struct Node {
    pub parent: u32,
    pub name: Vec<u8>,
    pub fd: Option<Arc<OwnedFd>>,
    /// To be given at the end.
    pub attrs: Option<Attrs>,
    /// Made on the way to an entry: its attributes are not known yet.
    pub implicit: bool,
    /// Hides what is below.
    pub opaque: bool,
    /// Hides the directory below itself: nothing of that is taken over.
    pub fresh: bool,
    /// Removed.
    pub dead: bool,
    pub children: HashMap<Vec<u8>, u32>,
    pub own: HashMap<Vec<u8>, Own>,
}

impl Node {
    pub fn root(fd: OwnedFd) -> Self {
        Self {
            fd: Some(Arc::new(fd)),
            implicit: true,
            ..Self::new(ROOT, b"")
        }
    }

    pub fn new(parent: u32, name: &[u8]) -> Self {
        Self {
            parent,
            name: name.to_vec(),
            fd: None,
            attrs: None,
            implicit: false,
            opaque: false,
            fresh: false,
            dead: false,
            children: HashMap::new(),
            own: HashMap::new(),
        }
    }
}

/// What a component on the way turned out to be.
enum Step {
    Into(u32),
    Link(Vec<u8>),
    Missing,
}

impl DirWriter {
    pub(super) fn node(&self, id: u32) -> &Node {
        // Ids come from `add` only and nodes are never taken out.
        &self.nodes[id as usize]
    }

    pub(super) fn node_mut(&mut self, id: u32) -> &mut Node {
        &mut self.nodes[id as usize]
    }

    pub(super) fn child(&self, parent: u32, name: &[u8]) -> Option<u32> {
        self.node(parent).children.get(name).copied()
    }

    pub(super) fn own(&mut self, parent: u32, name: &[u8], what: Own) {
        let own = &mut self.node_mut(parent).own;
        match own.get_mut(name) {
            Some(known) => *known = what,
            None => {
                own.insert(name.to_vec(), what);
            }
        }
    }

    pub(super) fn owned(&self, parent: u32, name: &[u8]) -> Option<Own> {
        self.node(parent).own.get(name).copied()
    }

    pub(super) fn add(
        &mut self,
        parent: u32,
        name: &[u8],
        fd: Option<OwnedFd>,
        implicit: bool,
    ) -> u32 {
        let id = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        let mut node = Node::new(parent, name);
        node.implicit = implicit;
        self.nodes.push(node);
        if let Some(fd) = fd {
            self.keep(id, Arc::new(fd));
        }
        self.node_mut(parent).children.insert(name.to_vec(), id);
        id
    }

    fn keep(&mut self, id: u32, fd: Arc<OwnedFd>) {
        self.node_mut(id).fd = Some(fd);
        self.open.push_back(id);
        if self.open.len() > OPEN
            && let Some(oldest) = self.open.pop_front()
        {
            self.node_mut(oldest).fd = None;
        }
    }

    /// A descriptor of the directory.
    pub(super) fn fd(&mut self, id: u32) -> Result<Arc<OwnedFd>> {
        if let Some(fd) = &self.node(id).fd {
            return Ok(Arc::clone(fd));
        }
        let parent = self.fd(self.node(id).parent)?;
        let opened = self.open_directory(&parent, &self.node(id).name);
        let fd = Arc::new(opened.map_err(|e| call("openat", &self.path_of(id), e))?);
        self.keep(id, Arc::clone(&fd));
        Ok(fd)
    }

    pub(super) fn open_directory(&self, dir: &OwnedFd, name: &[u8]) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(dir, OsStr::from_bytes(name), flags, Mode::empty())
    }

    /// Its path from the root, without links.
    pub(super) fn path_of(&self, id: u32) -> EntryPath {
        let mut names = Vec::new();
        let mut at = id;
        while at != ROOT {
            names.push(self.node(at).name.clone());
            at = self.node(at).parent;
        }
        names.reverse();
        EntryPath::from_checked(names)
    }

    /// The directory that `path` is in; made where it is missing.
    pub(super) fn parent_of(&mut self, path: &EntryPath) -> Result<u32> {
        let components = path.components();
        let parents = components.get(..components.len().saturating_sub(1));
        self.directory(parents.unwrap_or_default())
    }

    /// The directory `path`; made where it is missing, in place of what is not one.
    pub(super) fn directory(&mut self, path: &[Vec<u8>]) -> Result<u32> {
        if let Some((last, id)) = &self.last
            && last == path
        {
            return Ok(*id);
        }
        let id = self.walk(path, true)?;
        let id = id.ok_or_else(|| Error::Layer {
            what: EntryPath::from_checked(path.to_vec()).to_string(),
            why: "not a directory",
        })?;
        self.last = Some((path.to_vec(), id));
        Ok(id)
    }

    /// The directory `path`, if there is one.
    pub(super) fn lookup(&mut self, path: &EntryPath) -> Result<Option<u32>> {
        self.walk(path.components(), false)
    }

    fn walk(&mut self, path: &[Vec<u8>], make: bool) -> Result<Option<u32>> {
        let mut at = ROOT;
        let mut links = 0;
        let mut rest: Vec<Vec<u8>> = path.iter().rev().cloned().collect();
        while let Some(name) = rest.pop() {
            if name == b".." {
                at = self.node(at).parent;
                continue;
            }
            let step = match self.child(at, &name) {
                Some(child) => Step::Into(child),
                None => self.step(at, &name, make)?,
            };
            match step {
                Step::Into(child) => {
                    if make {
                        self.own(at, &name, Own::Entry);
                    }
                    at = child;
                }
                Step::Missing => return Ok(None),
                Step::Link(target) => {
                    links += 1;
                    if links > LINKS {
                        return Err(Error::Layer {
                            what: EntryPath::from_checked(path.to_vec()).to_string(),
                            why: "more than 40 symbolic links on the way",
                        });
                    }
                    if target.starts_with(b"/") {
                        at = ROOT;
                    }
                    let parts = target.split(|&b| b == b'/').rev();
                    let parts = parts.filter(|p| !matches!(*p, b"" | b"."));
                    rest.extend(parts.map(<[u8]>::to_vec));
                }
            }
        }
        Ok(Some(at))
    }

    fn step(&mut self, at: u32, name: &[u8], make: bool) -> Result<Step> {
        let dir = self.fd(at)?;
        match self.open_directory(&dir, name) {
            Ok(fd) => return Ok(Step::Into(self.add(at, name, Some(fd), false))),
            Err(Errno::NOENT) if make => {
                return self.make_directory(at, &dir, name).map(Step::Into);
            }
            Err(Errno::NOENT) => return Ok(Step::Missing),
            Err(Errno::NOTDIR | Errno::LOOP) => {}
            Err(e) => return Err(call("openat", &self.path_of(at).join(name)?, e)),
        }
        match readlinkat(&dir, OsStr::from_bytes(name), Vec::new()) {
            Ok(target) => Ok(Step::Link(target.into_bytes())),
            Err(Errno::INVAL) if make => {
                let hidden = self.owned(at, name) == Some(Own::Whiteout);
                self.clear(at, name)?;
                let id = self.make_directory(at, &dir, name)?;
                let node = self.node_mut(id);
                (node.opaque, node.fresh) = (hidden, hidden);
                Ok(Step::Into(id))
            }
            Err(Errno::INVAL) => Ok(Step::Missing),
            Err(e) => Err(call("readlinkat", &self.path_of(at).join(name)?, e)),
        }
    }
}
