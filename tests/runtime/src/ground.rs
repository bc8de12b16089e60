//! The ground that the tests run on: which control groups, by whom, with which rights.

use std::path::PathBuf;
use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::config;

/// The variable that names it.
pub const GROUND: &str = "HULL_GROUND";

/// Where the suite runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ground {
    /// Root on this machine, whatever its control groups are.
    Host,
    /// The same, while hull is told that kernel calls with a fallback are missing: all (`old`), or
    /// one (`old-CALL`).
    Old,
    /// Root on a machine with the version 2 tree only, written to by the runtime.
    V2,
    /// The same below systemd, which the runtime asks for scopes.
    Systemd,
    /// A user with subordinate ids and a delegated part of the version 2 tree.
    Rootless,
}

/// What [`GROUND`] says.
fn given() -> &'static str {
    static FOUND: OnceLock<String> = OnceLock::new();
    FOUND.get_or_init(|| match std::env::var(GROUND) {
        Ok(name) if !name.is_empty() => name,
        _ => "host".to_owned(),
    })
}

/// The ground that [`GROUND`] names; [`Ground::Host`] where it is not set.
///
/// # Panics
/// Where it is set to something else.
pub fn ground() -> Ground {
    match given() {
        "host" => Ground::Host,
        "v2" => Ground::V2,
        "systemd" => Ground::Systemd,
        "rootless" => Ground::Rootless,
        old if old == "old" || old.starts_with("old-") => Ground::Old,
        other => panic!("{GROUND}={other}: not host, old, old-CALL, v2, systemd or rootless"),
    }
}

impl Ground {
    /// Its word in [`GROUND`] and in the table of deviations.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Old => given(),
            Self::V2 => "v2",
            Self::Systemd => "systemd",
            Self::Rootless => "rootless",
        }
    }

    /// What the runtime finds in its environment.
    #[must_use]
    pub fn environment(self) -> Option<(&'static str, &'static str)> {
        let calls = given().strip_prefix("old-").unwrap_or("all");
        (self == Self::Old).then_some(("HULL_FAKE_ENOSYS", calls))
    }

    /// Whether hull is told that this kernel call is missing.
    #[must_use]
    pub fn lacks(self, call: &str) -> bool {
        self.environment()
            .is_some_and(|(_, calls)| calls == "all" || calls == call)
    }

    /// Global arguments of the runtime.
    #[must_use]
    pub fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Systemd => &["--systemd-cgroup"],
            _ => &[],
        }
    }

    /// `linux.cgroupsPath` for a name.
    #[must_use]
    pub fn cgroups_path(self, name: &str) -> String {
        match self {
            Self::Host | Self::Old | Self::V2 => format!("/{name}"),
            Self::Systemd => format!("system.slice:suite:{name}"),
            Self::Rootless => format!("{}/{name}", delegated()),
        }
    }

    /// Makes the plain configuration one that works here.
    pub fn adapt(self, c: &mut Value) {
        if self != Self::Rootless {
            return;
        }
        config::ns(c, "user");
        let map = |own: u32| {
            json!([
                {"containerID": 0, "hostID": own, "size": 1},
                {"containerID": 1, "hostID": SUBORDINATE.0, "size": SUBORDINATE.1}
            ])
        };
        c["linux"]["uidMappings"] = map(rustix::process::getuid().as_raw());
        c["linux"]["gidMappings"] = map(rustix::process::getgid().as_raw());
    }
}

/// The first of the user's subordinate ids and how many there are, as tests/vm sets them up.
pub const SUBORDINATE: (u32, u32) = (200_000, 65_536);

/// The part of the version 2 tree that was given to us: we run in a leaf of it.
fn delegated() -> String {
    let text = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = text.lines().find_map(|l| l.strip_prefix("0::"));
    let own = PathBuf::from(own.unwrap_or("/"));
    let parent = own.parent().unwrap_or(&own);
    parent
        .display()
        .to_string()
        .trim_end_matches('/')
        .to_owned()
}
