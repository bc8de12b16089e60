//! Capabilities of a container: what is asked for, within what this daemon itself may give.

use spec::oci::Capabilities;

use cri_api::v1::Capability;

use crate::error::{Error, Result};

/// Every capability, by number.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What a container gets that asks for nothing: the field's common set.
pub const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// Capabilities as a set of bits.
type Set = u64;

/// The names (`CAP_…`) of a set.
fn words(set: Set) -> Vec<String> {
    let has = |&(bit, _): &(usize, &&str)| set & (1 << bit) != 0;
    NAMES
        .iter()
        .enumerate()
        .filter(has)
        .map(|(_, name)| format!("CAP_{name}"))
        .collect()
}

fn bit(name: &str) -> Result<Set> {
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    NAMES
        .iter()
        .position(|&known| known == bare)
        .map(|n| 1 << n)
        .ok_or_else(|| Error::invalid(format!("capability {name}: no such capability")))
}

/// A set from names; `ALL` is every capability.
pub fn parse(names: &[String]) -> Result<Set> {
    names.iter().try_fold(0, |set, name| {
        Ok(set
            | if name.eq_ignore_ascii_case("ALL") {
                Set::MAX
            } else {
                bit(name)?
            })
    })
}

/// What this process may hand on: its bounding set.
pub fn bounding() -> Set {
    let read = |n: usize| {
        let set = rustix::thread::CapabilitySet::from_bits_retain(1 << n);
        rustix::thread::capability_is_in_bounding_set(set).unwrap_or(false)
    };
    (0..NAMES.len())
        .filter(|&n| read(n))
        .fold(0, |all, n| all | 1 << n)
}

/// The sets of a container. Names that were added but that we cannot give are in the second part.
pub fn resolve(
    asked: Option<&Capability>,
    privileged: bool,
    defaults: Set,
    bounding: Set,
) -> Result<(Capabilities, Vec<String>)> {
    let nothing = Capability::default();
    let asked = asked.unwrap_or(&nothing);
    let ambient = parse(&asked.add_ambient_capabilities)?;
    let wanted = if privileged {
        Set::MAX
    } else {
        let all = |names: &[String]| names.iter().any(|n| n.eq_ignore_ascii_case("ALL"));
        let named = |names: &[String]| {
            let named: Vec<String> = names
                .iter()
                .filter(|n| !n.eq_ignore_ascii_case("ALL"))
                .cloned()
                .collect();
            parse(&named)
        };
        let mut set = if all(&asked.add_capabilities) {
            Set::MAX
        } else {
            defaults
        };
        if all(&asked.drop_capabilities) {
            set = 0;
        }
        (set | named(&asked.add_capabilities)? | ambient) & !named(&asked.drop_capabilities)?
    };
    let granted = wanted & bounding;
    let explicit = if privileged {
        0
    } else {
        parse_named(&asked.add_capabilities)?
    };
    let sets = Capabilities {
        bounding: words(granted),
        effective: words(granted),
        permitted: words(granted),
        inheritable: words(ambient & granted),
        ambient: words(ambient & granted),
    };
    Ok((sets, words(explicit & !bounding)))
}

fn parse_named(names: &[String]) -> Result<Set> {
    let named = names.iter().filter(|n| !n.eq_ignore_ascii_case("ALL"));
    named.map(|n| bit(n)).try_fold(0, |all, one| Ok(all | one?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(add: &[&str], drop: &[&str], ambient: &[&str]) -> Capability {
        let list = |names: &[&str]| names.iter().map(|&n| n.to_owned()).collect();
        Capability {
            add_capabilities: list(add),
            drop_capabilities: list(drop),
            add_ambient_capabilities: list(ambient),
        }
    }

    fn get(asked: &Capability, privileged: bool, bounding: Set) -> Vec<String> {
        let defaults = parse(&["CHOWN".into(), "KILL".into()]).unwrap();
        resolve(Some(asked), privileged, defaults, bounding)
            .unwrap()
            .0
            .bounding
    }

    #[test]
    fn adds_and_drops() {
        let all = Set::MAX;
        assert_eq!(
            get(&asked(&[], &[], &[]), false, all),
            ["CAP_CHOWN", "CAP_KILL"]
        );
        assert_eq!(
            get(&asked(&["net_admin"], &["CAP_KILL"], &[]), false, all),
            ["CAP_CHOWN", "CAP_NET_ADMIN"]
        );
        assert_eq!(
            get(&asked(&["SYS_TIME"], &["ALL"], &[]), false, all),
            ["CAP_SYS_TIME"]
        );
        assert_eq!(
            get(&asked(&["ALL"], &["SYS_TIME"], &[]), false, all).len(),
            40
        );
        assert_eq!(get(&asked(&[], &[], &[]), true, all).len(), 41);
        assert!(resolve(Some(&asked(&["NOPE"], &[], &[])), false, 0, all).is_err());
    }

    #[test]
    fn nothing_beyond_our_own() {
        let resource = parse(&["SYS_RESOURCE".into()]).unwrap();
        assert_eq!(get(&asked(&[], &[], &[]), true, !resource).len(), 40);
        let (sets, missed) = resolve(
            Some(&asked(&["SYS_RESOURCE"], &[], &[])),
            false,
            0,
            !resource,
        )
        .unwrap();
        assert!(sets.bounding.is_empty());
        assert_eq!(missed, ["CAP_SYS_RESOURCE"]);
    }

    #[test]
    fn ambient_ones_are_inheritable() {
        let request = asked(&[], &[], &["NET_BIND_SERVICE"]);
        let (sets, _) = resolve(Some(&request), false, 0, Set::MAX).unwrap();
        assert_eq!(sets.ambient, ["CAP_NET_BIND_SERVICE"]);
        assert_eq!(sets.inheritable, sets.ambient);
        assert_eq!(sets.bounding, sets.ambient);
    }
}
