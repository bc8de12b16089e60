//! The features document, made of the tables that the checks use.

use crate::DEFAULT_DEVICE_RULES_ANNOTATION;
use crate::oci::{self, Features};
use crate::words::{self, Table};

/// What hull can do, whatever the machine: features.md wants it so.
///
/// Two things are the caller's to add: annotations about the program itself, and, in
/// `linux.seccomp.supportedFlags`, which of the known flags the running kernel takes; here it
/// has all of them.
#[must_use]
pub fn features() -> Features {
    let yes = oci::Enabled { enabled: true };
    let flags = words(words::FLAGS);
    Features {
        oci_version_min: oci::VERSION_MIN.to_owned(),
        oci_version_max: oci::VERSION.to_owned(),
        hooks: words::HOOKS.iter().map(ToString::to_string).collect(),
        mount_options: words(words::MOUNT_OPTIONS),
        linux: oci::LinuxFeatures {
            namespaces: words(words::NAMESPACES),
            capabilities: words(words::CAPABILITIES),
            cgroup: oci::CgroupFeatures {
                v1: true,
                v2: true,
                systemd: true,
                systemd_user: true,
                rdma: true,
            },
            seccomp: oci::SeccompFeatures {
                enabled: true,
                actions: words(words::ACTIONS),
                operators: words(words::OPERATORS),
                archs: words(words::ARCHITECTURES),
                known_flags: flags.clone(),
                supported_flags: flags,
            },
            apparmor: yes,
            selinux: yes,
            intel_rdt: oci::IntelRdtFeatures {
                enabled: true,
                schemata: true,
                monitoring: true,
            },
            memory_policy: oci::MemoryPolicyFeatures {
                modes: words(words::MEMORY_MODES),
                flags: words(words::MEMORY_FLAGS),
            },
            mount_extensions: oci::MountExtensions { idmap: yes },
            net_devices: yes,
        },
        annotations: std::collections::BTreeMap::new(),
        potentially_unsafe_config_annotations: vec![
            "org.criu.config".to_owned(),
            "org.systemd.property.".to_owned(),
            DEFAULT_DEVICE_RULES_ANNOTATION.to_owned(),
        ],
    }
}

fn words<T>(table: &Table<T>) -> Vec<String> {
    words::names(table).into_iter().map(str::to_owned).collect()
}
