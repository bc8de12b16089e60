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
    CgroupPlan, DeviceKind, DevicePlan, Hooks, IdMaps, MountAttrs, MountKind, MountPlan,
    NamespaceKind, NamespaceMode, Namespaces, RootPlan, SuperblockFlags,
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

/// A plan with new namespaces and nothing mounted.
pub fn bare(root: &Path) -> Plan {
    let mut namespaces = Namespaces::default();
    for kind in [
        NamespaceKind::Mount,
        NamespaceKind::Pid,
        NamespaceKind::Ipc,
        NamespaceKind::Uts,
        NamespaceKind::Network,
    ] {
        namespaces.set(kind, NamespaceMode::New);
    }
    Plan {
        root: RootPlan {
            path: root.to_owned(),
            readonly: false,
        },
        oci_version: "1.3.0".to_owned(),
        process: None,
        hostname: None,
        domainname: None,
        mounts: Vec::new(),
        devices: Vec::new(),
        hooks: Hooks::default(),
        annotations: BTreeMap::new(),
        namespaces,
        id_maps: IdMaps::default(),
        time_offsets: Vec::new(),
        net_devices: BTreeMap::new(),
        cgroup: CgroupPlan::default(),
        rootfs_propagation: None,
        masked_paths: Vec::new(),
        readonly_paths: Vec::new(),
        mount_label: None,
        seccomp: None,
        sysctl: Vec::new(),
        personality: None,
        memory_policy: None,
        intel_rdt: None,
    }
}

/// The mounts, devices, masks of `runc spec`.
pub fn usual(root: &Path) -> Plan {
    const SUID: u64 = MountAttrs::NOSUID;
    const EXEC: u64 = MountAttrs::NOEXEC;
    const DEV: u64 = MountAttrs::NODEV;
    let mut plan = bare(root);
    plan.mounts = vec![
        fs("/proc", "proc", &[], 0),
        fs(
            "/dev",
            "tmpfs",
            &["mode=755", "size=65536k"],
            SUID | MountAttrs::STRICTATIME,
        ),
        fs(
            "/dev/pts",
            "devpts",
            &["newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
            SUID | EXEC,
        ),
        fs(
            "/dev/shm",
            "tmpfs",
            &["mode=1777", "size=65536k"],
            SUID | EXEC | DEV,
        ),
        fs("/dev/mqueue", "mqueue", &[], SUID | EXEC | DEV),
        fs("/sys", "sysfs", &[], SUID | EXEC | DEV | MountAttrs::RDONLY),
    ];
    plan.mounts.push(cgroup(
        "/sys/fs/cgroup",
        SUID | EXEC | DEV | MountAttrs::RDONLY,
    ));
    plan.devices = [
        ("null", 3),
        ("zero", 5),
        ("full", 7),
        ("random", 8),
        ("urandom", 9),
    ]
    .into_iter()
    .map(|(name, minor)| device(&format!("/dev/{name}"), 1, minor))
    .chain([device("/dev/tty", 5, 0)])
    .collect();
    plan.masked_paths = paths(&[
        "/proc/acpi",
        "/proc/asound",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/proc/sched_debug",
        "/sys/firmware",
        "/proc/scsi",
    ]);
    plan.readonly_paths = paths(&[
        "/proc/bus",
        "/proc/fs",
        "/proc/irq",
        "/proc/sys",
        "/proc/sysrq-trigger",
    ]);
    plan
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
