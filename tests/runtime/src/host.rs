//! Facts about the machine that the tests run on.

use std::path::{Path, PathBuf};

use crate::ground::{Ground, SUBORDINATE, ground};

/// Where cargo puts programs: the parent of this test program's directory.
///
/// # Panics
/// Where this program was moved.
#[must_use]
pub fn build_dir() -> PathBuf {
    let exe = std::env::current_exe().expect("find this program");
    let deps = exe.parent().and_then(Path::parent);
    deps.expect("this program lies in a build directory")
        .to_owned()
}

/// Whether a v1 hierarchy with this controller is mounted at its usual place.
#[must_use]
pub fn cgroup_v1(controller: &str) -> bool {
    Path::new("/sys/fs/cgroup")
        .join(controller)
        .join("tasks")
        .exists()
}

/// Whether the machine has the unified hierarchy only.
#[must_use]
pub fn cgroup_v2_only() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// Whether the kernel has this kind of namespace (its name in /proc/PID/ns).
#[must_use]
pub fn has_namespace(name: &str) -> bool {
    Path::new("/proc/self/ns").join(name).exists()
}

/// What an id inside of the plain configuration's containers, not root's, is outside.
#[must_use]
pub fn outside(id: u32) -> u32 {
    match ground() {
        Ground::Rootless => SUBORDINATE.0 + id - 1,
        _ => id,
    }
}

/// Our name.
///
/// # Panics
/// Where id(1) is missing.
#[must_use]
pub fn user_name() -> String {
    let out = std::process::Command::new("id").arg("-un").output();
    let name = out.expect("run id").stdout;
    String::from_utf8_lossy(&name).trim().to_owned()
}

/// Whether the kernel is of this version or newer.
#[must_use]
pub fn kernel_is(major: u32, minor: u32) -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split('.').map_while(|n| n.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(major), Some(minor))
}

/// Whether a command succeeds here; its output is not shown.
#[must_use]
pub fn succeeds(command: &str, args: &[&str]) -> bool {
    let run = std::process::Command::new(command).args(args).output();
    run.is_ok_and(|out| out.status.success())
}

/// Whether the machine has the version 2 tree only, and in it this controller for the suite's
/// containers.
#[must_use]
pub fn cgroup_v2(controller: &str) -> bool {
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = own.lines().find_map(|l| l.strip_prefix("0::/"));
    let own = Path::new("/sys/fs/cgroup").join(own.unwrap_or_default());
    // systemd passes these on when a unit asks for them, and takes them back when none does.
    let by_systemd = ["cpu", "cpuset", "io", "memory", "pids"].contains(&controller);
    let above = match ground() {
        Ground::Systemd if by_systemd => Path::new("/sys/fs/cgroup"),
        _ => own.parent().unwrap_or(&own),
    };
    let list = std::fs::read_to_string(above.join("cgroup.controllers")).unwrap_or_default();
    cgroup_v2_only() && list.split_ascii_whitespace().any(|c| c == controller)
}

/// Whether a Linux Security Module is active.
#[must_use]
pub fn has_lsm(name: &str) -> bool {
    match name {
        "apparmor" => std::fs::read_to_string("/sys/module/apparmor/parameters/enabled")
            .is_ok_and(|s| s.starts_with('Y')),
        "selinux" => Path::new("/sys/fs/selinux/enforce").exists(),
        _ => false,
    }
}

/// Capability numbers in this process's bounding set.
#[must_use]
pub fn bounding() -> u64 {
    status_field("self", "CapBnd")
        .and_then(|s| u64::from_str_radix(&s, 16).ok())
        .unwrap_or(0)
}

/// One field of `/proc/PID/status`.
#[must_use]
pub fn status_field(pid: &str, key: &str) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    text.lines()
        .find_map(|l| l.strip_prefix(key)?.strip_prefix(':'))
        .map(|v| v.trim().to_owned())
}

/// What `/proc/PID/ns/NAME` points to, `net:[4026531840]`.
#[must_use]
pub fn namespace(pid: &str, name: &str) -> String {
    std::fs::read_link(format!("/proc/{pid}/ns/{name}"))
        .map(|p| p.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// The directories of all mounted cgroup hierarchies.
#[must_use]
pub fn cgroup_mounts() -> Vec<PathBuf> {
    crate::mountinfo::own()
        .into_iter()
        .filter(|m| m.kind == "cgroup" || m.kind == "cgroup2")
        .map(|m| m.point)
        .collect()
}

/// The directory of process `pid` in the v1 hierarchy of `controller`, or in the unified one
/// where `controller` is empty.
///
/// # Panics
/// Where the process is not in such a hierarchy.
#[must_use]
pub fn cgroup_of(pid: i32, controller: &str) -> PathBuf {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("read cgroups");
    let path = text
        .lines()
        .filter_map(|l| {
            let mut f = l.splitn(3, ':').skip(1);
            Some((f.next()?, f.next()?))
        })
        .find(|(names, _)| names.split(',').any(|n| n == controller))
        .map(|(_, path)| path.trim_start_matches('/'))
        .unwrap_or_else(|| panic!("process {pid} is in no {controller:?} cgroup"));
    let top = Path::new("/sys/fs/cgroup");
    let top = match controller {
        "" if cgroup_v2_only() => top.to_owned(),
        "" => top.join("unified"),
        "name=systemd" => top.join("systemd"),
        name => top.join(name),
    };
    top.join(path)
}
