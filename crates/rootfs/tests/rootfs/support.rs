//! Running test bodies in a container-like child, and building plans.

use std::collections::BTreeMap;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rootfs::{Context, Sources};
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::{WaitId, WaitIdOptions};
use spec::Plan;
use spec::oci::IdMapping;
use spec::plan::{
    DeviceKind, DevicePlan, IdMaps, MountAttrs, MountKind, MountPlan, NamespaceKind, NamespaceMode,
    SuperblockFlags,
};
use sys::process::{CloneArgs, Cloned, clone3};

const CASE: &str = "HULL_ROOTFS_CASE";

/// Runs a test's body in a process of its own (this program again), because a child that goes
/// on without exec must come from a process without busy threads. Checks that no mount is left.
pub fn alone(body: impl FnOnce()) {
    alone_with(&[], body);
}

/// The same with calls that seem absent (see [`sys::knob`]).
pub fn alone_without(calls: &str, body: impl FnOnce()) {
    alone_with(&[(sys::knob::FAKE_ENOSYS, calls)], body);
}

fn alone_with(env: &[(&str, &str)], body: impl FnOnce()) {
    if std::env::var_os(CASE).is_some() {
        // What other tests mount meanwhile is not to be seen here, nor the reverse.
        sys::namespace::unshare(NamespaceKind::Mount.clone_flag()).unwrap();
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private).unwrap();
        let before = mountinfo();
        body();
        assert_eq!(before, mountinfo(), "mounts were left");
        return;
    }
    let this = std::thread::current();
    let name = this.name().unwrap();
    let out = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(CASE, name)
        .envs(env.iter().copied())
        .output()
        .unwrap();
    let text =
        String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    let ok = out.status.success() && text.contains("1 passed");
    assert!(ok, "{name}: {text}");
    print!("{text}");
}

/// Runs `body` in a child that is in the plan's new namespaces, with sources opened by the
/// parent. The child must not leave mounts or processes behind; a panic in it is one here.
pub fn contained(plan: &Plan, body: impl FnOnce(&Plan, Context)) {
    let sources = rootfs::open_sources(plan).unwrap();
    contained_with(plan, sources, body);
}

pub fn contained_with(plan: &Plan, sources: Sources, body: impl FnOnce(&Plan, Context)) {
    let flags = plan
        .namespaces
        .new_kinds()
        .fold(0, |f, k| f | k.clone_flag());
    let userns = plan.namespaces.is_new(NamespaceKind::User);
    let (ready, go) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    match clone3(&CloneArgs {
        flags,
        cgroup: None,
    })
    .unwrap()
    {
        Cloned::Child => {
            drop(go);
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                rustix::io::read(&ready, &mut [0u8; 1]).unwrap();
                if userns {
                    rustix::thread::set_thread_uid(rustix::fs::Uid::ROOT).unwrap();
                    rustix::thread::set_thread_gid(rustix::fs::Gid::ROOT).unwrap();
                }
                let context = Context {
                    sources,
                    in_userns: userns,
                    ..Context::default()
                };
                body(plan, context);
            }));
            sys::process::exit_now(i32::from(result.is_err()));
        }
        Cloned::Parent { pid, pidfd } => {
            drop(sources);
            if userns {
                let dir = format!("/proc/{}", pid.as_raw_nonzero());
                if !rustix::process::getuid().is_root() {
                    std::fs::write(format!("{dir}/setgroups"), "deny").unwrap();
                }
                for (file, map) in [
                    ("uid_map", &plan.id_maps.uids),
                    ("gid_map", &plan.id_maps.gids),
                ] {
                    let text: String = map
                        .iter()
                        .map(|m| format!("{} {} {}\n", m.container_id, m.host_id, m.size))
                        .collect();
                    std::fs::write(format!("{dir}/{file}"), text).unwrap();
                }
            }
            drop(go);
            let status =
                rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED)
                    .unwrap()
                    .unwrap();
            assert_eq!(status.exit_status(), Some(0), "the child failed");
        }
    }
}

/// Runs `body` in a child that is an ordinary user.
pub fn as_user(id: u32, body: impl FnOnce()) {
    match clone3(&CloneArgs::default()).unwrap() {
        Cloned::Child => {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};
                set_thread_groups(&[]).unwrap();
                set_thread_gid(rustix::fs::Gid::from_raw(id)).unwrap();
                set_thread_uid(rustix::fs::Uid::from_raw(id)).unwrap();
                // The change of user took that away, and with it the files in /proc/PID.
                let dumpable = rustix::process::DumpableBehavior::Dumpable;
                rustix::process::set_dumpable_behavior(dumpable).unwrap();
                body();
            }));
            sys::process::exit_now(i32::from(result.is_err()));
        }
        Cloned::Parent { pidfd, .. } => {
            let id = WaitId::PidFd(pidfd.as_fd());
            let status = rustix::process::waitid(id, WaitIdOptions::EXITED);
            let status = status.unwrap().unwrap();
            assert_eq!(status.exit_status(), Some(0), "the user's process failed");
        }
    }
}

/// An empty root file system with the usual directories.
pub fn image() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["proc", "sys", "dev", "etc", "tmp", "rootfs"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
    }
    dir
}

/// A plan with new namespaces and nothing mounted; no devices either.
pub fn bare(root: &Path) -> Plan {
    let namespaces: Vec<serde_json::Value> = ["mount", "pid", "ipc", "uts", "network"]
        .into_iter()
        .map(|kind| serde_json::json!({"type": kind}))
        .collect();
    let mut plan = parsed(&serde_json::json!({
        "ociVersion": "1.2.0",
        "root": {"path": root},
        "linux": {"namespaces": namespaces},
    }));
    plan.devices.clear();
    plan
}

fn parsed(config: &serde_json::Value) -> Plan {
    let spec = spec::parse_config(config.to_string().as_bytes()).unwrap();
    Plan::new(&spec, Path::new("/")).unwrap().0
}

/// The mounts, devices, masks of `runc spec`.
pub fn usual(root: &Path) -> Plan {
    let mount = |at: &str, fstype: &str, options: &[&str]| serde_json::json!({"destination": at, "type": fstype, "source": fstype, "options": options});
    let cgroup = ["nosuid", "noexec", "nodev", "relatime", "ro"];
    let pts = [
        "nosuid",
        "noexec",
        "newinstance",
        "ptmxmode=0666",
        "mode=0620",
        "gid=5",
    ];
    let namespaces: Vec<serde_json::Value> = ["mount", "pid", "ipc", "uts", "network"]
        .into_iter()
        .map(|kind| serde_json::json!({"type": kind}))
        .collect();
    parsed(&serde_json::json!({
        "ociVersion": "1.2.0",
        "root": {"path": root},
        "mounts": [
            mount("/proc", "proc", &[]),
            mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", &pts),
            mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            mount("/sys/fs/cgroup", "cgroup", &cgroup),
        ],
        "linux": {
            "namespaces": namespaces,
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware",
                "/proc/scsi",
            ],
            "readonlyPaths": [
                "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
            ],
        },
    }))
}

/// Gives the plan a user namespace whose ids begin at `first`.
pub fn with_userns(mut plan: Plan, first: u32) -> Plan {
    plan.namespaces.set(NamespaceKind::User, NamespaceMode::New);
    let map = vec![IdMapping {
        container_id: 0,
        host_id: first,
        size: 65_536,
    }];
    plan.id_maps = IdMaps {
        uids: map.clone(),
        gids: map,
    };
    plan
}

pub fn paths(list: &[&str]) -> Vec<PathBuf> {
    list.iter().map(PathBuf::from).collect()
}

pub fn device(path: &str, major: u32, minor: u32) -> DevicePlan {
    DevicePlan {
        path: path.into(),
        kind: DeviceKind::Char { major, minor },
        mode: 0o666,
        uid: 0,
        gid: 0,
    }
}

pub fn fs(destination: &str, fstype: &str, data: &[&str], attrs: u64) -> MountPlan {
    MountPlan {
        destination: destination.into(),
        kind: MountKind::Filesystem {
            fstype: fstype.to_owned(),
            source: fstype.to_owned(),
            data: data.iter().map(ToString::to_string).collect(),
        },
        attrs: MountAttrs {
            set: attrs,
            clear: 0,
        },
        recursive_attrs: MountAttrs::default(),
        superblock: SuperblockFlags::default(),
        propagation: None,
        idmap: None,
        tmpcopyup: false,
        remount: false,
        dest_nofollow: false,
        src_nofollow: false,
        copy_symlink: false,
    }
}

pub fn cgroup(destination: &str, attrs: u64) -> MountPlan {
    MountPlan {
        kind: MountKind::Cgroup,
        ..fs(destination, "", &[], attrs)
    }
}

pub fn bind(source: &Path, destination: &str, attrs: u64) -> MountPlan {
    MountPlan {
        kind: MountKind::Bind {
            source: source.to_owned(),
            recursive: true,
        },
        ..fs(destination, "", &[], attrs)
    }
}

/// Prepares, pivots and finishes.
pub fn enter(plan: &Plan, context: Context) {
    let prepared = rootfs::prepare(plan, context).unwrap();
    prepared.pivot(false).unwrap();
    prepared.finish().unwrap();
}

/// The reason why preparing fails.
pub fn refusal(plan: &Plan, context: Context) -> String {
    rootfs::prepare(plan, context).unwrap_err().to_string()
}

/// Gives a tree to another owner.
pub fn give(path: &Path, id: u32) {
    std::os::unix::fs::lchown(path, Some(id), Some(id)).unwrap();
    if path.is_dir() && !path.is_symlink() {
        for entry in std::fs::read_dir(path).unwrap() {
            give(&entry.unwrap().path(), id);
        }
    }
}

/// Names in a directory.
pub fn names(path: impl AsRef<Path>) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(path)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A line of mountinfo.
#[derive(Clone, Debug)]
pub struct Mounted {
    pub root: String,
    pub options: String,
    pub optional: String,
    pub fstype: String,
    pub superblock: String,
}

/// Of this thread: the test harness's main thread is in another namespace.
pub fn mountinfo() -> String {
    std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap()
}

/// This process's mounts by mount point; the topmost wins.
pub fn mounts() -> BTreeMap<String, Mounted> {
    mountinfo()
        .lines()
        .map(|line| {
            let (left, right) = line.split_once(" - ").unwrap();
            let left: Vec<&str> = left.split(' ').collect();
            let right: Vec<&str> = right.split(' ').collect();
            let mounted = Mounted {
                root: left[3].to_owned(),
                options: left[5].to_owned(),
                optional: left[6..].join(" "),
                fstype: right[0].to_owned(),
                superblock: right[2].to_owned(),
            };
            (left[4].to_owned(), mounted)
        })
        .collect()
}
