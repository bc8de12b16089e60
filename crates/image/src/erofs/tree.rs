//! The names of a layer, in little memory: half a hundred bytes an entry.

use std::hash::{BuildHasher as _, RandomState};

/// The root.
pub(crate) const ROOT: u32 = 0;
/// No entry.
const NONE: u32 = u32::MAX;

/// What is under a name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// Was removed; nothing.
    Dead,
    Directory,
    /// Anything that has an inode already: the format's type of it.
    Other(u8),
    /// A symbolic link; its target is kept beside.
    Symlink,
    /// A mark that hides what is below.
    Whiteout,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Node {
    pub parent: u32,
    pub kind: Kind,
    /// Number of its inode, for what is not a directory.
    pub nid: u64,
    name_at: u32,
    name_len: u8,
    first: u32,
    next: u32,
}

/// All names.
#[derive(Debug)]
pub(crate) struct Tree {
    nodes: Vec<Node>,
    names: Vec<u8>,
    /// Open addressing over node numbers, by parent and name.
    table: Vec<u32>,
    /// Nobody can choose names that collide.
    random: RandomState,
}

impl Tree {
    pub fn new() -> Self {
        let root = Node {
            parent: ROOT,
            kind: Kind::Directory,
            nid: 0,
            name_at: 0,
            name_len: 0,
            first: NONE,
            next: NONE,
        };
        Self {
            nodes: vec![root],
            names: Vec::new(),
            table: vec![NONE; 1024],
            random: RandomState::new(),
        }
    }

    pub fn len(&self) -> u32 {
        u32::try_from(self.nodes.len()).unwrap_or(NONE)
    }

    pub fn node(&self, id: u32) -> &Node {
        // Numbers come from this tree only, and nodes are never taken out.
        &self.nodes[id as usize]
    }

    pub fn node_mut(&mut self, id: u32) -> &mut Node {
        &mut self.nodes[id as usize]
    }

    pub fn name(&self, id: u32) -> &[u8] {
        let node = self.node(id);
        let at = node.name_at as usize;
        self.names
            .get(at..at + usize::from(node.name_len))
            .unwrap_or_default()
    }

    /// Its path, components in order.
    pub fn path(&self, id: u32) -> Vec<Vec<u8>> {
        let mut names = Vec::new();
        let mut at = id;
        while at != ROOT {
            names.push(self.name(at).to_vec());
            at = self.node(at).parent;
        }
        names.reverse();
        names
    }

    fn slot(&self, parent: u32, name: &[u8]) -> usize {
        let hash = self.random.hash_one((parent, name));
        let mask = self.table.len() - 1;
        let mut at = usize::try_from(hash & mask as u64).unwrap_or(0);
        loop {
            match self.table.get(at) {
                Some(&id) if id != NONE => {
                    if self.node(id).parent == parent && self.name(id) == name {
                        return at;
                    }
                }
                _ => return at,
            }
            at = (at + 1) & mask;
        }
    }

    /// The entry of this name, if there is one.
    pub fn child(&self, parent: u32, name: &[u8]) -> Option<u32> {
        let id = self.table.get(self.slot(parent, name)).copied()?;
        (id != NONE && self.node(id).kind != Kind::Dead).then_some(id)
    }

    /// Puts something under a name; what was there must be dead or absent.
    pub fn put(&mut self, parent: u32, name: &[u8], kind: Kind, nid: u64) -> u32 {
        let slot = self.slot(parent, name);
        if let Some(&id) = self.table.get(slot)
            && id != NONE
        {
            let node = self.node_mut(id);
            (node.kind, node.nid) = (kind, nid);
            return id;
        }
        let id = self.len();
        let first = self.node(parent).first;
        self.nodes.push(Node {
            parent,
            kind,
            nid,
            name_at: u32::try_from(self.names.len()).unwrap_or(NONE),
            name_len: u8::try_from(name.len()).unwrap_or(u8::MAX),
            first: NONE,
            next: first,
        });
        self.names.extend_from_slice(name);
        self.node_mut(parent).first = id;
        if let Some(at) = self.table.get_mut(slot) {
            *at = id;
        }
        if self.nodes.len() * 2 > self.table.len() {
            self.grow();
        }
        id
    }

    fn grow(&mut self) {
        self.table = vec![NONE; self.table.len() * 2];
        for id in 1..self.len() {
            let slot = self.slot(self.node(id).parent, self.name(id));
            if let Some(at) = self.table.get_mut(slot) {
                *at = id;
            }
        }
    }

    /// What is in a directory, in no order.
    pub fn children(&self, id: u32) -> impl Iterator<Item = u32> + '_ {
        let mut at = self.node(id).first;
        std::iter::from_fn(move || {
            while at != NONE {
                let id = at;
                at = self.node(id).next;
                if self.node(id).kind != Kind::Dead {
                    return Some(id);
                }
            }
            None
        })
    }

    /// What is in a directory, by name.
    pub fn sorted(&self, id: u32) -> Vec<u32> {
        let mut all: Vec<u32> = self.children(id).collect();
        all.sort_unstable_by(|&a, &b| self.name(a).cmp(self.name(b)));
        all
    }

    /// Removes an entry and all below it; returns what had inodes.
    pub fn kill(&mut self, id: u32) -> Vec<Node> {
        let mut dead = Vec::new();
        let mut todo = vec![id];
        while let Some(id) = todo.pop() {
            todo.extend(self.children(id));
            let node = self.node_mut(id);
            dead.push(*node);
            node.kind = Kind::Dead;
        }
        dead
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_names() {
        let mut tree = Tree::new();
        let dirs: Vec<u32> = (0..50)
            .map(|i| tree.put(ROOT, format!("d{i}").as_bytes(), Kind::Directory, 0))
            .collect();
        for &dir in &dirs {
            for i in 0..100u64 {
                tree.put(dir, format!("f{i:02}").as_bytes(), Kind::Other(1), i);
            }
        }
        for &dir in &dirs {
            let names: Vec<&[u8]> = tree
                .sorted(dir)
                .into_iter()
                .map(|id| tree.name(id))
                .collect();
            assert_eq!(names.len(), 100);
            assert!(names.is_sorted());
            let found = tree.child(dir, b"f42").unwrap();
            assert_eq!(tree.node(found).nid, 42);
            assert!(tree.child(dir, b"f100").is_none());
        }
        assert_eq!(
            tree.path(tree.child(dirs[7], b"f01").unwrap()),
            [b"d7".to_vec(), b"f01".to_vec()]
        );
        assert_eq!(tree.kill(dirs[7]).len(), 101);
        assert!(tree.child(ROOT, b"d7").is_none());
        assert_eq!(tree.children(ROOT).count(), 49);
        let again = tree.put(ROOT, b"d7", Kind::Directory, 0);
        assert_eq!(again, dirs[7]);
        assert_eq!(tree.children(again).count(), 0);
        tree.put(again, b"f42", Kind::Other(1), 7);
        assert_eq!(tree.children(again).count(), 1);
    }
}
