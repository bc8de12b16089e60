//! Namespaces and id maps.

use std::path::PathBuf;

use crate::oci::IdMapping;

/// A kind of namespace (namespaces(7)).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum NamespaceKind {
    /// Users and groups; first, because the others belong to one.
    User,
    /// Control-group root.
    Cgroup,
    /// System V IPC and POSIX message queues.
    Ipc,
    /// Host name.
    Uts,
    /// Network.
    Network,
    /// Process ids.
    Pid,
    /// Mounts.
    Mount,
    /// Boot-time and monotonic clocks.
    Time,
}

impl NamespaceKind {
    /// All kinds, in the order in which they are joined.
    pub const ALL: [Self; 8] = [
        Self::User,
        Self::Cgroup,
        Self::Ipc,
        Self::Uts,
        Self::Network,
        Self::Pid,
        Self::Mount,
        Self::Time,
    ];

    /// The word in `config.json`.
    #[must_use]
    pub const fn oci_name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Cgroup => "cgroup",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::Network => "network",
            Self::Pid => "pid",
            Self::Mount => "mount",
            Self::Time => "time",
        }
    }

    /// The file in `/proc/PID/ns`.
    #[must_use]
    pub const fn proc_name(self) -> &'static str {
        match self {
            Self::Network => "net",
            Self::Mount => "mnt",
            other => other.oci_name(),
        }
    }

    /// The CLONE_NEW… flag (clone(2)).
    #[must_use]
    pub const fn clone_flag(self) -> u64 {
        match self {
            Self::User => 0x1000_0000,
            Self::Cgroup => 0x0200_0000,
            Self::Ipc => 0x0800_0000,
            Self::Uts => 0x0400_0000,
            Self::Network => 0x4000_0000,
            Self::Pid => 0x2000_0000,
            Self::Mount => 0x0002_0000,
            Self::Time => 0x0000_0080,
        }
    }
}

/// How the container comes by one namespace.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum NamespaceMode {
    /// The runtime's own.
    #[default]
    Inherit,
    /// A new one.
    New,
    /// The one at this absolute path.
    Join(PathBuf),
}

/// The mode of every kind.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Namespaces {
    modes: [NamespaceMode; 8],
}

impl Namespaces {
    /// The mode of one kind.
    #[must_use]
    pub fn get(&self, kind: NamespaceKind) -> &NamespaceMode {
        &self.modes[kind as usize]
    }

    /// Sets the mode of one kind.
    pub fn set(&mut self, kind: NamespaceKind, mode: NamespaceMode) {
        self.modes[kind as usize] = mode;
    }

    /// Whether this kind is made new.
    #[must_use]
    pub fn is_new(&self, kind: NamespaceKind) -> bool {
        *self.get(kind) == NamespaceMode::New
    }

    /// Whether this kind is the runtime's own.
    #[must_use]
    pub fn is_inherited(&self, kind: NamespaceKind) -> bool {
        *self.get(kind) == NamespaceMode::Inherit
    }

    /// Kinds made new, in joining order.
    pub fn new_kinds(&self) -> impl Iterator<Item = NamespaceKind> + '_ {
        NamespaceKind::ALL.into_iter().filter(|&k| self.is_new(k))
    }

    /// Kinds joined and their paths, in joining order.
    pub fn joined(&self) -> impl Iterator<Item = (NamespaceKind, &PathBuf)> {
        NamespaceKind::ALL
            .into_iter()
            .filter_map(|k| match self.get(k) {
                NamespaceMode::Join(path) => Some((k, path)),
                _ => None,
            })
    }
}

/// Clocks a time namespace can offset.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Clock {
    /// CLOCK_MONOTONIC.
    Monotonic,
    /// CLOCK_BOOTTIME.
    Boottime,
}

impl Clock {
    /// The word in `/proc/PID/timens_offsets` and in `config.json`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Monotonic => "monotonic",
            Self::Boottime => "boottime",
        }
    }
}

/// uid and gid maps.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct IdMaps {
    /// User ids.
    pub uids: Vec<IdMapping>,
    /// Group ids.
    pub gids: Vec<IdMapping>,
}

impl IdMaps {
    /// No map at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.uids.is_empty() && self.gids.is_empty()
    }

    /// The id outside for an id inside, if mapped.
    #[must_use]
    pub fn to_host(maps: &[IdMapping], inside: u32) -> Option<u32> {
        maps.iter().find_map(|m| {
            let offset = inside.checked_sub(m.container_id)?;
            if offset < m.size {
                m.host_id.checked_add(offset)
            } else {
                None
            }
        })
    }
}
