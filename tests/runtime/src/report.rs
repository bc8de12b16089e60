//! What the probe saw inside a container.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::mountinfo::{self, Mount};

/// Names of capabilities by number (capabilities(7)), up to CAP_CHECKPOINT_RESTORE.
pub const CAPABILITIES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// The probe's report.
#[derive(Clone, Debug)]
pub struct Report(pub Value);

impl Report {
    /// Reads it.
    ///
    /// # Panics
    /// Where it is not the probe's output.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let value = serde_json::from_str(text);
        Self(value.unwrap_or_else(|e| panic!("the probe's report: {e}: {text}")))
    }

    /// A file of `/proc/self`, by its name there.
    ///
    /// # Panics
    /// Where the probe could not read it.
    #[must_use]
    pub fn file(&self, name: &str) -> &str {
        let file = self.0["files"][name].as_str();
        file.unwrap_or_else(|| panic!("the probe could not read {name}"))
    }

    /// A link of `/proc/self`, by its name there.
    #[must_use]
    pub fn link(&self, name: &str) -> &str {
        self.0["links"][name].as_str().unwrap_or("")
    }

    /// A line of `status`.
    ///
    /// # Panics
    /// Where there is no such line.
    #[must_use]
    pub fn status(&self, key: &str) -> &str {
        let lines = self.file("status").lines();
        let mut values = lines.filter_map(|l| l.strip_prefix(key)?.strip_prefix(':'));
        values
            .next()
            .unwrap_or_else(|| panic!("no {key} in status"))
            .trim()
    }

    /// Real, effective, saved, file-system id of `Uid` or `Gid`.
    #[must_use]
    pub fn ids(&self, key: &str) -> Vec<u32> {
        let words = self.status(key).split_whitespace();
        words.filter_map(|w| w.parse().ok()).collect()
    }

    /// One of the sets `CapInh`, `CapPrm`, `CapEff`, `CapBnd`, `CapAmb`, by name.
    ///
    /// # Panics
    /// Where it is no number.
    #[must_use]
    pub fn caps(&self, set: &str) -> BTreeSet<&'static str> {
        let bits = u64::from_str_radix(self.status(set), 16).expect("a hexadecimal number");
        let known = CAPABILITIES.iter().enumerate();
        known
            .filter(|(n, _)| bits & (1 << n) != 0)
            .map(|(_, name)| *name)
            .collect()
    }

    /// Soft and hard limit, by the name in `limits`.
    ///
    /// # Panics
    /// Where there is no such limit.
    #[must_use]
    pub fn limit(&self, name: &str) -> (String, String) {
        let mut lines = self.file("limits").lines();
        let line = lines.find_map(|l| l.strip_prefix(name));
        let mut words = line
            .unwrap_or_else(|| panic!("no {name} in limits"))
            .split_whitespace();
        let mut next = || words.next().unwrap_or("").to_owned();
        (next(), next())
    }

    /// All mounts.
    #[must_use]
    pub fn mounts(&self) -> Vec<Mount> {
        mountinfo::parse(self.file("mountinfo"))
    }

    /// The topmost mount at this path.
    ///
    /// # Panics
    /// Where nothing is mounted there.
    #[must_use]
    pub fn mount(&self, point: &str) -> Mount {
        let mounts = self.mounts();
        let found = mountinfo::at(&mounts, point).cloned();
        found.unwrap_or_else(|| panic!("nothing is mounted on {point}: {mounts:#?}"))
    }

    /// Open descriptors, with what they refer to.
    ///
    /// # Panics
    /// Where the report is not of the shape.
    #[must_use]
    pub fn fds(&self) -> Vec<(u64, String)> {
        let list = self.0["fds"].as_array().expect("descriptors");
        list.iter()
            .map(|f| {
                let number = f[0].as_u64().expect("a descriptor's number");
                (number, f[1].as_str().unwrap_or("").to_owned())
            })
            .collect()
    }

    /// The environment, `NAME=value`.
    #[must_use]
    pub fn env(&self) -> Vec<&str> {
        strings(&self.0["env"])
    }

    /// The value of one variable.
    #[must_use]
    pub fn var(&self, name: &str) -> Option<&str> {
        let mut all = self.env().into_iter();
        all.find_map(|v| v.strip_prefix(name)?.strip_prefix('='))
    }

    /// The arguments, program name included.
    #[must_use]
    pub fn args(&self) -> Vec<&str> {
        strings(&self.0["args"])
    }

    /// What getcwd(2) says.
    #[must_use]
    pub fn cwd(&self) -> &str {
        self.0["cwd"].as_str().unwrap_or("")
    }

    /// A file below /dev: `kind`, `rdev` (`major:minor`), `mode`, `uid`, `gid`, `target`.
    #[must_use]
    pub fn dev(&self, path: &str) -> &Value {
        &self.0["dev"][path]
    }

    /// Field `n` of `stat`, counted from 1 as proc_pid_stat(5) does; from 3 on.
    ///
    /// # Panics
    /// Where there are fewer.
    #[must_use]
    pub fn stat(&self, n: usize) -> i64 {
        let (_, rest) = self.file("stat").rsplit_once(") ").expect("a stat line");
        let field = rest.split_whitespace().nth(n - 3).expect("a field of stat");
        field.parse().expect("a number")
    }
}

fn strings(list: &Value) -> Vec<&str> {
    list.as_array()
        .map(|a| a.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default()
}
