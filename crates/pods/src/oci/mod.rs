//! The runtime configuration of sandboxes and containers, from what the CRI says.

pub mod capabilities;
pub mod cdi;
pub mod cgroup;
mod container;
mod devices;
pub mod host;
pub mod labels;
mod mounts;
pub mod resources;
mod sandbox;
pub mod seccomp;
pub mod signal;
pub mod user;

use std::path::PathBuf;

pub use container::{ContainerInput, container, stop_signal};
pub use host::Host;
pub use mounts::Asked as AskedMount;
pub use sandbox::{PodNamespaces, SandboxInput, sandbox};
use spec::oci::{IdMapping, Namespace, Rlimit};

/// What the daemon's configuration decides for every container.
#[derive(Clone, Debug)]
pub struct Policy {
    /// What a container gets that asks for nothing.
    pub capabilities: u64,
    /// The filter called `RuntimeDefault`.
    pub seccomp: ::seccomp::profile::Template,
    /// The AppArmor profile called `RuntimeDefault`.
    pub apparmor: String,
    /// Who makes control groups.
    pub driver: cgroup::Driver,
    /// Most tasks in a container; 0 is no limit.
    pub pids_limit: i64,
    /// Where CDI files lie.
    pub cdi_dirs: Vec<PathBuf>,
    /// Limits of processes, by their name in lower case (`nofile`).
    pub ulimits: Vec<Rlimit>,
    /// Sysctls of every pod that has the namespace for them.
    pub sysctls: std::collections::BTreeMap<String, String>,
    /// Privileged containers get no devices of the machine.
    pub privileged_without_devices: bool,
    /// Version 2 groups may be written to inside containers.
    pub cgroup_writable: bool,
}

fn namespace(kind: &str, path: &str) -> Namespace {
    Namespace {
        kind: kind.to_owned(),
        path: path.to_owned(),
    }
}

/// The ids of a user namespace.
#[derive(Clone, Debug, Default, serde::Deserialize, serde::Serialize)]
pub struct IdMaps {
    /// Of users.
    pub uids: Vec<IdMapping>,
    /// Of groups.
    pub gids: Vec<IdMapping>,
}

/// Limits of processes, not above those that we have ourselves and could not raise.
fn clamp(wanted: &[Rlimit], host: &Host) -> Vec<Rlimit> {
    wanted
        .iter()
        .map(|limit| {
            let own = own_hard_limit(&limit.kind).filter(|_| !host.may_lower_oom_score);
            let hard = own.map_or(limit.hard, |own| limit.hard.min(own));
            Rlimit {
                kind: limit.kind.clone(),
                hard,
                soft: limit.soft.min(hard),
            }
        })
        .collect()
}

fn own_hard_limit(kind: &str) -> Option<u64> {
    use rustix::process::{Resource, getrlimit};
    let which = match kind {
        "RLIMIT_AS" => Resource::As,
        "RLIMIT_CORE" => Resource::Core,
        "RLIMIT_CPU" => Resource::Cpu,
        "RLIMIT_DATA" => Resource::Data,
        "RLIMIT_FSIZE" => Resource::Fsize,
        "RLIMIT_LOCKS" => Resource::Locks,
        "RLIMIT_MEMLOCK" => Resource::Memlock,
        "RLIMIT_MSGQUEUE" => Resource::Msgqueue,
        "RLIMIT_NICE" => Resource::Nice,
        "RLIMIT_NOFILE" => Resource::Nofile,
        "RLIMIT_NPROC" => Resource::Nproc,
        "RLIMIT_RSS" => Resource::Rss,
        "RLIMIT_RTPRIO" => Resource::Rtprio,
        "RLIMIT_RTTIME" => Resource::Rttime,
        "RLIMIT_SIGPENDING" => Resource::Sigpending,
        "RLIMIT_STACK" => Resource::Stack,
        _ => return None,
    };
    getrlimit(which).maximum
}
