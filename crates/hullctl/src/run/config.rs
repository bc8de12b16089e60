//! The configuration of `hullctl run host`, made without a file.

use std::path::Path;

use spec::oci::{
    Capabilities, IdMapping, Memory, Mount, Namespace, Pids, Resources, Root, Seccomp, Spec,
};

use super::args::HostArgs;

/// First host id of the range that `--userns` maps; systemd sets this range aside for
/// containers (systemd's UIDS-GIDS document).
pub const USERNS_BASE: u32 = 524_288;
/// How many ids `--userns` maps.
pub const USERNS_SIZE: u32 = 65_536;

/// What an unprivileged service needs and podman and CRI-O grant by default.
pub const CAPABILITIES: &[&str] = &[
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

/// The document for a container on `root`.
pub fn host_spec(args: &HostArgs, root: &Path, seccomp: Option<Seccomp>) -> Spec {
    let mut spec = spec::default_spec(false);
    spec.root = Some(Root {
        path: root.display().to_string(),
        readonly: false,
    });
    spec.hostname.clone_from(&args.hostname);
    spec.mounts.extend(scratch_mounts());
    if let Some(process) = &mut spec.process {
        process.terminal = args.terminal;
        process.args.clone_from(&args.command);
        process.env = environment(args);
        process.cwd.clone_from(&args.workdir);
        process.no_new_privileges = true;
        process.rlimits.clear();
        let granted: Vec<String> = CAPABILITIES.iter().map(ToString::to_string).collect();
        process.capabilities = Some(Capabilities {
            bounding: granted.clone(),
            effective: granted.clone(),
            permitted: granted,
            ..Capabilities::default()
        });
    }
    if let Some(linux) = &mut spec.linux {
        linux.seccomp = seccomp;
        linux.resources = Some(resources(args));
        let mut want = vec!["pid", "network", "ipc", "uts", "mount", "cgroup"];
        if args.userns {
            want.push("user");
            let map = IdMapping {
                container_id: 0,
                host_id: USERNS_BASE,
                size: USERNS_SIZE,
            };
            linux.uid_mappings = vec![map];
            linux.gid_mappings = vec![map];
        }
        linux.namespaces = want
            .into_iter()
            .map(|kind| Namespace {
                kind: kind.to_owned(),
                path: String::new(),
            })
            .collect();
    }
    spec
}

fn environment(args: &HostArgs) -> Vec<String> {
    let term = std::env::var("TERM").unwrap_or_else(|_| "xterm".to_owned());
    let mut env = vec![
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        "HOME=/root".to_owned(),
        format!("TERM={term}"),
        "container=hull".to_owned(),
    ];
    env.extend(args.env.iter().cloned());
    env
}

fn resources(args: &HostArgs) -> Resources {
    let mut resources = Resources::default();
    if let Some(limit) = args.memory {
        // The same figure for memory and swap together: a limit that swapping cannot evade.
        let memory = Memory {
            limit: Some(limit),
            swap: Some(limit),
            ..Memory::default()
        };
        resources.memory = Some(memory);
    }
    resources.pids = args.pids_limit.map(|limit| Pids { limit: Some(limit) });
    resources
}

/// Places that programs expect to write to and that must not show the machine's own state.
fn scratch_mounts() -> [Mount; 2] {
    let tmpfs = |destination: &str, mode: &str| Mount {
        destination: destination.to_owned(),
        kind: "tmpfs".to_owned(),
        source: "tmpfs".to_owned(),
        options: vec!["nosuid".to_owned(), "nodev".to_owned(), mode.to_owned()],
        ..Mount::default()
    };
    [tmpfs("/run", "mode=755"), tmpfs("/tmp", "mode=1777")]
}
