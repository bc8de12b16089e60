//! The sandbox: `/pause` and the namespaces of the pod.

use std::collections::BTreeMap;
use std::path::Path;

use cri_api::v1::{
    LinuxPodSandboxConfig, LinuxSandboxSecurityContext, NamespaceMode, NamespaceOption,
    PodSandboxConfig,
};
use spec::oci::{Cpu, Linux, Namespace, Process, Resources, Root, Spec, User, VERSION};

use super::mounts::{id_mappings, mount};
use super::{Host, IdMaps, Policy, cgroup, labels, namespace, resources, seccomp};
use crate::error::{Error, Result};

/// What a sandbox is made from.
#[derive(Clone, Copy, Debug)]
pub struct SandboxInput<'a> {
    /// Its id.
    pub id: &'a str,
    /// What was asked for.
    pub config: &'a PodSandboxConfig,
    /// The root file system with `/pause`.
    pub root: &'a Path,
    /// Where its control groups go.
    pub cgroup_parent: &'a str,
    /// The daemon's part.
    pub policy: &'a Policy,
    /// The machine's part.
    pub host: &'a Host,
}

/// How a pod shares namespaces.
#[derive(Clone, Debug, Default, serde::Deserialize, serde::Serialize)]
pub struct PodNamespaces {
    /// The machine's network.
    pub host_network: bool,
    /// The machine's IPC.
    pub host_ipc: bool,
    /// The machine's processes.
    pub host_pid: bool,
    /// A user namespace of its own, with these ids.
    pub user: Option<IdMaps>,
}

impl PodNamespaces {
    /// From what was asked for.
    ///
    /// # Errors
    /// A combination that cannot be.
    pub fn new(options: Option<&NamespaceOption>) -> Result<Self> {
        let nothing = NamespaceOption::default();
        let o = options.unwrap_or(&nothing);
        let user = match &o.userns_options {
            Some(u) if u.mode() == NamespaceMode::Pod => {
                let maps = IdMaps {
                    uids: id_mappings(&u.uids),
                    gids: id_mappings(&u.gids),
                };
                if maps.uids.is_empty() || maps.gids.is_empty() {
                    return Err(Error::invalid(
                        "userns_options: mode POD needs uids and gids",
                    ));
                }
                Some(maps)
            }
            Some(u) if u.mode() == NamespaceMode::Node => None,
            Some(u) => {
                let mode = u.mode().as_str_name();
                return Err(Error::invalid(format!(
                    "userns_options: mode {mode}: POD or NODE"
                )));
            }
            None => None,
        };
        for (what, mode) in [("network", o.network()), ("ipc", o.ipc())] {
            if !matches!(mode, NamespaceMode::Pod | NamespaceMode::Node) {
                let mode = mode.as_str_name();
                return Err(Error::invalid(format!(
                    "{what} namespace mode {mode}: POD or NODE"
                )));
            }
        }
        Ok(Self {
            host_network: o.network() == NamespaceMode::Node,
            host_ipc: o.ipc() == NamespaceMode::Node,
            host_pid: o.pid() == NamespaceMode::Node,
            user,
        })
    }

    fn of_sandbox(&self, host: &Host) -> Vec<Namespace> {
        let own = [
            ("mount", true),
            ("pid", !self.host_pid),
            ("network", !self.host_network),
            ("uts", !self.host_network),
            ("ipc", !self.host_ipc),
            ("user", self.user.is_some()),
            ("cgroup", host.cgroup_v2),
        ];
        own.iter()
            .filter(|(_, own)| *own)
            .map(|(kind, _)| namespace(kind, ""))
            .collect()
    }
}

/// The configuration of a sandbox, and what is worth a warning.
///
/// # Errors
/// What cannot be honoured.
pub fn sandbox(input: SandboxInput<'_>) -> Result<Spec> {
    let nothing = LinuxPodSandboxConfig::default();
    let linux = input.config.linux.as_ref().unwrap_or(&nothing);
    let no_context = LinuxSandboxSecurityContext::default();
    let security = linux.security_context.as_ref().unwrap_or(&no_context);
    let namespaces = PodNamespaces::new(security.namespace_options.as_ref())?;
    let maps = namespaces.user.clone().unwrap_or_default();
    let (label, mount_label) = labels::selinux(
        security.selinux_options.as_ref(),
        security.privileged,
        input.host,
    );
    let asked = seccomp::Asked {
        profile: security.seccomp.as_ref(),
        path: &security.seccomp_profile_path,
        privileged: security.privileged,
    };
    Ok(Spec {
        oci_version: VERSION.to_owned(),
        process: Some(process(security, label, input.host)?),
        root: Some(Root {
            path: input.root.to_string_lossy().into_owned(),
            readonly: true,
        }),
        hostname: if namespaces.host_network {
            String::new()
        } else {
            input.config.hostname.clone()
        },
        mounts: vec![
            mount("/proc", "proc", "proc", "nosuid,noexec,nodev"),
            mount(
                "/dev",
                "tmpfs",
                "tmpfs",
                "nosuid,strictatime,mode=755,size=64k",
            ),
        ],
        annotations: annotations(input.id, input.config, "sandbox"),
        linux: Some(Linux {
            uid_mappings: maps.uids,
            gid_mappings: maps.gids,
            sysctl: sysctls(linux, &namespaces, input.policy),
            resources: Some(Resources {
                cpu: Some(Cpu {
                    shares: Some(2),
                    ..Cpu::default()
                }),
                ..Resources::default()
            }),
            cgroups_path: cgroup::path(input.policy.driver, input.cgroup_parent, "", input.id)?,
            namespaces: namespaces.of_sandbox(input.host),
            seccomp: seccomp::filter(asked, &input.policy.seccomp, &[])?,
            mount_label,
            ..Linux::default()
        }),
        ..Spec::default()
    })
}

fn process(security: &LinuxSandboxSecurityContext, label: String, host: &Host) -> Result<Process> {
    let id = |given: Option<cri_api::v1::Int64Value>, what: &str| {
        let value = given.map_or(0, |v| v.value);
        u32::try_from(value)
            .map_err(|_| Error::invalid(format!("sandbox {what} {value}: not an id")))
    };
    let groups = security
        .supplemental_groups
        .iter()
        .filter_map(|&g| u32::try_from(g).ok());
    Ok(Process {
        args: vec!["/pause".to_owned()],
        cwd: "/".to_owned(),
        user: User {
            uid: id(security.run_as_user, "user")?,
            gid: id(security.run_as_group, "group")?,
            umask: None,
            additional_gids: groups.collect(),
        },
        no_new_privileges: true,
        oom_score_adj: Some(resources::oom_score_adj(-998, host)),
        selinux_label: label,
        ..Process::default()
    })
}

fn sysctls(
    linux: &LinuxPodSandboxConfig,
    namespaces: &PodNamespaces,
    policy: &Policy,
) -> BTreeMap<String, String> {
    let fits = |key: &&String| {
        let network = key.starts_with("net.") || key.starts_with("net/");
        !(network && namespaces.host_network)
    };
    let usual = policy.sysctls.iter().filter(|(key, _)| fits(key));
    let mut all: BTreeMap<String, String> = usual.map(|(k, v)| (k.clone(), v.clone())).collect();
    // What was asked for is never left out: the runtime refuses what would reach the machine.
    all.extend(linux.sysctls.iter().map(|(k, v)| (k.clone(), v.clone())));
    all
}

/// What other programs look for to know a pod's containers. A pod's own annotations are not
/// passed to the runtime: they would be instructions to it.
pub fn annotations(id: &str, config: &PodSandboxConfig, kind: &str) -> BTreeMap<String, String> {
    let metadata = config.metadata.clone().unwrap_or_default();
    [
        ("io.kubernetes.cri.container-type", kind.to_owned()),
        ("io.kubernetes.cri.sandbox-id", id.to_owned()),
        ("io.kubernetes.cri.sandbox-name", metadata.name),
        ("io.kubernetes.cri.sandbox-namespace", metadata.namespace),
        ("io.kubernetes.cri.sandbox-uid", metadata.uid),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect()
}
