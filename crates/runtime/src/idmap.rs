//! Writing the id maps of a new user namespace (user_namespaces(7)).

use std::process::Command;

use rustix::process::{getegid, geteuid};
use spec::oci::IdMapping;
use spec::plan::IdMaps;
use sys::{Context as _, Errno};

use crate::{Doing as _, Error, Result};

/// Writes the maps of the user namespace that child `pid` was made with.
///
/// The machine's root writes them itself. A user may map the own id only, and only after giving
/// up setgroups(2); for more there are newuidmap(1) and newgidmap(1), which obey /etc/subuid and
/// /etc/subgid.
///
/// # Errors
/// write(2)'s, or what the helper programs say.
pub fn write(pid: i32, maps: &IdMaps) -> Result<()> {
    if maps.is_empty() {
        return Ok(());
    }
    sys::trace::step(
        "write",
        || format!("uid_map and gid_map of {pid}"),
        || write_all(pid, maps),
    )
}

fn write_all(pid: i32, maps: &IdMaps) -> Result<()> {
    let (user, group) = (geteuid(), getegid());
    let only_own = is_only(&maps.uids, user.as_raw()) && is_only(&maps.gids, group.as_raw());
    if !user.is_root() && only_own {
        write_file(pid, "setgroups", "deny")?;
    }
    write_map(pid, "uid_map", "newuidmap", &maps.uids)?;
    write_map(pid, "gid_map", "newgidmap", &maps.gids)
}

/// Directly where the kernel lets us, by the helper where not.
fn write_map(pid: i32, file: &'static str, helper: &str, map: &[IdMapping]) -> Result<()> {
    match write_file(pid, file, &lines(map)) {
        Err(e) if e.errno == Errno::PERM => {
            let instead = run_helper(pid, helper, map);
            instead.doing(|| format!("{e}; {helper} instead"))
        }
        other => Ok(other?),
    }
}

fn write_file(pid: i32, file: &'static str, text: &str) -> sys::Result<()> {
    let path = format!("/proc/{pid}/{file}");
    std::fs::write(&path, text).context("write", || format!("{path}, {:?}", text.trim_end()))
}

fn run_helper(pid: i32, helper: &str, map: &[IdMapping]) -> Result<()> {
    let fields = map
        .iter()
        .flat_map(|m| [m.container_id, m.host_id, m.size].map(|n| n.to_string()));
    let output = Command::new(helper)
        .arg(pid.to_string())
        .args(fields)
        .output()
        .context("execve", || helper)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim().replace('\n', "; ");
    Err(Error::Invalid(format!("{}: {said}", output.status)))
}

/// Whether the map has this one outside id and no other.
fn is_only(map: &[IdMapping], id: u32) -> bool {
    matches!(map, [m] if m.host_id == id && m.size == 1)
}

fn lines(map: &[IdMapping]) -> String {
    map.iter()
        .map(|m| format!("{} {} {}\n", m.container_id, m.host_id, m.size))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_format() {
        let map = |container_id, host_id, size| IdMapping {
            container_id,
            host_id,
            size,
        };
        let two = [map(0, 1000, 1), map(1, 100_000, 65_536)];
        assert_eq!(lines(&two), "0 1000 1\n1 100000 65536\n");
        assert!(is_only(&two[..1], 1000));
        assert!(!is_only(&two, 1000));
        assert!(!is_only(&two[1..], 100_000));
    }
}
