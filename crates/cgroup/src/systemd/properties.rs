//! Properties of a container's scope (org.freedesktop.systemd1(5), systemd.resource-control(5)).
//! Pure.

use std::collections::BTreeMap;

use spec::oci::Resources;

use super::gvariant;
use super::name::UnitName;
use super::value::{Value, property};
use crate::error::{Error, Result};
use crate::v2::convert;

/// Annotations with this prefix name properties; their values are in GVariant text.
pub(crate) const PREFIX: &str = "org.systemd.property.";

/// What a scope is started with. `is_v2` tells which of systemd's names for limits apply.
pub(crate) fn start(
    name: &UnitName,
    id: &str,
    pid: u32,
    resources: &Resources,
    is_v2: bool,
    extra: &[(String, Value)],
) -> Result<Vec<Value>> {
    let mut all = vec![
        property(
            "Description",
            format!("hull container {id}").as_str().into(),
        ),
        property("Slice", name.slice.as_str().into()),
        property("PIDs", Value::Array("u".into(), vec![Value::U32(pid)])),
        // The groups below are ours, and systemd leaves them alone.
        property("Delegate", Value::Bool(true)),
        property("DefaultDependencies", Value::Bool(false)),
    ];
    for accounting in [
        "CPUAccounting",
        "MemoryAccounting",
        "TasksAccounting",
        "IOAccounting",
    ] {
        // Version 1 has block I/O accounting under its own name.
        let accounting = match accounting {
            "IOAccounting" if !is_v2 => "BlockIOAccounting",
            other => other,
        };
        all.push(property(accounting, Value::Bool(true)));
    }
    let limits = limits(resources, is_v2)?;
    // systemd's default would bound what the container's own limit allows.
    if !limits.iter().any(|(name, _)| *name == "TasksMax") {
        all.push(property("TasksMax", Value::U64(u64::MAX)));
    }
    all.extend(
        limits
            .into_iter()
            .map(|(name, value)| property(name, value)),
    );
    all.extend(
        extra
            .iter()
            .map(|(name, value)| property(name, value.clone())),
    );
    Ok(all)
}

/// The limits that systemd keeps too: it would put its own idea of them back one day.
pub(crate) fn limits(r: &Resources, is_v2: bool) -> Result<Vec<(&'static str, Value)>> {
    let mut all = Vec::new();
    let infinity = |n: i64| Value::U64(u64::try_from(n).unwrap_or(u64::MAX));
    if let Some(m) = &r.memory {
        let set = |v: Option<i64>| v.filter(|&v| v != 0);
        if let Some(limit) = set(m.limit) {
            all.push((
                if is_v2 { "MemoryMax" } else { "MemoryLimit" },
                infinity(limit),
            ));
        }
        if is_v2 {
            if let Some(low) = set(m.reservation) {
                all.push(("MemoryLow", infinity(low)));
            }
            // A sum without its limit is an update, which the inner group settles.
            let swap = match (set(m.swap), set(m.limit)) {
                (Some(swap), None) if swap > 0 => None,
                _ => convert::swap_max(m.swap, m.limit)?,
            };
            if let Some(swap) = swap {
                all.push(("MemorySwapMax", infinity(swap.parse().unwrap_or(-1))));
            }
        }
    }
    if let Some(c) = &r.cpu {
        if let Some(shares) = c.shares.filter(|&s| s != 0 && c.idle != Some(1)) {
            all.push(if is_v2 {
                ("CPUWeight", Value::U64(convert::cpu_weight(shares).into()))
            } else {
                ("CPUShares", Value::U64(shares))
            });
        }
        if let Some(quota) = c.quota.filter(|&q| q != 0) {
            let quota = cpu_quota_per_second(quota, c.period);
            all.push(("CPUQuotaPerSecUSec", Value::U64(quota)));
        }
    }
    // systemd has no limit of 0; the inner group has.
    if let Some(limit) = r.pids.as_ref().and_then(|p| p.limit).filter(|&l| l != 0) {
        all.push(("TasksMax", infinity(limit)));
    }
    Ok(all)
}

/// Microseconds a second. systemd keeps whole per cents, so it is rounded up to one: the inner
/// group must be able to have its exact quota.
fn cpu_quota_per_second(quota: i64, period: Option<u64>) -> u64 {
    const PER_CENT: u64 = 10_000;
    let Ok(quota) = u64::try_from(quota) else {
        return u64::MAX;
    };
    let period = period.filter(|&p| p != 0).unwrap_or(100_000);
    (quota.saturating_mul(1_000_000) / period)
        .checked_next_multiple_of(PER_CENT)
        .unwrap_or(u64::MAX)
}

/// Properties from annotations.
pub(crate) fn from_annotations(
    annotations: &BTreeMap<String, String>,
) -> Result<Vec<(String, Value)>> {
    let ours = annotations.iter().filter_map(|(key, text)| {
        let name = key.strip_prefix(PREFIX)?;
        Some(one(name, text).map_err(|reason| Error::value(key, format!("{text:?}"), reason)))
    });
    ours.collect()
}

fn one(name: &str, text: &str) -> std::result::Result<(String, Value), &'static str> {
    let good = name.len() > 2 && name.bytes().all(|b| b.is_ascii_alphabetic());
    if !good {
        return Err("not a property's name");
    }
    let value = gvariant::parse(text)?;
    // In unit files times are in seconds; on the bus the same property counts microseconds.
    match name.strip_suffix("Sec") {
        Some(stem) if stem.bytes().last().is_some_and(|b| b.is_ascii_lowercase()) => {
            Ok((format!("{stem}USec"), to_microseconds(&value)?))
        }
        _ => Ok((name.to_owned(), value)),
    }
}

fn to_microseconds(value: &Value) -> std::result::Result<Value, &'static str> {
    const WRONG: &str = "not a number of seconds";
    let whole = match *value {
        Value::Byte(n) => n.into(),
        Value::U16(n) => n.into(),
        Value::U32(n) => n.into(),
        Value::U64(n) => n,
        Value::I16(n) => u64::try_from(n).map_err(|_| WRONG)?,
        Value::I32(n) => u64::try_from(n).map_err(|_| WRONG)?,
        Value::I64(n) => u64::try_from(n).map_err(|_| WRONG)?,
        Value::F64(n) if (0.0..1e12).contains(&n) => {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "the range has been checked"
            )]
            return Ok(Value::U64((n * 1e6) as u64));
        }
        _ => return Err(WRONG),
    };
    whole.checked_mul(1_000_000).map(Value::U64).ok_or(WRONG)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources(json: &str) -> Resources {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn limits_by_version() {
        let r = resources(
            r#"{"memory":{"limit":1000,"swap":1500,"reservation":10},
                "cpu":{"shares":1024,"quota":50001,"period":100000},"pids":{"limit":-1}}"#,
        );
        let v2 = [
            ("MemoryMax", 1000),
            ("MemoryLow", 10),
            ("MemorySwapMax", 500),
            ("CPUWeight", 100),
            ("CPUQuotaPerSecUSec", 510_000),
            ("TasksMax", u64::MAX),
        ];
        let v1 = [
            ("MemoryLimit", 1000),
            ("CPUShares", 1024),
            ("CPUQuotaPerSecUSec", 510_000),
            ("TasksMax", u64::MAX),
        ];
        assert_eq!(
            limits(&r, true).unwrap(),
            v2.map(|(n, v)| (n, Value::U64(v)))
        );
        assert_eq!(
            limits(&r, false).unwrap(),
            v1.map(|(n, v)| (n, Value::U64(v)))
        );
        let none = resources(r#"{"memory":{"limit":-1,"swap":0},"cpu":{"quota":-1}}"#);
        let all = limits(&none, true).unwrap();
        assert!(
            all.iter().all(|(_, v)| *v == Value::U64(u64::MAX)),
            "{all:?}"
        );
        assert!(limits(&resources("{}"), true).unwrap().is_empty());
        // What the inner group alone can say.
        let inner = resources(r#"{"pids":{"limit":0},"memory":{"swap":5}}"#);
        assert!(limits(&inner, true).unwrap().is_empty());
    }

    #[test]
    fn a_scope_is_delegated_and_has_no_default_limit() {
        let name = UnitName::parse(Some("a.slice:p:n"), "n", false).unwrap();
        let all = start(&name, "n", 7, &Resources::default(), true, &[]).unwrap();
        for want in [
            property("Delegate", Value::Bool(true)),
            property("Slice", "a.slice".into()),
            property("PIDs", Value::Array("u".into(), vec![Value::U32(7)])),
            property("TasksMax", Value::U64(u64::MAX)),
        ] {
            assert!(all.contains(&want), "{want:?}");
        }
    }

    #[test]
    fn annotations() {
        let map = |key: &str, text: &str| BTreeMap::from([(key.to_owned(), text.to_owned())]);
        for (key, text, name, value) in [
            (
                "TimeoutStopUSec",
                "uint64 5",
                "TimeoutStopUSec",
                Value::U64(5),
            ),
            (
                "TimeoutStopSec",
                "5",
                "TimeoutStopUSec",
                Value::U64(5_000_000),
            ),
            (
                "TimeoutStopSec",
                "1.5",
                "TimeoutStopUSec",
                Value::U64(1_500_000),
            ),
            (
                "CollectMode",
                "'inactive'",
                "CollectMode",
                "inactive".into(),
            ),
        ] {
            let got = from_annotations(&map(&format!("{PREFIX}{key}"), text)).unwrap();
            assert_eq!(got, [(name.to_owned(), value)]);
        }
        assert!(from_annotations(&map("other", "?")).unwrap().is_empty());
        for (key, text) in [
            ("A", "1"),
            ("A-B", "1"),
            ("", "1"),
            ("Good", "?"),
            ("XSec", "'a'"),
            ("LongSec", "-1"),
        ] {
            let e = from_annotations(&map(&format!("{PREFIX}{key}"), text));
            // One capital before "Sec" is a property of that name, not a time.
            if key == "XSec" {
                assert_eq!(e.unwrap()[0].0, "XSec");
            } else {
                assert!(e.is_err(), "{key} {text}");
            }
        }
    }
}
