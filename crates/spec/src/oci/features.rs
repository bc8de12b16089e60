//! The features document (features.md, features-linux.md).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a runtime can do; `hull features` prints one.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Features {
    /// Oldest version of the specification accepted.
    pub oci_version_min: String,
    /// Newest version of the specification accepted.
    pub oci_version_max: String,
    /// Names of the hooks.
    pub hooks: Vec<String>,
    /// Words understood in `mounts[].options`.
    pub mount_options: Vec<String>,
    /// Linux-specific features.
    pub linux: LinuxFeatures,
    /// Free metadata.
    pub annotations: BTreeMap<String, String>,
    /// Annotations (or, with a trailing dot, prefixes) that change behaviour.
    pub potentially_unsafe_config_annotations: Vec<String>,
}

/// `linux`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LinuxFeatures {
    /// Namespace kinds.
    pub namespaces: Vec<String>,
    /// Capability names.
    pub capabilities: Vec<String>,
    /// Control groups.
    pub cgroup: CgroupFeatures,
    /// Seccomp.
    pub seccomp: SeccompFeatures,
    /// AppArmor.
    pub apparmor: Enabled,
    /// SELinux.
    pub selinux: Enabled,
    /// Intel RDT.
    pub intel_rdt: IntelRdtFeatures,
    /// Memory policy.
    pub memory_policy: MemoryPolicyFeatures,
    /// Mount extensions.
    pub mount_extensions: MountExtensions,
    /// Network devices.
    pub net_devices: Enabled,
}

/// A feature that is there or not.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Enabled {
    /// Compiled in; says nothing of the kernel.
    pub enabled: bool,
}

/// `linux.cgroup`.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the shape is the specification's"
)]
pub struct CgroupFeatures {
    /// cgroup v1.
    pub v1: bool,
    /// cgroup v2.
    pub v2: bool,
    /// systemd driver, system bus.
    pub systemd: bool,
    /// systemd driver, user bus.
    pub systemd_user: bool,
    /// RDMA controller.
    pub rdma: bool,
}

/// `linux.seccomp`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SeccompFeatures {
    /// Compiled in.
    pub enabled: bool,
    /// `SCMP_ACT_…`.
    pub actions: Vec<String>,
    /// `SCMP_CMP_…`.
    pub operators: Vec<String>,
    /// `SCMP_ARCH_…`.
    pub archs: Vec<String>,
    /// Flags known.
    pub known_flags: Vec<String>,
    /// Flags the running kernel takes.
    pub supported_flags: Vec<String>,
}

/// `linux.intelRdt`.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct IntelRdtFeatures {
    /// Compiled in.
    pub enabled: bool,
    /// `schemata` is understood.
    pub schemata: bool,
    /// `enableMonitoring` is understood.
    pub monitoring: bool,
}

/// `linux.memoryPolicy`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct MemoryPolicyFeatures {
    /// `MPOL_…`.
    pub modes: Vec<String>,
    /// `MPOL_F_…`.
    pub flags: Vec<String>,
}

/// `linux.mountExtensions`.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct MountExtensions {
    /// Id-mapped mounts.
    pub idmap: Enabled,
}
