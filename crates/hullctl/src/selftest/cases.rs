//! The list of attacks.

use anyhow::Result;

use super::arena::{Arena, Ran};
use super::{Outcome, images, inside};

/// How an attack went, and what it found.
pub type Went = Result<(Outcome, String)>;

/// An attack.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// What it is about.
    pub class: &'static str,
    /// Where it was seen.
    pub cve: &'static str,
    /// What the attacker does.
    pub name: &'static str,
    /// Tries it.
    pub attack: fn(&Arena) -> Went,
}

const fn case(
    class: &'static str,
    cve: &'static str,
    name: &'static str,
    attack: fn(&Arena) -> Went,
) -> Case {
    Case {
        class,
        cve,
        name,
        attack,
    }
}

const CASES: [Case; 23] = [
    case(
        "descriptors",
        "CVE-2024-21626",
        "descriptors left open in the first process",
        inside::descriptors,
    ),
    case(
        "descriptors",
        "CVE-2024-21626",
        "descriptors left open in an executed process",
        inside::descriptors_of_exec,
    ),
    case(
        "descriptors",
        "CVE-2024-21626",
        "working directory through a descriptor",
        inside::working_directory,
    ),
    case(
        "descriptors",
        "CVE-2016-9962",
        "a look into the runtime during exec",
        inside::watch_exec,
    ),
    case(
        "executable",
        "CVE-2019-5736",
        "overwriting the runtime during exec",
        inside::overwrite_runtime,
    ),
    case("root", "chroot", "climbing out of the root", inside::climb),
    case(
        "root",
        "pivot_root",
        "mounts of the machine left inside",
        inside::old_root,
    ),
    case(
        "processes",
        "pid namespace",
        "processes of the machine",
        inside::processes,
    ),
    case(
        "devices",
        "device rules",
        "the machine's memory by mknod",
        inside::device,
    ),
    case(
        "cgroups",
        "CVE-2022-0492",
        "a release agent",
        inside::release_agent,
    ),
    case(
        "procfs",
        "sysctl",
        "parameters of the kernel",
        inside::kernel_parameters,
    ),
    case(
        "identity",
        "CVE-2022-29162",
        "inheritable capabilities",
        inside::inheritable,
    ),
    case(
        "identity",
        "CVE-2022-2995",
        "groups of the caller",
        inside::groups,
    ),
    case(
        "identity",
        "CVE-2024-40635",
        "a user id that is none",
        inside::user_id,
    ),
    case(
        "symlinks",
        "CVE-2019-19921",
        "an image whose /proc leads out",
        images::proc,
    ),
    case(
        "symlinks",
        "CVE-2026-41579",
        "an image whose /dev leads out",
        images::dev,
    ),
    case(
        "symlinks",
        "CVE-2021-30465",
        "a mount point that leads out",
        images::mount_point,
    ),
    case(
        "symlinks",
        "CVE-2024-45310",
        "a mount point made below a link",
        images::made_below,
    ),
    case(
        "symlinks",
        "CVE-2024-0132",
        "a working directory made below a link",
        images::working_directory,
    ),
    case(
        "masks",
        "CVE-2025-31133",
        "an image whose /dev/null is a link",
        images::null,
    ),
    case(
        "masks",
        "GHSA-7ww5-4wqc-m92c",
        "power readings by default",
        images::powercap,
    ),
    case(
        "injection",
        "CVE-2022-0811",
        "a parameter with two values",
        images::parameter,
    ),
    case(
        "injection",
        "CVE-2022-0811",
        "a parameter's name that climbs",
        images::climbing_parameter,
    ),
];

/// All of them.
pub fn all() -> impl Iterator<Item = Case> {
    CASES.into_iter()
}

/// The lines that the attacker marked.
pub fn found(ran: &Ran) -> Vec<&str> {
    ran.out
        .lines()
        .filter_map(|l| l.strip_prefix("found "))
        .collect()
}

/// Held unless the attacker found something.
pub fn by_findings(ran: &Ran, nothing: &str) -> (Outcome, String) {
    match found(ran).first() {
        Some(first) => (Outcome::Broken, (*first).to_owned()),
        None if ran.success => (Outcome::Held, nothing.to_owned()),
        None => (Outcome::Held, ran.complaint()),
    }
}
