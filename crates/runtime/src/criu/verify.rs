//! Measuring restored processes against the configuration.
//!
//! An image can come from anywhere, and what is in it becomes processes with the rights of whoever
//! restores them. criu brings back what it was given: capabilities, filters, mounts. So before
//! what was restored may run, it is compared with what the configuration would have allowed it
//! (the class of CVE-2024-8676).

use std::path::{Path, PathBuf};

use rootfs::Last;
use spec::Plan;
use spec::plan::{CapabilitySets, MountAttrs, MountKind, NamespaceKind};
use sys::Context as _;

use super::outside::{root_of, seen};
use crate::{Error, Result};

/// Bit of CAP_SYS_ADMIN: a container that has it may have made mounts of its own.
const SYS_ADMIN: u64 = 1 << 21;

/// Refuses processes that have more than `plan` gives.
///
/// # Errors
/// The first process and what it has too much of.
pub fn verify(plan: &Plan, pids: &[i32]) -> Result<()> {
    for &pid in pids {
        let status = read(pid, "status")?;
        let found = excess_of_rights(plan, &status)
            .or_else(|| foreign_namespace(plan, pid))
            .or_else(|| excess_of_sight(plan, pid));
        if let Some(what) = found {
            let text = format!(
                "the image holds a process (pid {pid}) that {what}, which the configuration does not allow"
            );
            return Err(Error::Invalid(text));
        }
    }
    Ok(())
}

fn read(pid: i32, file: &str) -> Result<String> {
    let path = format!("/proc/{pid}/{file}");
    Ok(std::fs::read_to_string(&path).context("read", || path)?)
}

/// proc_pid_status(5): capabilities, no_new_privs, seccomp.
fn excess_of_rights(plan: &Plan, status: &str) -> Option<String> {
    let process = plan.process.as_ref();
    let sets = process.and_then(|p| p.capabilities).unwrap_or_default();
    let CapabilitySets {
        bounding,
        effective,
        inheritable,
        permitted,
        ambient,
    } = sets;
    // What a program with file capabilities gains is inside the bounding set.
    let usable = bounding | permitted;
    let limits = [
        ("CapBnd:", bounding),
        ("CapPrm:", usable),
        ("CapEff:", usable | effective),
        ("CapInh:", inheritable),
        ("CapAmb:", ambient),
    ];
    for (name, limit) in limits {
        let has = u64::from_str_radix(field(status, name)?, 16).ok()?;
        if has & !limit != 0 {
            let names = crate::identity::cap_names(has & !limit).join(", ");
            return Some(format!("has {names} ({})", name.trim_end_matches(':')));
        }
    }
    let no_new_privileges = process.is_some_and(|p| p.no_new_privileges);
    if no_new_privileges && field(status, "NoNewPrivs:")? != "1" {
        let text = "can gain privileges (criu before 3.19 forgets no_new_privs)";
        return Some(text.to_owned());
    }
    // 2 is SECCOMP_MODE_FILTER.
    if plan.seccomp.is_some() && field(status, "Seccomp:")? != "2" {
        return Some("has no system-call filter".to_owned());
    }
    None
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim())
}

/// A namespace of the runtime's own where the configuration wants another.
fn foreign_namespace(plan: &Plan, pid: i32) -> Option<String> {
    NamespaceKind::ALL.into_iter().find_map(|kind| {
        let link = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/{}", kind.proc_name()));
        let shared = link("self").ok()? == link(&pid.to_string()).ok()?;
        let wanted = !plan.namespaces.is_inherited(kind);
        (wanted && shared).then(|| format!("is in the {} namespace of the host", kind.oci_name()))
    })
}

/// What a process sees that the configuration hides, or protects from it.
fn excess_of_sight(plan: &Plan, pid: i32) -> Option<String> {
    let sets = plan.process.as_ref().and_then(|p| p.capabilities);
    if sets.is_some_and(|s| (s.bounding | s.permitted) & SYS_ADMIN != 0) {
        return None;
    }
    let root = root_of(pid).ok()?;
    let text = read(pid, "mountinfo").ok()?;
    let mounts: Vec<_> = text.lines().filter_map(place_and_flags).collect();
    let seen = |path: &Path| seen(&root, path);
    let exists = |path: &Path| root.resolve(path, Last::Nofollow).is_ok();
    foreign_mount(plan, &mounts, seen).or_else(|| lost_protection(plan, &mounts, seen, exists))
}

/// proc_pid_mountinfo(5): the mount point is field 5, with octal escapes, its flags field 6.
fn place_and_flags(line: &str) -> Option<(PathBuf, &str)> {
    let mut fields = line.split(' ').skip(4);
    Some((PathBuf::from(unescape(fields.next()?)), fields.next()?))
}

/// A mount that no line of the configuration accounts for.
fn foreign_mount(
    plan: &Plan,
    mounts: &[(PathBuf, &str)],
    seen: impl Fn(&Path) -> PathBuf,
) -> Option<String> {
    let mut places = mounts.iter().map(|(place, _)| place);
    places
        .find(|place| !is_accounted_for(plan, place, &seen))
        .map(|place| format!("sees a mount on {}", place.display()))
}

/// A mount without the flags that the configuration gives it, or a file of the kernel's that it
/// hides or makes read-only and that is not.
fn lost_protection(
    plan: &Plan,
    mounts: &[(PathBuf, &str)],
    seen: impl Fn(&Path) -> PathBuf,
    exists: impl Fn(&Path) -> bool,
) -> Option<String> {
    const FLAGS: [(u64, &str); 4] = [
        (MountAttrs::RDONLY, "ro"),
        (MountAttrs::NOSUID, "nosuid"),
        (MountAttrs::NODEV, "nodev"),
        (MountAttrs::NOEXEC, "noexec"),
    ];
    let flags_on = |place: &Path| {
        let on_top = mounts.iter().rev().find(|(found, _)| found == place);
        on_top.map(|(_, flags)| *flags)
    };
    let lacks = |place: &Path, flag: &str| {
        flags_on(place).is_some_and(|flags| !flags.split(',').any(|f| f == flag))
    };
    if plan.root.readonly && lacks(Path::new("/"), "ro") {
        return Some("can write to / (criu 3.17 forgets that it is read-only)".to_owned());
    }
    for (index, mount) in plan.mounts.iter().enumerate() {
        let later = plan.mounts.get(index + 1..).unwrap_or_default();
        let covered = later.iter().any(|m| m.destination == mount.destination);
        let place = seen(&mount.destination);
        let mut wanted = FLAGS.iter().filter(|(bit, _)| mount.attrs.set & bit != 0);
        if let Some((_, flag)) = wanted.find(|(_, flag)| !covered && lacks(&place, flag)) {
            return Some(format!("sees {} without {flag}", place.display()));
        }
    }
    // Elsewhere the container may have made a file since.
    let of_kernel = |path: &&PathBuf| path.starts_with("/proc") || path.starts_with("/sys");
    let bare = |path: &&PathBuf| exists(path) && flags_on(&seen(path)).is_none();
    let hidden = plan.masked_paths.iter().filter(of_kernel).find(bare);
    if let Some(path) = hidden {
        return Some(format!("sees the masked {}", path.display()));
    }
    let mut protected = plan.readonly_paths.iter().filter(of_kernel);
    protected
        .find(|path| bare(path) || lacks(&seen(path), "ro"))
        .map(|path| format!("can write to {}", path.display()))
}

fn is_accounted_for(plan: &Plan, place: &Path, seen: impl Fn(&Path) -> PathBuf) -> bool {
    const OWN: [&str; 3] = ["/", "/dev/console", "/dev/ptmx"];
    let own = OWN.iter().any(|path| place == Path::new(path));
    let hidden = plan.masked_paths.iter().chain(&plan.readonly_paths);
    let nodes = plan.devices.iter().map(|device| &device.path);
    own || hidden
        .chain(nodes)
        .any(|path| path == place || seen(path) == place)
        || plan.mounts.iter().any(|mount| match &mount.kind {
            MountKind::Bind {
                recursive: true, ..
            }
            | MountKind::Cgroup => place.starts_with(seen(&mount.destination)),
            _ => place == seen(&mount.destination),
        })
}

fn unescape(field: &str) -> String {
    let mut out = String::new();
    let mut rest = field;
    while let Some((plain, escaped)) = rest.split_once('\\') {
        out.push_str(plain);
        let code = escaped.get(..3).and_then(|d| u8::from_str_radix(d, 8).ok());
        if let Some(code) = code {
            out.push(char::from(code));
            rest = escaped.get(3..).unwrap_or_default();
        } else {
            out.push('\\');
            rest = escaped;
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(change: impl FnOnce(&mut spec::oci::Spec)) -> Plan {
        let mut spec = spec::default_spec(false);
        change(&mut spec);
        Plan::new(&spec, Path::new("/b")).unwrap().0
    }

    fn status(permitted: u64, no_new_privs: u8, seccomp: u8) -> String {
        format!(
            "CapInh:\t0\nCapPrm:\t{permitted:016x}\nCapEff:\t0\nCapBnd:\t20000420\nCapAmb:\t0\nNoNewPrivs:\t{no_new_privs}\nSeccomp:\t{seccomp}\n"
        )
    }

    #[test]
    fn rights_beyond_the_configuration() {
        let plain = plan(|_| {});
        assert_eq!(excess_of_rights(&plain, &status(0x2000_0420, 1, 0)), None);
        assert_eq!(
            excess_of_rights(&plain, &status(1 << 21, 1, 0)).unwrap(),
            "has CAP_SYS_ADMIN (CapPrm)"
        );
        assert_eq!(
            excess_of_rights(&plain, &status(0, 0, 0)).unwrap(),
            "can gain privileges (criu before 3.19 forgets no_new_privs)"
        );
        let filtered = plan(|spec| {
            let seccomp = spec::oci::Seccomp {
                default_action: "SCMP_ACT_ALLOW".into(),
                ..Default::default()
            };
            spec.linux.as_mut().unwrap().seccomp = Some(seccomp);
        });
        assert_eq!(
            excess_of_rights(&filtered, &status(0, 1, 0)).unwrap(),
            "has no system-call filter"
        );
        assert_eq!(excess_of_rights(&filtered, &status(0, 1, 2)), None);
    }

    #[test]
    fn mounts_that_nothing_accounts_for() {
        let plain = plan(|_| {});
        let line = |place: &str| format!("41 23 0:35 / {place} rw - tmpfs tmpfs rw\n");
        let good: String = [
            "/",
            "/proc",
            "/dev",
            "/dev/pts",
            "/proc/kcore",
            "/proc/bus",
            "/sys/fs/cgroup/memory",
        ]
        .into_iter()
        .map(line)
        .collect();
        let found = |text: &str| {
            let mounts: Vec<_> = text.lines().filter_map(place_and_flags).collect();
            foreign_mount(&plain, &mounts, Path::to_owned)
        };
        assert_eq!(found(&good), None);
        for bad in ["/host", "/proc/x", "/dev/pts/0", "/etc\\040passwd"] {
            let text = found(&(good.clone() + &line(bad))).unwrap();
            assert_eq!(text, format!("sees a mount on {}", unescape(bad)));
        }
    }

    #[test]
    fn protection_that_is_lost() {
        let plain = plan(|spec| {
            let linux = spec.linux.as_mut().unwrap();
            linux.masked_paths = vec!["/proc/kcore".into(), "/tmp/made-since".into()];
            linux.readonly_paths = vec!["/proc/sys".into()];
        });
        let found = |root: &str, sys: &str, mask: &str, params: &str| {
            let text = format!(
                "1 0 0:1 / / {root} - x x x\n2 1 0:2 / /sys {sys} - x x x\n\
                 3 1 0:3 /null {mask} rw - x x x\n4 1 0:2 / /proc/sys {params} - x x x"
            );
            let mounts: Vec<_> = text.lines().filter_map(place_and_flags).collect();
            lost_protection(&plain, &mounts, Path::to_owned, |_| true)
        };
        let (sys, mask) = ("ro,nosuid,nodev,noexec", "/proc/kcore");
        assert_eq!(found("ro", sys, mask, "ro"), None);
        let lost = [
            (found("rw", sys, mask, "ro"), "can write to / (criu "),
            (
                found("ro", "ro,nosuid,nodev", mask, "ro"),
                "sees /sys without noexec",
            ),
            (
                found("ro", sys, "/proc/other", "ro"),
                "sees the masked /proc/kcore",
            ),
            (found("ro", sys, mask, "rw"), "can write to /proc/sys"),
        ];
        for (found, wanted) in lost {
            assert!(found.unwrap_or_default().starts_with(wanted), "{wanted}");
        }
    }

    #[test]
    fn the_test_itself_is_no_container() {
        let own = i32::try_from(std::process::id()).unwrap();
        let text = verify(&plan(|_| {}), &[own]).unwrap_err().to_string();
        assert!(
            text.contains("which the configuration does not allow"),
            "{text}"
        );
    }
}
