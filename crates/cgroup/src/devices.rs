//! Device access rules, the pure part: what the list in `config.json` means.
//!
//! The rules are taken in order; each gives or takes the rights it names (`r`, `w`, `m`) for the
//! devices it matches; what no rule gave is denied. An access is allowed when every right it
//! needs is given. Both back ends (the version 1 controller, the BPF program of version 2) are
//! made from this.

use spec::oci::DeviceRule;

use crate::error::{Error, Result};

/// Rights; the values are those of BPF_DEVCG_ACC_… in linux/bpf.h.
pub(crate) type Access = u8;
/// mknod(2).
pub(crate) const MKNOD: Access = 1;
/// Open for reading.
pub(crate) const READ: Access = 2;
/// Open for writing.
pub(crate) const WRITE: Access = 4;
/// All three.
pub(crate) const ALL: Access = MKNOD | READ | WRITE;

/// The kinds of device files.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Kind {
    Block,
    Char,
}

/// Which devices a rule is about; `None` is any.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Devices {
    pub(crate) kind: Option<Kind>,
    pub(crate) major: Option<u32>,
    pub(crate) minor: Option<u32>,
}

impl Devices {
    /// Every device.
    pub(crate) const ANY: Self = Self {
        kind: None,
        major: None,
        minor: None,
    };

    /// Whether all of `other`'s devices are ours too.
    pub(crate) fn covers(self, other: Self) -> bool {
        fn field<T: PartialEq>(ours: Option<T>, theirs: Option<T>) -> bool {
            ours.is_none() || ours == theirs
        }
        field(self.kind, other.kind)
            && field(self.major, other.major)
            && field(self.minor, other.minor)
    }

    /// Whether some device is in both.
    pub(crate) fn overlaps(self, other: Self) -> bool {
        fn field<T: PartialEq>(ours: Option<T>, theirs: Option<T>) -> bool {
            ours.is_none() || theirs.is_none() || ours == theirs
        }
        field(self.kind, other.kind)
            && field(self.major, other.major)
            && field(self.minor, other.minor)
    }
}

/// One checked rule.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Rule {
    pub(crate) allow: bool,
    pub(crate) devices: Devices,
    pub(crate) access: Access,
}

impl Rule {
    /// Whether it decides everything, so that the rules before it do not matter.
    pub(crate) fn is_total(self) -> bool {
        self.devices == Devices::ANY && self.access == ALL
    }
}

/// Checks the configured rules, and drops those that a later total rule overrides.
pub(crate) fn parse(rules: &[DeviceRule]) -> Result<Vec<Rule>> {
    let rules = rules.iter().map(parse_one).collect::<Result<Vec<_>>>()?;
    let from = rules.iter().rposition(|r| r.is_total()).unwrap_or(0);
    Ok(rules[from..].to_vec())
}

fn parse_one(rule: &DeviceRule) -> Result<Rule> {
    let refuse = |reason: &str| {
        let word = |n: Option<i64>| n.map_or_else(|| "*".to_owned(), |n| n.to_string());
        let (major, minor) = (word(rule.major), word(rule.minor));
        let text = format!("{:?} {major}:{minor} {:?}", rule.kind, rule.access);
        Error::value("devices", text, reason)
    };
    let kind = match rule.kind.as_str() {
        "" | "a" => None,
        "b" => Some(Kind::Block),
        "c" | "u" => Some(Kind::Char),
        _ => return Err(refuse("type is none of a, b, c")),
    };
    let number = |n: Option<i64>| match n {
        None | Some(-1) => Ok(None),
        Some(n) => u32::try_from(n)
            .map(Some)
            .map_err(|_| refuse("not a device number")),
    };
    let mut access = 0;
    for letter in rule.access.chars() {
        access |= match letter {
            'r' => READ,
            'w' => WRITE,
            'm' => MKNOD,
            _ => return Err(refuse("access has a letter that is none of r, w, m")),
        };
    }
    Ok(Rule {
        allow: rule.allow,
        devices: Devices {
            kind,
            major: number(rule.major)?,
            minor: number(rule.minor)?,
        },
        access: if rule.access.is_empty() { ALL } else { access },
    })
}

/// The rules' meaning, spelled out: what is given for one device. The back ends are tested
/// against it.
#[cfg(test)]
pub(crate) fn rights(rules: &[Rule], device: Devices) -> Access {
    rules
        .iter()
        .filter(|r| r.devices.covers(device))
        .fold(0, |given, r| {
            if r.allow {
                given | r.access
            } else {
                given & !r.access
            }
        })
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn rule(
        allow: bool,
        kind: &str,
        major: i64,
        minor: i64,
        access: &str,
    ) -> DeviceRule {
        DeviceRule {
            allow,
            kind: kind.into(),
            major: Some(major),
            minor: Some(minor),
            access: access.into(),
        }
    }

    /// Any list of rules over a few devices.
    pub(crate) fn some_rules() -> impl Strategy<Value = Vec<DeviceRule>> {
        let one = (
            any::<bool>(),
            prop_oneof![Just("a"), Just("b"), Just("c")],
            -1..3_i64,
            -1..3_i64,
            prop_oneof![
                Just("rwm"),
                Just("rw"),
                Just("r"),
                Just("w"),
                Just("m"),
                Just("")
            ],
        );
        let one = one.prop_map(|(allow, kind, major, minor, access)| {
            rule(allow, kind, major, minor, access)
        });
        prop::collection::vec(one, 0..8)
    }

    /// All devices that [`some_rules`] can tell apart.
    pub(crate) fn some_devices() -> impl Iterator<Item = Devices> {
        [Kind::Block, Kind::Char].into_iter().flat_map(|kind| {
            (0..4_u32).flat_map(move |major| {
                (0..4_u32).map(move |minor| Devices {
                    kind: Some(kind),
                    major: Some(major),
                    minor: Some(minor),
                })
            })
        })
    }

    #[test]
    fn words() {
        let r = parse(&[rule(true, "c", 1, -1, "rw")]).unwrap()[0];
        assert_eq!(r.access, READ | WRITE);
        assert_eq!(r.devices.major, Some(1));
        assert_eq!(r.devices.minor, None);
        for bad in [
            rule(true, "x", 1, 1, "r"),
            rule(true, "c", -2, 1, "r"),
            rule(true, "c", 1, 1 << 32, "r"),
            rule(true, "c", 1, 1, "rx"),
        ] {
            let e = parse(&[bad]).unwrap_err();
            assert!(e.to_string().starts_with("devices: "), "{e}");
        }
        let everything = DeviceRule::default();
        let rules = [
            rule(true, "c", 1, 3, "r"),
            everything,
            rule(true, "b", 8, 0, "r"),
        ];
        let parsed = parse(&rules).unwrap();
        assert_eq!(parsed.len(), 2);
        assert!(parsed[0].is_total());
    }

    proptest! {
        #[test]
        fn dropping_overridden_rules_changes_nothing(rules in some_rules()) {
            let all: Vec<Rule> = rules.iter().map(|r| parse_one(r).unwrap()).collect();
            let kept = parse(&rules).unwrap();
            for device in some_devices() {
                prop_assert_eq!(rights(&all, device), rights(&kept, device));
            }
        }
    }
}
