//! Device rules for the version 1 controller (devices cgroup, admin-guide/cgroup-v1/devices.rst).
//!
//! That controller has a default (all or nothing) and exceptions from it. It ignores a rule
//! that overlaps an exception without matching it exactly, so the list is first brought into a
//! form in which this does not happen, or refused where there is none.

use std::collections::BTreeMap;

use spec::oci::DeviceRule;
use sys::Errno;

use crate::devices::{ALL, Access, Devices, Kind, MKNOD, READ, Rule, WRITE, parse};
use crate::dir::Dir;
use crate::error::{Error, Result};

/// A default and its exceptions.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Table {
    allow_by_default: bool,
    exceptions: BTreeMap<Devices, Access>,
}

/// Puts the rules in force.
pub(crate) fn apply(dir: &Dir, rules: &[DeviceRule]) -> Result<()> {
    let table = Table::new(&parse(rules)?)?;
    let (all, exceptions) = table.files();
    match dir.write(all, "a") {
        Ok(()) => dir.write_each(exceptions, &table.lines())?,
        // The default cannot change any more once the group has children: exceptions can.
        Err(e) if e.errno == Errno::INVAL => amend(dir, &table)?,
        Err(e) => return Err(e.into()),
    }
    Ok(())
}

/// Brings a group that has children from the exceptions in force to those wanted.
fn amend(dir: &Dir, wanted: &Table) -> Result<()> {
    let current = Table::read(&dir.read("devices.list")?);
    if current.allow_by_default || wanted.allow_by_default {
        if current == *wanted {
            return Ok(());
        }
        let reason = "the default cannot change while the control group has children";
        return Err(Error::value("devices", dir.path().display(), reason));
    }
    let lines = |from: &Table, without: &Table| -> Vec<String> {
        let left = from.exceptions.iter().filter_map(|(devices, access)| {
            let kept = without.exceptions.get(devices).copied().unwrap_or(0);
            let access = access & !kept;
            (access != 0).then(|| line(*devices, access))
        });
        left.collect()
    };
    dir.write_each("devices.allow", &lines(wanted, &current))?;
    dir.write_each("devices.deny", &lines(&current, wanted))?;
    Ok(())
}

impl Table {
    fn new(rules: &[Rule]) -> Result<Self> {
        let mut table = Self::default();
        for rule in rules {
            if rule.is_total() {
                table = Self {
                    allow_by_default: rule.allow,
                    exceptions: BTreeMap::new(),
                };
                continue;
            }
            for devices in by_kind(rule.devices) {
                table.add(rule.allow, devices, rule.access)?;
            }
        }
        table.widen();
        Ok(table)
    }

    fn add(&mut self, allow: bool, devices: Devices, access: Access) -> Result<()> {
        if allow != self.allow_by_default {
            *self.exceptions.entry(devices).or_default() |= access;
            return Ok(());
        }
        for (exception, theirs) in &mut self.exceptions {
            if *theirs & access == 0 || !devices.overlaps(*exception) {
                continue;
            }
            if !devices.covers(*exception) {
                let reason = format!(
                    "cgroup v1 cannot {} it out of the earlier rule {:?}",
                    if allow { "allow" } else { "deny" },
                    line(*exception, *theirs),
                );
                return Err(Error::value("devices", line(devices, access), reason));
            }
            *theirs &= !access;
        }
        self.exceptions.retain(|_, access| *access != 0);
        Ok(())
    }

    /// The controller wants one exception to grant all that an access needs, so each gets what
    /// those that cover it grant.
    fn widen(&mut self) {
        if self.allow_by_default {
            return;
        }
        let all = self.exceptions.clone();
        for (devices, access) in &mut self.exceptions {
            for (wider, theirs) in &all {
                if wider.covers(*devices) {
                    *access |= theirs;
                }
            }
        }
    }

    /// The file that sets the default and the file that takes the exceptions.
    fn files(&self) -> (&'static str, &'static str) {
        if self.allow_by_default {
            ("devices.allow", "devices.deny")
        } else {
            ("devices.deny", "devices.allow")
        }
    }

    fn lines(&self) -> Vec<String> {
        self.exceptions.iter().map(|(d, a)| line(*d, *a)).collect()
    }

    /// What `devices.list` shows; a default of "all" shows as one line `a *:* rwm`.
    fn read(list: &str) -> Self {
        let mut table = Self::default();
        for text in list.lines() {
            match parse_line(text) {
                Some((Devices::ANY, _)) => table.allow_by_default = true,
                Some((devices, access)) => {
                    table.exceptions.insert(devices, access);
                }
                None => {}
            }
        }
        table
    }
}

/// The controller knows exceptions of one kind only.
fn by_kind(devices: Devices) -> impl Iterator<Item = Devices> {
    let kinds = match devices.kind {
        Some(kind) => [Some(kind), None],
        None => [Some(Kind::Char), Some(Kind::Block)],
    };
    kinds.into_iter().flatten().map(move |kind| Devices {
        kind: Some(kind),
        ..devices
    })
}

fn line(devices: Devices, access: Access) -> String {
    let kind = match devices.kind {
        None => 'a',
        Some(Kind::Char) => 'c',
        Some(Kind::Block) => 'b',
    };
    let number = |n: Option<u32>| n.map_or_else(|| "*".to_owned(), |n| n.to_string());
    let (major, minor) = (number(devices.major), number(devices.minor));
    let mut line = format!("{kind} {major}:{minor} ");
    for (bit, letter) in [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')] {
        if access & bit != 0 {
            line.push(letter);
        }
    }
    line
}

fn parse_line(line: &str) -> Option<(Devices, Access)> {
    let mut words = line.split(' ');
    let kind = match words.next()? {
        "a" => return Some((Devices::ANY, ALL)),
        "b" => Kind::Block,
        "c" => Kind::Char,
        _ => return None,
    };
    let (major, minor) = words.next()?.split_once(':')?;
    let number = |n: &str| match n {
        "*" => Some(None),
        n => n.parse().ok().map(Some),
    };
    let access = words.next()?.bytes().fold(0, |all, letter| {
        all | match letter {
            b'r' => READ,
            b'w' => WRITE,
            b'm' => MKNOD,
            _ => 0,
        }
    });
    let devices = Devices {
        kind: Some(kind),
        major: number(major)?,
        minor: number(minor)?,
    };
    Some((devices, access))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::devices::rights;
    use crate::devices::tests::{rule, some_devices, some_rules};

    /// devcgroup_check_permission() of security/device_cgroup.c.
    fn kernel_allows(table: &Table, device: Devices, access: Access) -> bool {
        if table.allow_by_default {
            let hit = |(d, a): (&Devices, &Access)| d.covers(device) && a & access != 0;
            !table.exceptions.iter().any(hit)
        } else {
            let hit = |(d, a): (&Devices, &Access)| d.covers(device) && a & access == access;
            table.exceptions.iter().any(hit)
        }
    }

    #[test]
    fn a_usual_list() {
        let rules = [
            rule(false, "a", -1, -1, "rwm"),
            rule(true, "c", -1, -1, "m"),
            rule(true, "c", 1, 3, "rw"),
            rule(true, "c", 5, 1, "rwm"),
            rule(false, "c", 5, 1, "rw"),
            rule(true, "c", 5, 1, "m"),
        ];
        let table = Table::new(&parse(&rules).unwrap()).unwrap();
        assert_eq!(table.lines(), ["c *:* m", "c 1:3 rwm", "c 5:1 m"]);
        assert_eq!(table.files(), ("devices.deny", "devices.allow"));
        assert_eq!(Table::read("c *:* m\nc 1:3 rwm\nc 5:1 m\n"), table);
        assert!(Table::read("a *:* rwm\n").allow_by_default);
    }

    #[test]
    fn what_version_1_cannot_say_is_refused() {
        let rules = [rule(true, "c", -1, -1, "m"), rule(false, "c", 1, 3, "m")];
        let e = Table::new(&parse(&rules).unwrap()).unwrap_err();
        assert!(e.to_string().contains("\"c *:* m\""), "{e}");
    }

    proptest! {
        /// Never more than the rules give; the same, but for accesses that need several rights
        /// which two crossing exceptions (`1:*`, `*:3`) give together.
        #[test]
        fn means_what_the_rules_mean(rules in some_rules()) {
            let rules = parse(&rules).unwrap();
            let Ok(table) = Table::new(&rules) else { return Ok(()) };
            for device in some_devices() {
                let given = rights(&rules, device);
                for access in 1..=ALL {
                    let want = given & access == access;
                    let got = kernel_allows(&table, device, access);
                    if access.count_ones() == 1 || table.allow_by_default {
                        prop_assert_eq!(got, want, "{:?} {} {:?}", device, access, table);
                    } else {
                        prop_assert!(want || !got, "{:?} {} {:?}", device, access, table);
                    }
                }
            }
        }
    }
}
