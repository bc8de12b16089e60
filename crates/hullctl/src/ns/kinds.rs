//! The kinds of namespaces as the command line names them.

use spec::plan::NamespaceKind;

/// What one kind is called on the command line.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// The kind.
    pub kind: NamespaceKind,
    /// The long option of unshare and nsenter.
    pub long: &'static str,
    /// The short one.
    pub short: char,
    /// What it keeps apart.
    pub keeps: &'static str,
}

/// All of them, in the order of unshare(1).
pub const KINDS: [Kind; 8] = [
    entry(NamespaceKind::Mount, "mount", 'm', "mounts"),
    entry(NamespaceKind::Uts, "uts", 'u', "host and domain name"),
    entry(
        NamespaceKind::Ipc,
        "ipc",
        'i',
        "System V IPC, message queues",
    ),
    entry(
        NamespaceKind::Network,
        "net",
        'n',
        "interfaces, addresses, ports",
    ),
    entry(NamespaceKind::Pid, "pid", 'p', "process ids"),
    entry(
        NamespaceKind::User,
        "user",
        'U',
        "users, groups, capabilities",
    ),
    entry(
        NamespaceKind::Cgroup,
        "cgroup",
        'C',
        "the root of control groups",
    ),
    entry(
        NamespaceKind::Time,
        "time",
        'T',
        "boot-time and monotonic clocks",
    ),
];

const fn entry(kind: NamespaceKind, long: &'static str, short: char, keeps: &'static str) -> Kind {
    Kind {
        kind,
        long,
        short,
        keeps,
    }
}

/// The kind with this name, as the option or the file in /proc has it.
pub fn by_name(name: &str) -> Option<NamespaceKind> {
    let found = KINDS
        .iter()
        .find(|k| k.long == name || k.kind.proc_name() == name || k.kind.oci_name() == name);
    found.map(|k| k.kind)
}

/// The file of a process's namespace.
pub fn path_of(pid: i32, kind: NamespaceKind) -> String {
    format!("/proc/{pid}/ns/{}", kind.proc_name())
}

/// The inode in `net:[4026531840]`, which is what a namespace is known by.
pub fn inode_in(link: &str) -> Option<u64> {
    link.split_once(":[")?.1.strip_suffix(']')?.parse().ok()
}

/// The inode of a process's namespace; `None` where it has ended or is out of sight.
pub fn inode_of(pid: i32, kind: NamespaceKind) -> Option<u64> {
    let link = std::fs::read_link(path_of(pid, kind)).ok()?;
    inode_in(&link.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        assert_eq!(by_name("mnt"), Some(NamespaceKind::Mount));
        assert_eq!(by_name("mount"), Some(NamespaceKind::Mount));
        assert_eq!(by_name("network"), Some(NamespaceKind::Network));
        assert_eq!(by_name("m"), None);
        assert_eq!(inode_in("net:[4026531840]"), Some(4_026_531_840));
        assert_eq!(inode_in("net:4026531840"), None);
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(inode_of(own, NamespaceKind::User).is_some());
    }
}
