//! The configuration of a container, made from the command line.

use std::path::Path;

use anyhow::{Context, Result};
use seccomp::profile::Template;
use spec::oci::{
    Capabilities, Cpu, DeviceRule, IdMapping, Linux, Memory, Mount, Namespace, Pids, Resources,
    Root, Seccomp, Spec,
};

use super::args::{Filter, Limits, Settings};
use super::rootless;
use super::units;

/// First host id of the range that `--userns` maps; systemd sets this range aside for
/// containers (systemd's UIDS-GIDS document).
pub const USERNS_BASE: u32 = 524_288;
/// How many ids `--userns` maps.
pub const USERNS_SIZE: u32 = 65_536;

/// What an unprivileged service needs and podman and CRI-O grant by default.
const CAPABILITIES: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// A network namespace for the container.
#[derive(Clone, Debug, Default)]
pub enum NetworkNamespace {
    /// A new one, with loopback.
    #[default]
    New,
    /// This one.
    Join(String),
    /// The machine's.
    Host,
}

/// The map of `--userns`.
pub const fn userns_map() -> IdMapping {
    IdMapping {
        container_id: 0,
        host_id: USERNS_BASE,
        size: USERNS_SIZE,
    }
}

/// What every container on `root` gets: mounts, limits, capabilities, filter, namespaces. What
/// its program is comes from elsewhere.
pub fn base_spec(settings: &Settings, root: &Path, network: &NetworkNamespace) -> Result<Spec> {
    let mut spec = spec::default_spec(false);
    without_group_of_terminals(&mut spec);
    spec.root = Some(Root {
        path: root.display().to_string(),
        readonly: settings.read_only,
    });
    let granted = capabilities(settings);
    let filter = filter(&settings.security.filter, &granted)?;
    if let Some(process) = &mut spec.process {
        process.terminal = settings.terminal;
        process.no_new_privileges = settings.security.no_new_privileges;
        process.apparmor_profile = settings.security.apparmor.clone().unwrap_or_default();
        process.rlimits.clear();
        process.capabilities = Some(Capabilities {
            bounding: granted.clone(),
            effective: granted.clone(),
            permitted: granted,
            ..Capabilities::default()
        });
    }
    if let Some(size) = settings.limits.shm
        && let Some(shm) = spec.mounts.iter_mut().find(|m| m.destination == "/dev/shm")
    {
        shm.options.retain(|o| !o.starts_with("size="));
        shm.options.push(format!("size={size}"));
    }
    if let Some(linux) = &mut spec.linux {
        linux.seccomp = filter;
        linux.resources = Some(resources(&settings.limits));
        isolate(linux, settings, network);
    }
    if settings.userns && !matches!(network, NetworkNamespace::New) {
        // A sysfs of one's own needs a network namespace that one's user namespace owns.
        for mount in spec.mounts.iter_mut().filter(|m| m.kind == "sysfs") {
            *mount = bind(
                "/sys",
                "/sys",
                &["rbind", "nosuid", "noexec", "nodev", "ro"],
            );
        }
    }
    Ok(spec)
}

fn isolate(linux: &mut Linux, settings: &Settings, network: &NetworkNamespace) {
    let namespace = |kind: &str, path: &str| Namespace {
        kind: kind.to_owned(),
        path: path.to_owned(),
    };
    let own = ["pid", "ipc", "uts", "mount", "cgroup"];
    linux.namespaces = own.map(|kind| namespace(kind, "")).to_vec();
    match network {
        NetworkNamespace::New => linux.namespaces.push(namespace("network", "")),
        NetworkNamespace::Join(path) => linux.namespaces.push(namespace("network", path)),
        NetworkNamespace::Host => {}
    }
    if settings.userns {
        linux.namespaces.push(namespace("user", ""));
        linux.uid_mappings = vec![userns_map()];
        linux.gid_mappings = vec![userns_map()];
    }
}

/// The usual ones, less those dropped, and those added.
fn capabilities(settings: &Settings) -> Vec<String> {
    let all = runtime::identity::cap_names(u64::MAX);
    let has = |list: &[String], name: &str| list.iter().any(|n| n == name || n == "ALL");
    let usual = |name: &str| CAPABILITIES.contains(&name) && !has(&settings.cap_drop, name);
    let named = |list: &[String], name: &str| list.iter().any(|n| n == name);
    all.into_iter()
        .filter(|name| {
            // What is named counts more than ALL.
            let dropped = named(&settings.cap_drop, name);
            let added = named(&settings.cap_add, name) || has(&settings.cap_add, name) && !dropped;
            added || usual(name)
        })
        .map(str::to_owned)
        .collect()
}

fn filter(filter: &Filter, granted: &[String]) -> Result<Option<Seccomp>> {
    let template = match filter {
        Filter::Unconfined => return Ok(None),
        Filter::Default => Template::default_profile().context("the default seccomp profile")?,
        Filter::File(path) => {
            let what = || format!("seccomp profile {}", path.display());
            Template::parse(&std::fs::read(path).with_context(what)?).with_context(what)?
        }
    };
    Ok(Some(template.resolve(granted)))
}

fn resources(limits: &Limits) -> Resources {
    Resources {
        devices: default_devices(),
        // The same figure for memory and swap together: a limit that swapping cannot evade.
        memory: limits.memory.map(|limit| Memory {
            limit: Some(limit),
            swap: Some(limit),
            ..Memory::default()
        }),
        cpu: limits.cpu_quota.map(|quota| Cpu {
            quota: Some(quota),
            period: Some(units::PERIOD),
            ..Cpu::default()
        }),
        pids: limits.pids.map(|limit| Pids { limit: Some(limit) }),
        ..Resources::default()
    }
}

/// Nothing but what every container has anyhow.
fn default_devices() -> Vec<DeviceRule> {
    vec![DeviceRule {
        access: "rwm".to_owned(),
        ..DeviceRule::default()
    }]
}

/// The document for `hullctl run host`.
pub fn host_spec(settings: &Settings, root: &Path, network: &NetworkNamespace) -> Result<Spec> {
    let mut spec = base_spec(settings, root, network)?;
    spec.hostname = settings
        .hostname
        .clone()
        .unwrap_or_else(|| "hull".to_owned());
    spec.mounts.extend(scratch_mounts());
    if let Some(process) = &mut spec.process {
        process.args.clone_from(&settings.command);
        process.env = vec![
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
            "HOME=/root".to_owned(),
        ];
        process.env.extend(own_variables(settings));
        process.cwd = settings.workdir.clone().unwrap_or_else(|| "/".to_owned());
    }
    Ok(spec)
}

/// Terminals are of the group tty where there is one; a user without subordinate ids has none.
fn without_group_of_terminals(spec: &mut Spec) {
    const TTY: u32 = 5;
    if !rootless::has_group(TTY) {
        let wanted = format!("gid={TTY}");
        for mount in &mut spec.mounts {
            mount.options.retain(|option| *option != wanted);
        }
    }
}

/// Variables that are not the image's: who we are, the terminal, what the command line sets.
pub fn own_variables(settings: &Settings) -> Vec<String> {
    let mut env = vec!["container=hull".to_owned()];
    if settings.terminal {
        let term = std::env::var("TERM").unwrap_or_else(|_| "xterm".to_owned());
        env.push(format!("TERM={term}"));
    }
    env.extend(settings.env.iter().cloned());
    env
}

/// A bind mount.
pub fn bind(source: &str, destination: &str, options: &[&str]) -> Mount {
    Mount {
        destination: destination.to_owned(),
        kind: "bind".to_owned(),
        source: source.to_owned(),
        options: options.iter().map(|&o| o.to_owned()).collect(),
        ..Mount::default()
    }
}

/// Places that programs expect to write to and that must not show the machine's own state, or
/// that stay writable where the root is not.
pub fn scratch_mounts() -> [Mount; 2] {
    let tmpfs = |destination: &str, mode: &str| Mount {
        destination: destination.to_owned(),
        kind: "tmpfs".to_owned(),
        source: "tmpfs".to_owned(),
        options: vec!["nosuid".to_owned(), "nodev".to_owned(), mode.to_owned()],
        ..Mount::default()
    };
    [tmpfs("/run", "mode=755"), tmpfs("/tmp", "mode=1777")]
}
