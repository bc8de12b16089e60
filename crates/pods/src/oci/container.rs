//! A container of a pod.

use std::path::Path;

use cri_api::v1::{
    ContainerConfig, LinuxContainerConfig, LinuxContainerResources, LinuxContainerSecurityContext,
    NamespaceMode, PodSandboxConfig,
};
use image::document::RunConfig;
use spec::oci::{Capabilities, Linux, Mount, Namespace, Process, Root, Spec, User, VERSION};

use super::devices::Devices;
use super::mounts::{self, Usual};
use super::sandbox::annotations;
use super::{
    Host, PodNamespaces, Policy, capabilities, cdi, cgroup, clamp, labels, namespace, resources,
    seccomp, signal,
};
use crate::error::{Error, Result};

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// What a container is made from.
#[derive(Clone, Copy, Debug)]
pub struct ContainerInput<'a> {
    /// Its id.
    pub id: &'a str,
    /// Its pod's.
    pub pod_id: &'a str,
    /// What was asked for.
    pub config: &'a ContainerConfig,
    /// What was asked for the pod.
    pub pod: &'a PodSandboxConfig,
    /// The pod's namespaces.
    pub namespaces: &'a PodNamespaces,
    /// The pod's `/pause`.
    pub pause: i32,
    /// The container whose processes are shared.
    pub target: Option<i32>,
    /// The image's part.
    pub image: &'a RunConfig,
    /// The root file system.
    pub root: &'a Path,
    /// As whom.
    pub user: &'a User,
    /// The pod's directory: `resolv.conf`, `hostname`, `hosts`, `shm`.
    pub pod_dir: &'a Path,
    /// What was asked for, with image volumes mounted.
    pub mounts: &'a [mounts::Asked<'a>],
    /// Where its control groups go.
    pub cgroup_parent: &'a str,
    /// The daemon's part.
    pub policy: &'a Policy,
    /// The machine's part.
    pub host: &'a Host,
}

/// The signal that asks a container to end.
pub fn stop_signal(config: &ContainerConfig, image: &RunConfig) -> i32 {
    signal::of_cri(config.stop_signal())
        .or_else(|| signal::parse(&image.stop_signal))
        .unwrap_or(15)
}

/// The configuration of a container, and what is worth a warning.
///
/// # Errors
/// What cannot be honoured.
pub fn container(input: ContainerInput<'_>) -> Result<(Spec, Vec<String>)> {
    let nothing = LinuxContainerConfig::default();
    let linux = input.config.linux.as_ref().unwrap_or(&nothing);
    let no_context = LinuxContainerSecurityContext::default();
    let security = linux.security_context.as_ref().unwrap_or(&no_context);
    let (capabilities, missed) = capabilities::resolve(
        security.capabilities.as_ref(),
        security.privileged,
        input.policy.capabilities,
        input.host.bounding,
    )?;
    let mut warnings = Vec::new();
    if !missed.is_empty() {
        warnings.push(format!(
            "{missed:?} left out: this daemon does not have them itself"
        ));
    }
    let granted = capabilities.bounding.clone();
    let (label, mount_label) = labels::selinux(
        security.selinux_options.as_ref(),
        security.privileged,
        input.host,
    );
    let (mounts, propagation) = all_mounts(input, security)?;
    let mut spec = Spec {
        oci_version: VERSION.to_owned(),
        process: Some(process(input, linux, security, capabilities, label)?),
        root: Some(Root {
            path: input.root.to_string_lossy().into_owned(),
            readonly: security.readonly_rootfs,
        }),
        mounts,
        annotations: all_annotations(input),
        linux: Some(Linux {
            mount_label,
            rootfs_propagation: propagation.to_owned(),
            ..isolation(input, linux, security, &granted)?
        }),
        ..Spec::default()
    };
    let devices: Vec<String> = input
        .config
        .cdi_devices
        .iter()
        .map(|d| d.name.clone())
        .collect();
    cdi::inject(&mut spec, &devices, &input.policy.cdi_dirs)?;
    Ok((spec, warnings))
}

fn all_annotations(input: ContainerInput<'_>) -> std::collections::BTreeMap<String, String> {
    let mut all = annotations(input.pod_id, input.pod, "container");
    let name = input.config.metadata.clone().unwrap_or_default().name;
    let image = input.config.image.clone().unwrap_or_default();
    let reference = if image.user_specified_image.is_empty() {
        image.image
    } else {
        image.user_specified_image
    };
    all.insert("io.kubernetes.cri.container-name".to_owned(), name);
    all.insert("io.kubernetes.cri.image-name".to_owned(), reference);
    all
}

fn process(
    input: ContainerInput<'_>,
    linux: &LinuxContainerConfig,
    security: &LinuxContainerSecurityContext,
    capabilities: Capabilities,
    selinux_label: String,
) -> Result<Process> {
    let config = input.config;
    let cwd = [&config.working_dir, &input.image.working_dir];
    let cwd = cwd
        .iter()
        .find(|d| !d.is_empty())
        .map_or("/", |d| d.as_str());
    let no_limits = LinuxContainerResources::default();
    let limits = linux.resources.as_ref().unwrap_or(&no_limits);
    Ok(Process {
        terminal: config.tty,
        user: input.user.clone(),
        args: args(config, input.image)?,
        env: env(input),
        cwd: cwd.to_owned(),
        capabilities: Some(capabilities),
        rlimits: clamp(&input.policy.ulimits, input.host),
        no_new_privileges: security.no_new_privs,
        apparmor_profile: labels::apparmor(
            security.apparmor.as_ref(),
            &security.apparmor_profile,
            security.privileged,
            &input.policy.apparmor,
            input.host,
        )?,
        oom_score_adj: Some(resources::oom_score_adj(limits.oom_score_adj, input.host)),
        selinux_label,
        ..Process::default()
    })
}

/// The image's words, unless the request has its own.
fn args(config: &ContainerConfig, image: &RunConfig) -> Result<Vec<String>> {
    let (command, args) = if config.command.is_empty() {
        let args = if config.args.is_empty() {
            &image.cmd
        } else {
            &config.args
        };
        (&image.entrypoint, args)
    } else {
        (&config.command, &config.args)
    };
    let all: Vec<String> = command.iter().chain(args).cloned().collect();
    if all.first().is_none_or(String::is_empty) {
        return Err(Error::invalid(
            "no command: neither the request nor the image has one; give `command`",
        ));
    }
    Ok(all)
}

/// The image's environment, then the request's; a name counts once, the last value wins.
fn env(input: ContainerInput<'_>) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut set = |pair: String| {
        let name = pair.split('=').next().unwrap_or_default().to_owned();
        match all
            .iter_mut()
            .find(|old| old.split('=').next() == Some(name.as_str()))
        {
            Some(old) => *old = pair,
            None => all.push(pair),
        }
    };
    set(PATH.to_owned());
    if !input.pod.hostname.is_empty() {
        set(format!("HOSTNAME={}", input.pod.hostname));
    }
    if input.config.tty {
        set("TERM=xterm".to_owned());
    }
    input.image.env.iter().for_each(|pair| set(pair.clone()));
    input
        .config
        .envs
        .iter()
        .for_each(|kv| set(format!("{}={}", kv.key, kv.value)));
    all
}

fn isolation(
    input: ContainerInput<'_>,
    linux: &LinuxContainerConfig,
    security: &LinuxContainerSecurityContext,
    granted: &[String],
) -> Result<Linux> {
    let maps = input.namespaces.user.clone().unwrap_or_default();
    let no_limits = LinuxContainerResources::default();
    let limits = linux.resources.as_ref().unwrap_or(&no_limits);
    let mut limits = resources::resources(limits, input.host);
    resources::limit_pids(&mut limits, input.policy.pids_limit);
    let devices = if security.privileged && !input.policy.privileged_without_devices {
        Devices::of_the_machine()?
    } else {
        Devices::named(&input.config.devices)?
    };
    limits.devices = devices.rules;
    let asked = seccomp::Asked {
        profile: security.seccomp.as_ref(),
        path: &security.seccomp_profile_path,
        privileged: security.privileged,
    };
    let open = security.privileged || input.namespaces.user.is_some();
    let paths = |asked: &[String], usual: &[&str]| match asked {
        _ if security.privileged => Vec::new(),
        [] if open => Vec::new(),
        [] => usual.iter().map(|&p| p.to_owned()).collect(),
        given => given.to_vec(),
    };
    Ok(Linux {
        uid_mappings: maps.uids,
        gid_mappings: maps.gids,
        resources: Some(limits),
        cgroups_path: cgroup::path(input.policy.driver, input.cgroup_parent, "", input.id)?,
        namespaces: namespaces(input, security)?,
        devices: devices.nodes,
        seccomp: seccomp::filter(asked, &input.policy.seccomp, granted)?,
        masked_paths: paths(&security.masked_paths, &MASKED),
        readonly_paths: paths(&security.readonly_paths, &READONLY),
        ..Linux::default()
    })
}

/// Those of the pod are joined by way of its first process.
fn namespaces(
    input: ContainerInput<'_>,
    security: &LinuxContainerSecurityContext,
) -> Result<Vec<Namespace>> {
    let of = |pid: i32, file: &str| format!("/proc/{pid}/ns/{file}");
    let pod = |kind: &str, file: &str| namespace(kind, &of(input.pause, file));
    let mut all = vec![namespace("mount", "")];
    let shared = input.namespaces;
    if !shared.host_network {
        all.push(pod("network", "net"));
        all.push(pod("uts", "uts"));
    }
    if !shared.host_ipc {
        all.push(pod("ipc", "ipc"));
    }
    if shared.user.is_some() {
        all.push(pod("user", "user"));
    }
    let mode = security
        .namespace_options
        .as_ref()
        .map_or(NamespaceMode::Container, |o| o.pid());
    match (mode, input.target) {
        (NamespaceMode::Pod, _) => all.push(pod("pid", "pid")),
        (NamespaceMode::Container, _) => all.push(namespace("pid", "")),
        (NamespaceMode::Node, _) if shared.host_pid => {}
        (NamespaceMode::Node, _) => {
            return Err(Error::invalid(
                "pid namespace NODE: the pod was not made with it",
            ));
        }
        (NamespaceMode::Target, Some(pid)) => all.push(namespace("pid", &of(pid, "pid"))),
        (NamespaceMode::Target, None) => {
            return Err(Error::invalid(
                "pid namespace TARGET: target_id names no running container",
            ));
        }
    }
    if input.host.cgroup_v2 && !security.privileged {
        all.push(namespace("cgroup", ""));
    }
    Ok(all)
}

fn all_mounts(
    input: ContainerInput<'_>,
    security: &LinuxContainerSecurityContext,
) -> Result<(Vec<Mount>, &'static str)> {
    let shm = input.pod_dir.join("shm");
    let mut all = mounts::usual(Usual {
        privileged: security.privileged,
        userns: input.namespaces.user.is_some(),
        host_network: input.namespaces.host_network,
        shm: (!input.namespaces.host_ipc).then_some(shm.as_path()),
        cgroup_rw: input.policy.cgroup_writable,
    });
    let (asked, propagation) = mounts::asked(input.mounts)?;
    let access = if security.readonly_rootfs { "ro" } else { "rw" };
    for name in ["resolv.conf", "hostname", "hosts"] {
        let file = input.pod_dir.join(name);
        if file.exists() {
            all.push(mounts::bind(
                &format!("/etc/{name}"),
                &file,
                &format!("rprivate,{access}"),
            ));
        }
    }
    // A request's mount takes the place of a usual one.
    all.retain(|usual| {
        !asked
            .iter()
            .any(|a| clean(&a.destination) == clean(&usual.destination))
    });
    if security.readonly_rootfs {
        all.extend(volumes(input, &asked));
    }
    all.extend(asked);
    Ok((all, propagation))
}

fn clean(path: &str) -> std::path::PathBuf {
    Path::new(path).components().collect()
}

/// The image's own volumes lie in the writable layer; where that may not be written to, in memory.
fn volumes(input: ContainerInput<'_>, asked: &[Mount]) -> Vec<Mount> {
    let covered = |path: &str| {
        asked
            .iter()
            .any(|a| clean(path).starts_with(clean(&a.destination)))
    };
    let own = input
        .image
        .volumes
        .keys()
        .filter(|v| v.starts_with('/') && !covered(v));
    own.map(|v| mounts::mount(v, "tmpfs", "tmpfs", "nodev,tmpcopyup"))
        .collect()
}
