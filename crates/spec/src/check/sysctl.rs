//! `linux.sysctl`: only parameters that belong to a namespace of the container.

use std::collections::BTreeMap;

use super::text;
use crate::error::{At, Result};
use crate::plan::{NamespaceKind, Namespaces};

/// Parameters of the IPC namespace outside fs.mqueue (ipc/ipc_sysctl.c).
const IPC: &[&str] = &[
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/sem",
    "kernel/shm_rmid_forced",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
];

pub(super) fn sysctls(
    given: &BTreeMap<String, String>,
    namespaces: &Namespaces,
    at: &At,
) -> Result<Vec<(String, String)>> {
    let mut out: Vec<(String, String)> = Vec::with_capacity(given.len());
    for (key, value) in given {
        let at = at.key(key);
        let path = path(key, &at)?;
        owner(&path, namespaces, &at)?;
        text::no_nul(value, &at)?;
        if value.chars().any(|c| c.is_control() && c != '\t') {
            return Err(at.invalid(value, "a value must be one line"));
        }
        if out.iter().any(|(other, _)| *other == path) {
            return Err(at.conflict("the same parameter is given twice"));
        }
        out.push((path, value.clone()));
    }
    Ok(out)
}

/// The path below /proc/sys. The first separator decides which one it is: in
/// `net/ipv4/conf/eth0.100/rp_filter` the dot belongs to a name, in
/// `net.ipv4.conf.eth0/100.rp_filter` the slash stands for that dot (sysctl(8)).
fn path(key: &str, at: &At) -> Result<String> {
    let dotted = key
        .find(['.', '/'])
        .is_some_and(|i| key[i..].starts_with('.'));
    let path: String = if dotted {
        let swap = |c| match c {
            '.' => '/',
            '/' => '.',
            other => other,
        };
        key.chars().map(swap).collect()
    } else {
        key.to_owned()
    };
    let is_name = |part: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || "_-.:@".contains(c);
        !part.is_empty() && part != "." && part != ".." && part.chars().all(fits)
    };
    if !path.contains('/') || !path.split('/').all(is_name) {
        return Err(at.unsupported("not the name of a kernel parameter"));
    }
    Ok(path)
}

/// Refuses a parameter whose namespace is inherited, and one that no namespace has.
fn owner(path: &str, namespaces: &Namespaces, at: &At) -> Result<()> {
    let kind = if IPC.contains(&path) || path.starts_with("fs/mqueue/") {
        NamespaceKind::Ipc
    } else if path.starts_with("net/") {
        NamespaceKind::Network
    } else if path == "kernel/domainname" {
        NamespaceKind::Uts
    } else if path.starts_with("user/") {
        NamespaceKind::User
    } else if path == "kernel/hostname" {
        return Err(at.conflict("the field hostname is for this"));
    } else {
        return Err(at.unsupported("not a parameter that a namespace has of its own"));
    };
    if namespaces.is_inherited(kind) {
        return Err(at.conflict(format!(
            "needs a namespace of type \"{}\" in linux.namespaces",
            kind.oci_name()
        )));
    }
    Ok(())
}
