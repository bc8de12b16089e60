//! Which namespace hangs below which.

use std::collections::BTreeSet;

use super::args::Tree;
use super::collect::{Collected, Namespace};

/// A row: the namespace, and what is drawn before its name.
#[derive(Debug)]
pub struct Row<'a> {
    /// The namespace.
    pub namespace: &'a Namespace,
    /// The process whose columns are shown.
    pub process: Option<i32>,
    /// Branches, such as `│ └─`.
    pub branch: String,
}

/// Without branches.
pub fn flat<'a>(shown: &[&'a Namespace]) -> Vec<Row<'a>> {
    let row = |namespace: &&'a Namespace| Row {
        namespace,
        process: namespace.pids.first().copied(),
        branch: String::new(),
    };
    shown.iter().map(row).collect()
}

/// With branches.
pub fn below<'a>(shown: &[&'a Namespace], by: Tree, all: &Collected) -> Vec<Row<'a>> {
    let inodes: BTreeSet<u64> = shown.iter().map(|n| n.inode).collect();
    let parent = |n: &Namespace| {
        let parent = match by {
            Tree::Parent => n.parent,
            Tree::Owner => n.owner.filter(|&owner| owner != n.inode),
            Tree::Process | Tree::Container => parent_by_process(n, all),
        };
        parent.filter(|p| inodes.contains(p))
    };
    let mut rows = Vec::new();
    let roots: Vec<&Namespace> = shown
        .iter()
        .copied()
        .filter(|n| parent(n).is_none())
        .collect();
    for root in roots {
        rows.push(Row {
            namespace: root,
            process: root.pids.first().copied(),
            branch: String::new(),
        });
        children(shown, root, "", &parent, &mut rows);
    }
    rows
}

/// The namespace of the same kind that the parent of the first process is in.
fn parent_by_process(namespace: &Namespace, all: &Collected) -> Option<u64> {
    let first = all.processes.get(namespace.pids.first()?)?;
    let same_kind = |n: &&Namespace| n.kind == namespace.kind && n.inode != namespace.inode;
    let of_parent = all.namespaces.iter().filter(same_kind);
    let mut of_parent = of_parent.filter(|n| n.pids.binary_search(&first.stat.ppid).is_ok());
    of_parent.next().map(|n| n.inode)
}

fn children<'a>(
    shown: &[&'a Namespace],
    above: &Namespace,
    indent: &str,
    parent: &dyn Fn(&Namespace) -> Option<u64>,
    rows: &mut Vec<Row<'a>>,
) {
    let below: Vec<&'a Namespace> = shown
        .iter()
        .copied()
        .filter(|n| parent(n) == Some(above.inode))
        .collect();
    for (at, child) in below.iter().enumerate() {
        // Somebody may change parents while we look: never go round in circles.
        if rows.iter().any(|r| r.namespace.inode == child.inode) {
            continue;
        }
        let last = at + 1 == below.len();
        rows.push(Row {
            namespace: child,
            process: child.pids.first().copied(),
            branch: format!("{indent}{}", if last { "└─" } else { "├─" }),
        });
        let deeper = format!("{indent}{}", if last { "  " } else { "│ " });
        children(shown, child, &deeper, parent, rows);
    }
}
