//! Small fields: host names, network devices, annotations, the cgroup path, the personality.

use std::collections::{BTreeMap, BTreeSet};

use super::text;
use crate::error::{At, Result};
use crate::oci::{NetDevice, Personality};
use crate::plan::PersonalityPlan;
use crate::words::{self, PERSONALITIES};

/// Longest host or domain name (__NEW_UTS_LEN; sethostname(2)).
const UTS_NAME_MAX: usize = 64;
/// Longest name of a network device, without its NUL (IFNAMSIZ; netdevice(7)).
const INTERFACE_NAME_MAX: usize = 15;

pub(super) fn hostname(name: &str, at: &At) -> Result<Option<String>> {
    if name.len() > UTS_NAME_MAX {
        return Err(at.invalid(name, format!("longer than {UTS_NAME_MAX} bytes")));
    }
    text::optional_line(name, at)
}

/// Names as the kernel takes them (dev_valid_name() in net/core/dev.c).
pub(super) fn interface<'n>(name: &'n str, at: &At) -> Result<&'n str> {
    text::required(name, at)?;
    if name.len() > INTERFACE_NAME_MAX {
        return Err(at.invalid(name, format!("longer than {INTERFACE_NAME_MAX} bytes")));
    }
    // The kernel's isspace() knows Latin-1: byte 0xa0 is a space to it.
    let forbidden = |b: u8| b"/: ".contains(&b) || b.is_ascii_control() || b == 0xa0;
    if name == "." || name == ".." || name.bytes().any(forbidden) {
        return Err(at.invalid(name, "not a name for a network device"));
    }
    Ok(name)
}

/// Fills in the names inside and refuses two devices with the same one.
pub(super) fn net_devices(
    devices: &BTreeMap<String, NetDevice>,
    at: &At,
) -> Result<BTreeMap<String, NetDevice>> {
    let mut inside = BTreeSet::new();
    let mut out = BTreeMap::new();
    for (outside, device) in devices {
        let at = at.key(outside);
        interface(outside, &at)?;
        let name = if device.name.is_empty() {
            outside.clone()
        } else {
            interface(&device.name, &at.field("name"))?;
            template(&device.name, &at.field("name"))?;
            device.name.clone()
        };
        if !name.contains("%d") && !inside.insert(name.clone()) {
            return Err(at
                .field("name")
                .invalid(&name, "another device gets the same name"));
        }
        out.insert(outside.clone(), NetDevice { name });
    }
    Ok(out)
}

/// A name may hold one `%d`, for which the kernel finds a number, and no other `%`.
fn template(name: &str, at: &At) -> Result<()> {
    let plain = name.replacen("%d", "", 1);
    if plain.contains('%') {
        return Err(at.invalid(name, "may hold one %d and no other %"));
    }
    Ok(())
}

pub(super) fn annotations(given: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>> {
    if given.contains_key("") {
        return Err(At::top("annotations")
            .key("")
            .missing("a key must not be empty"));
    }
    Ok(given.clone())
}

/// The path stays as it is: which of its forms is meant depends on the cgroup driver. Steps
/// upwards are refused, because with them a container could be put into any cgroup by a path
/// that looks like another.
pub(super) fn cgroups_path(path: &str, at: &At) -> Result<Option<String>> {
    let Some(path) = text::optional_line(path, at)? else {
        return Ok(None);
    };
    if path.split('/').any(|part| part == "..") {
        return Err(at.invalid(&path, "must not contain \"..\""));
    }
    Ok(Some(path))
}

pub(super) fn personality(given: Option<&Personality>, at: &At) -> Result<Option<PersonalityPlan>> {
    let Some(given) = given else {
        return Ok(None);
    };
    if let Some(flag) = given.flags.first() {
        let at = at.field("flags");
        return Err(at
            .index(0)
            .invalid(flag, "the specification defines no flag"));
    }
    let at = at.field("domain");
    words::require(PERSONALITIES, &given.domain, "personality", &at).map(Some)
}
