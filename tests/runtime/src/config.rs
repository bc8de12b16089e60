//! The plain configuration, and small changes to it.

use std::path::Path;

use serde_json::{Value, json};

use crate::ground::{Ground, ground};

/// The variable that marks every process of a case; its value is the case's token.
pub const MARK: &str = "RUNTIME_SUITE";

/// A configuration like the one that `spec` prints, without what this machine may refuse
/// (resource limits above the hard ones), not read-only, running `true`.
#[must_use]
pub fn base(id: &str, token: &str) -> Value {
    let mut config = plain(id, token);
    ground().adapt(&mut config);
    config
}

fn plain(id: &str, token: &str) -> Value {
    let caps = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": ["/bin/true"],
            "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm", format!("{MARK}={token}")],
            "cwd": "/",
            "capabilities": {"bounding": caps, "effective": caps, "permitted": caps},
            "noNewPrivileges": true
        },
        "root": {"path": "rootfs", "readonly": false},
        "hostname": "suite",
        "mounts": mounts(),
        "linux": {
            "cgroupsPath": ground().cgroups_path(id),
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [
                {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"},
                {"type": "mount"}
            ],
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware",
                "/proc/scsi"
            ],
            "readonlyPaths": [
                "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"
            ]
        }
    })
}

fn mounts() -> Value {
    json!([
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
         "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
         "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
         "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
         "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs",
         "options": ["nosuid", "noexec", "nodev", "ro"]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
         "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]}
    ])
}

/// Appends to an array that may be missing.
///
/// # Panics
/// Where the place holds something else.
pub fn push(place: &mut Value, item: Value) {
    if place.is_null() {
        *place = json!([]);
    }
    place.as_array_mut().expect("an array").push(item);
}

/// Sets the command.
pub fn args(c: &mut Value, args: &[&str]) {
    c["process"]["args"] = json!(args);
}

/// Runs a shell script as the command.
pub fn script(c: &mut Value, script: &str) {
    args(c, &["/bin/sh", "-c", script]);
}

/// Adds a variable, `NAME=value`.
pub fn env(c: &mut Value, variable: &str) {
    push(&mut c["process"]["env"], json!(variable));
}

/// Adds a namespace of its own.
pub fn ns(c: &mut Value, kind: &str) {
    no_ns(c, kind);
    push(&mut c["linux"]["namespaces"], json!({"type": kind}));
}

/// Joins a namespace; without privileges together with the user namespace that owns it.
pub fn join(c: &mut Value, kind: &str, path: impl AsRef<Path>) {
    let of_process = path.as_ref().parent().filter(|dir| dir.ends_with("ns"));
    if ground() == Ground::Rootless
        && kind != "user"
        && let Some(dir) = of_process
    {
        join(c, "user", dir.join("user"));
    }
    no_ns(c, kind);
    let entry = json!({"type": kind, "path": path.as_ref()});
    push(&mut c["linux"]["namespaces"], entry);
}

/// Inherits a kind of namespace.
///
/// # Panics
/// Where the configuration has no list of them.
pub fn no_ns(c: &mut Value, kind: &str) {
    let list = c["linux"]["namespaces"].as_array_mut().expect("namespaces");
    list.retain(|n| n["type"] != kind);
}

/// Adds a user namespace that maps `count` ids from 0 to `host` onwards.
pub fn user_ns(c: &mut Value, host: u32, count: u32) {
    ns(c, "user");
    let map = json!([{"containerID": 0, "hostID": host, "size": count}]);
    c["linux"]["uidMappings"] = map.clone();
    c["linux"]["gidMappings"] = map;
}

/// Adds a mount.
pub fn mount(c: &mut Value, kind: &str, source: &str, destination: &str, options: &[&str]) {
    let entry = json!({
        "destination": destination, "type": kind, "source": source, "options": options
    });
    push(&mut c["mounts"], entry);
}

/// Adds a bind mount.
pub fn bind(c: &mut Value, source: impl AsRef<Path>, destination: &str, options: &[&str]) {
    let source = source.as_ref().to_str().expect("a path in UTF-8");
    let mut all = vec!["bind"];
    all.extend(options);
    mount(c, "bind", source, destination, &all);
}

/// Removes the mount on this place.
///
/// # Panics
/// Where the configuration has no list of mounts.
pub fn no_mount(c: &mut Value, destination: &str) {
    let list = c["mounts"].as_array_mut().expect("mounts");
    list.retain(|m| m["destination"] != destination);
}

/// Replaces the options of the mount on this place.
///
/// # Panics
/// Where there is none.
pub fn mount_options(c: &mut Value, destination: &str, options: &[&str]) {
    let list = c["mounts"].as_array_mut().expect("mounts");
    let entry = list.iter_mut().find(|m| m["destination"] == destination);
    entry.expect("a mount there")["options"] = json!(options);
}

/// Sets these capabilities in the bounding, effective and permitted sets, and none in the others.
pub fn caps(c: &mut Value, names: &[&str]) {
    c["process"]["capabilities"] =
        json!({"bounding": names, "effective": names, "permitted": names});
}

/// Adds a hook that is a shell script on the host, or in the container for `startContainer`.
///
/// It reads what is left of its input at the end: crun dies of SIGPIPE at times where a hook does
/// not.
pub fn hook(c: &mut Value, moment: &str, script: &str) {
    let script = format!("{script}\ncode=$?; cat >/dev/null; exit $code");
    // The mark too, so that a hook that outlives its runtime is found.
    let marked = |v: &&Value| v.as_str().is_some_and(|v| v.starts_with(MARK));
    let env = c["process"]["env"]
        .as_array()
        .and_then(|e| e.iter().find(marked));
    let env = json!([
        "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
        env.cloned().unwrap_or_default()
    ]);
    let entry = json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": env});
    push(&mut c["hooks"][moment], entry);
}

/// Allows everything to the container's devices controller.
pub fn all_devices(c: &mut Value) {
    c["linux"]["resources"]["devices"] = json!([{"allow": true, "access": "rwm"}]);
}

/// A seccomp filter that allows all but these system calls, which get `action`.
pub fn seccomp(c: &mut Value, names: &[&str], action: &str) {
    c["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [{"names": names, "action": action}]
    });
}
