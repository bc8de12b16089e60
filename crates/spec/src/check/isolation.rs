//! Settings that would reach the host without a namespace to hold them.

use crate::error::{At, Result};
use crate::oci;
use crate::plan::{NamespaceKind, Namespaces};

/// Refuses a setting whose namespace is inherited.
pub(super) fn check(spec: &oci::Spec, linux: &oci::Linux, namespaces: &Namespaces) -> Result<()> {
    let at = At::top("linux");
    if namespaces.is_inherited(NamespaceKind::Mount) {
        // The root, its mounts, masks and devices are all made in the mount namespace: without
        // one of its own, creating a container would rearrange the host.
        return Err(at
            .field("namespaces")
            .unsupported("no mount namespace: hull does not mount in the one it was started in"));
    }
    for (set, kind, at) in [
        (
            !spec.hostname.is_empty(),
            NamespaceKind::Uts,
            At::top("hostname"),
        ),
        (
            !spec.domainname.is_empty(),
            NamespaceKind::Uts,
            At::top("domainname"),
        ),
        (
            !linux.net_devices.is_empty(),
            NamespaceKind::Network,
            at.field("netDevices"),
        ),
    ] {
        if set && namespaces.is_inherited(kind) {
            return Err(at.conflict(format!(
                "needs a namespace of type \"{}\" in linux.namespaces",
                kind.oci_name()
            )));
        }
    }
    Ok(())
}
