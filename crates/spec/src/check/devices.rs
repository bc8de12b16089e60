//! `linux.devices`, and the device rules that every container gets.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::text;
use crate::error::{At, Result};
use crate::oci::{Device, DeviceRule};
use crate::plan::{DeviceKind, DevicePlan};

/// Annotation that switches the default device rules off where its value is `"false"`: then
/// exactly the rules of `linux.resources.devices` hold, as the specification has it.
///
/// By default the rules that runc adds are added: callers rely on them, and no other means lets
/// them ask for less.
pub const DEFAULT_DEVICE_RULES_ANNOTATION: &str = "run.hull.default-device-rules";

/// The devices that the specification wants in every container (config-linux.md, Default
/// Devices): name in /dev, major, minor. /dev/console and /dev/ptmx depend on the mounts.
const DEFAULT_DEVICES: &[(&str, u32, u32)] = &[
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// Rules beside those of the default devices: type, major, minor (-1: any), access. Any node
/// may be made, pseudo-terminals and /dev/net/tun may be used.
const EXTRA_RULES: &[(&str, i64, i64, &str)] = &[
    ("c", -1, -1, "m"),
    ("b", -1, -1, "m"),
    ("c", 136, -1, "rwm"),
    ("c", 5, 2, "rwm"),
    ("c", 10, 200, "rwm"),
];

/// Permission bits of a node that is not told them.
const MODE: u32 = 0o666;
/// The bits that a mode may have; Go producers add the file type above them.
const MODE_BITS: u32 = 0o7777;
/// Major numbers are below this (MINORBITS is 20; include/linux/kdev_t.h).
const MAJORS: i64 = 1 << 12;
/// Minor numbers are below this.
const MINORS: i64 = 1 << 20;

/// The default devices, then the configured ones in their order. A configured one with the path
/// of a default one takes its place if it is the same device.
pub(super) fn devices(given: &[Device], at: &At) -> Result<Vec<DevicePlan>> {
    let mut out: Vec<DevicePlan> = DEFAULT_DEVICES
        .iter()
        .map(|&(name, major, minor)| DevicePlan {
            path: Path::new("/dev").join(name),
            kind: DeviceKind::Char { major, minor },
            mode: MODE,
            uid: 0,
            gid: 0,
        })
        .collect();
    for (i, device) in given.iter().enumerate() {
        let at = at.index(i);
        let plan = device_plan(device, &at)?;
        match out.iter_mut().find(|d| d.path == plan.path) {
            Some(other) if other.kind == plan.kind => *other = plan,
            Some(_) => {
                return Err(at
                    .field("path")
                    .invalid(&device.path, "another device has this path"));
            }
            None => out.push(plan),
        }
    }
    Ok(out)
}

fn device_plan(given: &Device, at: &At) -> Result<DevicePlan> {
    let numbers = || -> Result<(u32, u32)> {
        Ok((
            number(given.major, MAJORS, &at.field("major"))?,
            number(given.minor, MINORS, &at.field("minor"))?,
        ))
    };
    let kind = match given.kind.as_str() {
        "c" | "u" => numbers().map(|(major, minor)| DeviceKind::Char { major, minor })?,
        "b" => numbers().map(|(major, minor)| DeviceKind::Block { major, minor })?,
        "p" => DeviceKind::Fifo,
        "" => return Err(at.field("type").missing("required")),
        other => {
            return Err(at
                .field("type")
                .invalid(other, "unknown device type; known: b, c, p, u"));
        }
    };
    let path: PathBuf = text::container_path(&given.path, &at.field("path"))?;
    if path == Path::new("/") {
        return Err(at.field("path").invalid(&given.path, "is the root"));
    }
    Ok(DevicePlan {
        path,
        kind,
        mode: given.file_mode.map_or(MODE, |mode| mode & MODE_BITS),
        uid: given.uid.unwrap_or(0),
        gid: given.gid.unwrap_or(0),
    })
}

/// A major or minor number.
pub(super) fn number(given: i64, limit: i64, at: &At) -> Result<u32> {
    match u32::try_from(given) {
        Ok(number) if given < limit => Ok(number),
        _ => Err(at.invalid(given, format!("must be between 0 and {}", limit - 1))),
    }
}

/// Numbers of a block device, for limits.
pub(super) fn block_numbers(major: i64, minor: i64, at: &At) -> Result<()> {
    number(major, MAJORS, &at.field("major"))?;
    number(minor, MINORS, &at.field("minor"))?;
    Ok(())
}

/// Checks one access rule and writes it out in full.
pub(super) fn rule(given: &DeviceRule, at: &At) -> Result<DeviceRule> {
    let kind = match given.kind.as_str() {
        "" | "a" => "a",
        word @ ("b" | "c") => word,
        other => {
            return Err(at
                .field("type")
                .invalid(other, "unknown device type; known: a, b, c"));
        }
    };
    for (value, limit, name) in [
        (given.major, MAJORS, "major"),
        (given.minor, MINORS, "minor"),
    ] {
        if let Some(value) = value.filter(|&v| v != -1) {
            number(value, limit, &at.field(name))?;
        }
    }
    let access = given.access.as_str();
    let letters = |c| access.chars().filter(|&a| a == c).count();
    if letters('r') + letters('w') + letters('m') != access.len()
        || "rwm".chars().any(|c| letters(c) > 1)
    {
        return Err(at
            .field("access")
            .invalid(access, "must be a composition of r, w and m"));
    }
    let concrete = |n: Option<i64>| n.is_some_and(|n| n != -1);
    if kind == "a"
        && (concrete(given.major) || concrete(given.minor) || !matches!(access.len(), 0 | 3))
    {
        // The kernel takes such a rule for every device and every access: far more than it says.
        return Err(at.conflict("a rule of type \"a\" holds for every device and every access"));
    }
    Ok(DeviceRule {
        allow: given.allow,
        kind: kind.to_owned(),
        major: Some(given.major.unwrap_or(-1)),
        minor: Some(given.minor.unwrap_or(-1)),
        access: if access.is_empty() { "rwm" } else { access }.to_owned(),
    })
}

/// Makes a list of rules complete: it begins with one for all devices, and the defaults are at
/// its end, unless they are switched off.
pub(super) fn complete_rules(
    rules: &mut Vec<DeviceRule>,
    annotations: &BTreeMap<String, String>,
) -> Result<()> {
    let at = At::top("annotations");
    match annotations
        .get(DEFAULT_DEVICE_RULES_ANNOTATION)
        .map(String::as_str)
    {
        None | Some("true") => {}
        Some("false") => return Ok(()),
        Some(other) => {
            return Err(at
                .key(DEFAULT_DEVICE_RULES_ANNOTATION)
                .invalid(other, "must be \"true\" or \"false\""));
        }
    }
    if rules.first().is_none_or(|first| first.kind != "a") {
        rules.insert(0, full_rule(false, "a", -1, -1, "rwm"));
    }
    for &(_, major, minor) in DEFAULT_DEVICES {
        rules.push(full_rule(true, "c", major.into(), minor.into(), "rwm"));
    }
    for &(kind, major, minor, access) in EXTRA_RULES {
        rules.push(full_rule(true, kind, major, minor, access));
    }
    Ok(())
}

fn full_rule(allow: bool, kind: &str, major: i64, minor: i64, access: &str) -> DeviceRule {
    DeviceRule {
        allow,
        kind: kind.to_owned(),
        major: Some(major),
        minor: Some(minor),
        access: access.to_owned(),
    }
}
