//! The validated form of a bundle's configuration.
//!
//! [`Plan`] is made once, by [`Plan::new`], from an [`crate::oci::Spec`]. Whoever holds one need
//! not check it again: words have become types, contradictions have been refused, defaults have
//! been filled in.

mod mounts;
mod namespaces;
mod process;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use mounts::*;
pub use namespaces::*;
pub use process::*;

use crate::oci::{Hook, IntelRdt, NetDevice, Resources, Seccomp, TimeOffset};

/// Everything the runtime does for one container.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The configuration's `ociVersion`, as it stands there.
    pub oci_version: String,
    /// The root file system.
    pub root: RootPlan,
    /// The container's program; `None` may be created but not started.
    pub process: Option<ProcessPlan>,
    /// Host name; implies a UTS namespace that is not the host's.
    pub hostname: Option<String>,
    /// NIS domain name; implies a UTS namespace that is not the host's.
    pub domainname: Option<String>,
    /// Mounts, in order.
    pub mounts: Vec<MountPlan>,
    /// Device nodes: the defaults of the specification, then the configured ones.
    pub devices: Vec<DevicePlan>,
    /// Hooks by moment.
    pub hooks: Hooks,
    /// Free metadata.
    pub annotations: BTreeMap<String, String>,
    /// What is new, joined or inherited.
    pub namespaces: Namespaces,
    /// Map of the user namespace; both are empty or neither is. With a joined namespace it is
    /// what the configuration says of that namespace: whoever joins it compares.
    pub id_maps: IdMaps,
    /// Offsets of a new time namespace, by clock.
    pub time_offsets: Vec<(Clock, TimeOffset)>,
    /// Network devices to move in: name outside, name inside (never empty; it may hold one `%d`,
    /// for which the kernel finds a number).
    pub net_devices: BTreeMap<String, NetDevice>,
    /// Control group: where and which limits.
    pub cgroup: CgroupPlan,
    /// Propagation of the root mount, set before it is pivoted to.
    pub rootfs_propagation: Option<Propagation>,
    /// Absolute, clean paths to hide.
    pub masked_paths: Vec<PathBuf>,
    /// Absolute, clean paths to make read-only.
    pub readonly_paths: Vec<PathBuf>,
    /// SELinux context for mounts.
    pub mount_label: Option<String>,
    /// System-call filter, not yet compiled.
    pub seccomp: Option<Seccomp>,
    /// Kernel parameters: path below /proc/sys, value. Only those of a namespace that is not
    /// inherited pass validation; that a joined one is not the host's is for the joiner to see.
    pub sysctl: Vec<(String, String)>,
    /// personality(2).
    pub personality: Option<PersonalityPlan>,
    /// set_mempolicy(2).
    pub memory_policy: Option<MemoryPolicyPlan>,
    /// resctrl.
    pub intel_rdt: Option<IntelRdt>,
}

impl Plan {
    /// The user outside who is to own the version 2 control group: the one that the program runs
    /// as, where the container can write to its groups and sees no others (config-linux.md,
    /// Cgroup ownership).
    #[must_use]
    pub fn cgroup_owner(&self) -> Option<u32> {
        if !self.namespaces.is_new(NamespaceKind::Cgroup) {
            return None;
        }
        let place = Path::new("/sys/fs/cgroup");
        let mount = self.mounts.iter().rev().find(|m| m.destination == place)?;
        let set = mount.attrs.set | mount.recursive_attrs.set;
        if mount.kind != MountKind::Cgroup || set & MountAttrs::RDONLY != 0 {
            return None;
        }
        let inside = self.process.as_ref()?.user.uid;
        if self.id_maps.is_empty() {
            return Some(inside);
        }
        IdMaps::to_host(&self.id_maps.uids, inside)
    }
}

/// Where the root file system is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RootPlan {
    /// Absolute path on the host.
    pub path: PathBuf,
    /// Read-only inside the container.
    pub readonly: bool,
}

/// Hooks by moment (all checked: absolute path, at least one argument, timeout above zero).
#[derive(Clone, Debug, Default)]
pub struct Hooks {
    /// `prestart`, then `createRuntime`: same moment, same namespaces.
    pub create_runtime: Vec<Hook>,
    /// `createContainer`.
    pub create_container: Vec<Hook>,
    /// `startContainer`.
    pub start_container: Vec<Hook>,
    /// `poststart`.
    pub poststart: Vec<Hook>,
    /// `poststop`.
    pub poststop: Vec<Hook>,
}

/// Control group.
#[derive(Clone, Debug, Default)]
pub struct CgroupPlan {
    /// `linux.cgroupsPath` as given: `/abs`, `rel`, or `slice:prefix:name` for systemd.
    pub path: Option<String>,
    /// Limits, checked; zeros that mean "not set" are gone. Device rules include the runtime's
    /// defaults and are complete: applied in order from "nothing allowed" they give the policy.
    /// They are empty where the defaults were switched off and none were given.
    pub resources: Resources,
}

/// A device node inside the container.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DevicePlan {
    /// Absolute path inside the container.
    pub path: PathBuf,
    /// What it is.
    pub kind: DeviceKind,
    /// Permission bits.
    pub mode: u32,
    /// Owner inside the container.
    pub uid: u32,
    /// Group inside the container.
    pub gid: u32,
}

/// What a device node is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DeviceKind {
    /// Character device (also `u`, unbuffered).
    Char {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// Block device.
    Block {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// Named pipe.
    Fifo,
}

/// personality(2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PersonalityPlan {
    /// PER_LINUX.
    Linux,
    /// PER_LINUX32.
    Linux32,
}

/// set_mempolicy(2).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MemoryPolicyPlan {
    /// `MPOL_…` number combined with its `MPOL_F_…` bits.
    pub mode: u32,
    /// Node numbers, ascending.
    pub nodes: Vec<u32>,
}
