//! From a document to a [`Plan`]: every rule of the specification and of the kernel that can be
//! judged without looking at the machine.
//!
//! What needs the machine is left to whoever acts on the plan: whether a path exists, whether a
//! joined namespace is of the right kind or the host's own, whether a mapping that was given
//! for a joined user namespace is the one it has, what the kernel supports.

mod devices;
mod hooks;
mod isolation;
mod limits;
mod list;
mod memory_policy;
mod mount_options;
mod mounts;
mod names;
mod namespaces;
mod process;
mod rdt;
mod resources;
mod scheduling;
mod seccomp;
mod sysctl;
mod text;
mod version;

use std::path::{Path, PathBuf};

pub use devices::DEFAULT_DEVICE_RULES_ANNOTATION;
pub use resources::check_update;

use crate::error::{At, Result};
use crate::oci;
use crate::plan::{CgroupPlan, Hooks, IdMaps, Namespaces, Plan, ProcessPlan, RootPlan};

/// What is worth saying of a document that is accepted, one line each.
pub(crate) type Warnings = Vec<String>;

impl Plan {
    /// Validates a configuration. `bundle` is the absolute path of its directory; the root and
    /// the sources of bind mounts may be relative to it. No file is looked at.
    ///
    /// Returns the plan and the warnings that the specification wants logged.
    ///
    /// # Errors
    /// The first rule that is broken, by the field that breaks it.
    pub fn new(spec: &oci::Spec, bundle: &Path) -> Result<(Self, Vec<String>)> {
        let mut warnings = Warnings::new();
        let nothing = oci::Linux::default();
        let linux = spec.linux.as_ref().unwrap_or(&nothing);
        let at = At::top("linux");
        version::check(&spec.oci_version, &mut warnings)?;
        if spec.vm.is_some() {
            return Err(At::top("vm").unsupported("hull runs no virtual machines"));
        }
        if !bundle.is_absolute() {
            return Err(At::top("bundle").invalid(bundle, "must be an absolute path"));
        }
        let root = root(spec.root.as_ref(), bundle)?;
        let namespaces = namespaces::namespaces(&linux.namespaces, &at.field("namespaces"))?;
        let id_maps = namespaces::id_maps(linux, &namespaces, &at)?;
        isolation::check(spec, linux, &namespaces)?;
        let process = spec.process.as_ref();
        let process = process
            .map(|p| process::process(p, &id_maps, &At::top("process"), &mut warnings))
            .transpose()?;
        let devices = devices::devices(&linux.devices, &at.field("devices"))?;
        let plan = Self {
            oci_version: spec.oci_version.clone(),
            root,
            process,
            hostname: names::hostname(&spec.hostname, &At::top("hostname"))?,
            domainname: names::hostname(&spec.domainname, &At::top("domainname"))?,
            mounts: mounts::mounts(&spec.mounts, bundle, (&namespaces, &id_maps), &mut warnings)?,
            devices,
            hooks: hooks(spec)?,
            annotations: names::annotations(&spec.annotations)?,
            time_offsets: namespaces::time_offsets(linux, &namespaces, &at)?,
            net_devices: names::net_devices(&linux.net_devices, &at.field("netDevices"))?,
            cgroup: cgroup(spec, linux, &mut warnings)?,
            rootfs_propagation: mounts::propagation(
                &linux.rootfs_propagation,
                &at.field("rootfsPropagation"),
            )?,
            masked_paths: container_paths(&linux.masked_paths, &at.field("maskedPaths"))?,
            readonly_paths: container_paths(&linux.readonly_paths, &at.field("readonlyPaths"))?,
            mount_label: text::optional_line(&linux.mount_label, &at.field("mountLabel"))?,
            seccomp: seccomp::profile(linux.seccomp.as_ref(), &at.field("seccomp"))?,
            sysctl: sysctl::sysctls(&linux.sysctl, &namespaces, &at.field("sysctl"))?,
            personality: names::personality(linux.personality.as_ref(), &at.field("personality"))?,
            memory_policy: memory_policy::policy(
                linux.memory_policy.as_ref(),
                &at.field("memoryPolicy"),
            )?,
            intel_rdt: rdt::intel_rdt(linux.intel_rdt.as_ref(), &at.field("intelRdt"))?,
            namespaces,
            id_maps,
        };
        Ok((plan, warnings))
    }
}

impl ProcessPlan {
    /// Validates a process document, as `exec` gets one. `id_maps` are those of the container
    /// that it is to run in; empty maps are not compared with.
    ///
    /// # Errors
    /// The first rule that is broken, by the field that breaks it.
    pub fn new(process: &oci::Process, id_maps: &IdMaps) -> Result<(Self, Vec<String>)> {
        let mut warnings = Warnings::new();
        let plan = process::process(process, id_maps, &At::top("process"), &mut warnings)?;
        Ok((plan, warnings))
    }
}

fn root(root: Option<&oci::Root>, bundle: &Path) -> Result<RootPlan> {
    let at = At::top("root");
    let root = root.ok_or_else(|| at.missing("required"))?;
    let path = text::required(&root.path, &at.field("path"))?;
    Ok(RootPlan {
        path: bundle.join(path),
        readonly: root.readonly,
    })
}

fn hooks(spec: &oci::Spec) -> Result<Hooks> {
    spec.hooks
        .as_ref()
        .map_or_else(|| Ok(Hooks::default()), hooks::hooks)
}

fn cgroup(spec: &oci::Spec, linux: &oci::Linux, warnings: &mut Warnings) -> Result<CgroupPlan> {
    let at = At::top("linux");
    let path = names::cgroups_path(&linux.cgroups_path, &at.field("cgroupsPath"))?;
    let nothing = oci::Resources::default();
    let given = linux.resources.as_ref().unwrap_or(&nothing);
    let mut resources = resources::resources(given, &at.field("resources"), warnings)?;
    devices::complete_rules(&mut resources.devices, &spec.annotations)?;
    Ok(CgroupPlan { path, resources })
}

fn container_paths(paths: &[String], at: &At) -> Result<Vec<PathBuf>> {
    paths
        .iter()
        .enumerate()
        .map(|(i, path)| text::container_path(path, &at.index(i)))
        .collect()
}

/// Whether the namespaces and the maps are those of a user namespace that this container makes.
fn makes_user_namespace(namespaces: &Namespaces) -> bool {
    namespaces.is_new(crate::plan::NamespaceKind::User)
}
