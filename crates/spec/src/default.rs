//! The configuration that `hull spec` writes.

use crate::oci::{
    Capabilities, DeviceRule, IdMapping, Linux, Mount, Namespace, Process, Resources, Rlimit, Root,
    Spec, VERSION,
};

/// The configuration that `runc spec` writes, for a shell in the bundle's `rootfs`; with
/// `rootless`, the one of `runc spec --rootless`.
///
/// It differs in the host name, in what newer releases of runc changed (the version, and no
/// ambient capabilities, which without inheritable ones cannot be had), and in one more masked
/// path: energy counters tell of the neighbours' computations (GHSA-7ww5-4wqc-m92c).
///
/// What depends on the machine is the caller's: the host ids of the two mappings of a rootless
/// configuration (here 0), and a cgroup namespace where there is only cgroup v2.
#[must_use]
pub fn default_spec(rootless: bool) -> Spec {
    Spec {
        oci_version: VERSION.to_owned(),
        process: Some(process()),
        root: Some(Root {
            path: "rootfs".to_owned(),
            readonly: true,
        }),
        hostname: "hull".to_owned(),
        mounts: mounts(rootless),
        linux: Some(linux(rootless)),
        ..Spec::default()
    }
}

fn process() -> Process {
    let capabilities = strings(&["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    Process {
        terminal: true,
        args: strings(&["sh"]),
        env: strings(&[
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "TERM=xterm",
        ]),
        cwd: "/".to_owned(),
        capabilities: Some(Capabilities {
            bounding: capabilities.clone(),
            effective: capabilities.clone(),
            permitted: capabilities,
            ..Capabilities::default()
        }),
        rlimits: vec![Rlimit {
            kind: "RLIMIT_NOFILE".to_owned(),
            hard: 1024,
            soft: 1024,
        }],
        no_new_privileges: true,
        ..Process::default()
    }
}

fn mounts(rootless: bool) -> Vec<Mount> {
    let mut terminals = vec![
        "nosuid",
        "noexec",
        "newinstance",
        "ptmxmode=0666",
        "mode=0620",
    ];
    let mut sys = mount(
        "/sys",
        "sysfs",
        "sysfs",
        &["nosuid", "noexec", "nodev", "ro"],
    );
    if rootless {
        // The group of terminals has no mapping, and a sysfs of one's own needs a network
        // namespace of one's own.
        let options = ["rbind", "nosuid", "noexec", "nodev", "ro"];
        sys = mount("/sys", "none", "/sys", &options);
    } else {
        terminals.push("gid=5");
    }
    vec![
        mount("/proc", "proc", "proc", &[]),
        mount(
            "/dev",
            "tmpfs",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        mount("/dev/pts", "devpts", "devpts", &terminals),
        mount(
            "/dev/shm",
            "tmpfs",
            "shm",
            &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
        ),
        mount(
            "/dev/mqueue",
            "mqueue",
            "mqueue",
            &["nosuid", "noexec", "nodev"],
        ),
        sys,
        mount(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            &["nosuid", "noexec", "nodev", "relatime", "ro"],
        ),
    ]
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    Mount {
        destination: destination.to_owned(),
        kind: kind.to_owned(),
        source: source.to_owned(),
        options: strings(options),
        ..Mount::default()
    }
}

fn linux(rootless: bool) -> Linux {
    let mut linux = Linux {
        masked_paths: strings(&[
            "/proc/acpi",
            "/proc/asound",
            "/proc/kcore",
            "/proc/keys",
            "/proc/latency_stats",
            "/proc/timer_list",
            "/proc/timer_stats",
            "/proc/sched_debug",
            "/sys/devices/virtual/powercap",
            "/sys/firmware",
            "/proc/scsi",
        ]),
        readonly_paths: strings(&[
            "/proc/bus",
            "/proc/fs",
            "/proc/irq",
            "/proc/sys",
            "/proc/sysrq-trigger",
        ]),
        ..Linux::default()
    };
    if rootless {
        let map = vec![IdMapping {
            container_id: 0,
            host_id: 0,
            size: 1,
        }];
        linux.uid_mappings = map.clone();
        linux.gid_mappings = map;
        linux.namespaces = namespaces(&["pid", "ipc", "uts", "mount", "user"]);
    } else {
        linux.namespaces = namespaces(&["pid", "network", "ipc", "uts", "mount"]);
        linux.resources = Some(Resources {
            devices: vec![DeviceRule {
                access: "rwm".to_owned(),
                ..DeviceRule::default()
            }],
            ..Resources::default()
        });
    }
    linux
}

fn namespaces(kinds: &[&str]) -> Vec<Namespace> {
    let namespace = |kind: &&str| Namespace {
        kind: (*kind).to_owned(),
        path: String::new(),
    };
    kinds.iter().map(namespace).collect()
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}
