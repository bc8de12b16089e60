//! The columns.

use spec::plan::NamespaceKind;

use super::super::args::user_name;
use super::super::kinds::path_of;
use super::collect::{Collected, Namespace};
use super::netnsid;
use crate::table::Table;

/// A column.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Column {
    /// Inode.
    Ns,
    /// Kind.
    Type,
    /// File in /proc.
    Path,
    /// Number of processes.
    Nprocs,
    /// The first process.
    Pid,
    /// Its parent.
    Ppid,
    /// Its command line.
    Command,
    /// Its user.
    Uid,
    /// The user's name.
    User,
    /// Number that the network code here knows it by.
    Netnsid,
    /// Files it is bound to.
    Nsfs,
    /// Parent.
    Pns,
    /// Owner.
    Ons,
    /// The container of the first process.
    Container,
}

/// All, in the order of lsns.
pub const ALL: [Column; 14] = [
    Column::Ns,
    Column::Type,
    Column::Path,
    Column::Nprocs,
    Column::Pid,
    Column::Ppid,
    Column::Command,
    Column::Uid,
    Column::User,
    Column::Netnsid,
    Column::Nsfs,
    Column::Pns,
    Column::Ons,
    Column::Container,
];

impl Column {
    /// Its heading, and what it shows.
    pub const fn heading(self) -> (&'static str, &'static str) {
        match self {
            Self::Ns => ("NS", "inode number, by which a namespace is known"),
            Self::Type => ("TYPE", "kind of namespace"),
            Self::Path => ("PATH", "its file in /proc"),
            Self::Nprocs => ("NPROCS", "number of processes in it"),
            Self::Pid => ("PID", "lowest pid in it"),
            Self::Ppid => ("PPID", "parent of that process"),
            Self::Command => ("COMMAND", "command line of that process"),
            Self::Uid => ("UID", "user of that process"),
            Self::User => ("USER", "name of that user"),
            Self::Netnsid => ("NETNSID", "number that this network namespace has for it"),
            Self::Nsfs => ("NSFS", "files that it is bound to"),
            Self::Pns => ("PNS", "parent namespace (pid and user)"),
            Self::Ons => ("ONS", "user namespace that owns it"),
            Self::Container => (
                "CONTAINER",
                "container of that process, pod/container in a pod",
            ),
        }
    }

    /// Whether its cells are numbers.
    pub const fn is_number(self) -> bool {
        matches!(
            self,
            Self::Ns | Self::Nprocs | Self::Pid | Self::Ppid | Self::Uid | Self::Pns | Self::Ons
        )
    }

    /// The cell; `None` where there is nothing to show. Several files are separated by newlines.
    pub fn text(self, namespace: &Namespace, all: &Collected) -> Option<String> {
        self.text_of(namespace, namespace.pids.first().copied(), all)
    }

    /// The same, with another process in it than the first.
    pub fn text_of(
        self,
        namespace: &Namespace,
        first: Option<i32>,
        all: &Collected,
    ) -> Option<String> {
        let process = first.and_then(|pid| all.processes.get(&pid));
        let uid = process.map(|p| p.uid).or(namespace.made_by);
        match self {
            Self::Ns => Some(namespace.inode.to_string()),
            Self::Type => Some(namespace.kind.proc_name().to_owned()),
            Self::Path => first.map(|pid| path_of(pid, namespace.kind)),
            Self::Nprocs => Some(namespace.pids.len().to_string()),
            Self::Pid => first.map(|pid| pid.to_string()),
            Self::Ppid => process.map(|p| p.stat.ppid.to_string()),
            Self::Command => first.map(crate::proc::command_line),
            Self::Uid => uid.map(|uid| uid.to_string()),
            Self::User => uid.map(|uid| user_name(uid).unwrap_or_else(|| uid.to_string())),
            Self::Netnsid if namespace.kind != NamespaceKind::Network => None,
            Self::Netnsid => Some(netnsid::of(namespace)),
            Self::Nsfs => (!namespace.files.is_empty()).then(|| namespace.files.join("\n")),
            Self::Pns => namespace.parent.map(|inode| inode.to_string()),
            Self::Ons => namespace.owner.map(|inode| inode.to_string()),
            Self::Container => first.and_then(|pid| all.container_of.get(&pid).cloned()),
        }
    }
}

/// The column of this name, in small or capital letters.
pub fn by_name(name: &str) -> Option<Column> {
    let upper = name.trim().to_ascii_uppercase();
    ALL.into_iter().find(|c| c.heading().0 == upper)
}

/// What is shown unless other columns are asked for.
pub fn usual(kinds: &[NamespaceKind]) -> Vec<Column> {
    let mut columns = vec![
        Column::Ns,
        Column::Type,
        Column::Nprocs,
        Column::Pid,
        Column::User,
    ];
    if kinds == [NamespaceKind::Network] {
        columns.extend([Column::Netnsid, Column::Nsfs]);
    }
    columns.extend([Column::Container, Column::Command]);
    columns
}

/// What is shown of the processes in one namespace, unless other columns are asked for.
pub const OF_PROCESSES: [Column; 4] = [Column::Pid, Column::Ppid, Column::User, Column::Command];

/// The list of columns.
pub fn help() -> String {
    let mut table = Table::new(["COLUMN", "SHOWS"]);
    for column in ALL {
        let (name, shows) = column.heading();
        table.row([name, shows]);
    }
    table.columns()
}
