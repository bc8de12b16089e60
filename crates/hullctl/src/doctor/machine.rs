//! What the kernel and the machine offer. Each probe is the call that hull would make, so that
//! `HULL_FAKE_ENOSYS` shows what an older kernel would mean.

use std::fs;
use std::os::fd::AsFd as _;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use serde::Serialize;
use spec::plan::NamespaceKind;

/// One thing that a machine has or lacks.
#[derive(Clone, Debug, Serialize)]
pub struct Probe {
    /// What.
    pub what: String,
    /// Whether it is there.
    pub works: bool,
    /// What hull does with or without it.
    pub consequence: String,
}

fn probe(what: impl Into<String>, works: bool, with: &str, without: &str) -> Probe {
    Probe {
        what: what.into(),
        works,
        consequence: if works { with } else { without }.to_owned(),
    }
}

/// All of them.
pub fn probes() -> Vec<Probe> {
    let mut all = vec![kernel()];
    all.extend(namespaces());
    all.extend(calls());
    all.extend(file_systems());
    all.extend(groups());
    all.extend(security());
    all.extend(insight());
    all.extend(helpers());
    all
}

fn read(path: &str) -> String {
    fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .to_owned()
}

fn kernel() -> Probe {
    let release = read("/proc/sys/kernel/osrelease");
    let mut numbers = release
        .split(['.', '-'])
        .map(|n| n.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    probe(
        format!("Linux {release}"),
        version >= (4, 18),
        "supported; each newer call below has a fallback",
        "older than 4.18: nobody tries hull there",
    )
}

fn namespaces() -> Vec<Probe> {
    let without = |kind| match kind {
        NamespaceKind::Time => "a configuration that asks for it is refused",
        NamespaceKind::User => "no rootless containers, no --userns",
        NamespaceKind::Cgroup => "containers see the machine's path of their control groups",
        _ => "a configuration that asks for it is refused; most do",
    };
    let one = |kind: NamespaceKind| {
        let path = format!("/proc/self/ns/{}", kind.proc_name());
        let limit = read(&format!(
            "/proc/sys/user/max_{}_namespaces",
            kind.proc_name()
        ));
        let works = Path::new(&path).exists() && limit != "0";
        probe(
            format!("{} namespace", kind.oci_name()),
            works,
            "used",
            without(kind),
        )
    };
    NamespaceKind::ALL.map(one).into()
}

fn calls() -> Vec<Probe> {
    let fsopen = sys::mount::fsopen(c"tmpfs").is_ok();
    let tree = sys::mount::clone_tree(CWD, c"/", false, false);
    let setattr = tree.as_ref().is_ok_and(|fd| {
        let nothing = sys::mount::SetAttr::default();
        sys::mount::mount_setattr(fd.as_fd(), false, &nothing).is_ok()
    });
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    let openat2 = root.is_ok_and(|dir| {
        let resolve = ResolveFlags::IN_ROOT;
        sys::path::openat2(dir.as_fd(), "proc", OFlags::PATH, Mode::empty(), resolve).is_ok()
    });
    let pidfd = sys::pidfd::open(rustix::process::getpid()).is_ok();
    let clone3 = sys::knob::check("clone3").is_ok() && version_at_least(5, 3);
    let into = sys::knob::check("clone_into_cgroup").is_ok() && version_at_least(5, 7);
    vec![
        probe(
            "fsopen, fsmount",
            fsopen,
            "mounts are made as objects, then attached by descriptor",
            "mount(2) onto a descriptor's link in /proc",
        ),
        probe(
            "open_tree, move_mount",
            tree.is_ok(),
            "bind mounts by descriptor",
            "mount(2) onto a descriptor's link in /proc",
        ),
        probe(
            "mount_setattr",
            setattr,
            "recursive read-only and id-mapped mounts",
            "attributes by remounting; recursive ones and id maps are refused",
        ),
        probe(
            "openat2",
            openat2,
            "paths inside a root are resolved by the kernel",
            "pathrs resolves them step by step",
        ),
        probe(
            "pidfd_open",
            pidfd,
            "processes are signalled and awaited by descriptor",
            "by pid, checked against its start time",
        ),
        probe(
            "clone3",
            clone3,
            "one call makes process and namespaces",
            "clone(2)",
        ),
        probe(
            "clone3 into a cgroup",
            into,
            "a container's first process starts in its v2 group",
            "it is moved there before it goes on",
        ),
    ]
}

fn version_at_least(major: u32, minor: u32) -> bool {
    let release = read("/proc/sys/kernel/osrelease");
    let mut numbers = release
        .split(['.', '-'])
        .map(|n| n.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (major, minor)
}

fn file_systems() -> Vec<Probe> {
    let known = read("/proc/filesystems");
    let has = |name: &str| {
        known
            .lines()
            .any(|l| l.split_whitespace().last() == Some(name))
    };
    let erofs = has("erofs");
    vec![
        probe(
            "overlay",
            has("overlay"),
            "layers of images, and `run host`",
            "images must be unpacked whole; no `run host`",
        ),
        probe(
            "erofs",
            erofs,
            "an image layer can be one file",
            "layers are plain directories",
        ),
        probe(
            "erofs from a file",
            erofs && version_at_least(6, 12),
            "without a loop device",
            "by a loop device, where erofs is there",
        ),
        probe(
            "loop devices",
            Path::new("/dev/loop-control").exists(),
            "for erofs before Linux 6.12",
            "not needed where erofs mounts files",
        ),
        probe(
            "fuse",
            Path::new("/dev/fuse").exists(),
            "containers can be given /dev/fuse",
            "no file systems by FUSE in containers",
        ),
    ]
}

fn groups() -> Vec<Probe> {
    let layout = cgroup::Layout::detect();
    let (mode, works) = match &layout {
        Ok(l) => (format!("control groups: {:?}", l.mode).to_lowercase(), true),
        Err(e) => (format!("control groups: {e}"), false),
    };
    let mut all = vec![probe(
        mode,
        works,
        "limits, statistics, freezing",
        "containers run without limits",
    )];
    let Ok(layout) = layout else {
        return all;
    };
    let v1: Vec<String> = layout
        .v1
        .iter()
        .flat_map(|h| h.controllers.clone())
        .collect();
    let v2 = layout.unified.as_ref().map(|h| {
        read(
            &h.mountpoint
                .join("cgroup.controllers")
                .display()
                .to_string(),
        )
    });
    for controller in ["cpu", "memory", "pids", "cpuset", "io", "hugetlb"] {
        let old = if controller == "io" {
            "blkio"
        } else {
            controller
        };
        let by = if v1.iter().any(|c| c == old) {
            Some("version 1")
        } else if v2
            .as_ref()
            .is_some_and(|l| l.split(' ').any(|c| c == controller))
        {
            Some("version 2")
        } else {
            None
        };
        let with = format!("limits by {}", by.unwrap_or_default());
        all.push(probe(
            format!("controller {controller}"),
            by.is_some(),
            &with,
            "a limit of it is a warning, or refused with strict limits",
        ));
    }
    let kill = layout.unified.is_some()
        && version_at_least(5, 14)
        && sys::knob::check("cgroup_kill").is_ok();
    all.push(probe(
        "cgroup.kill",
        kill,
        "all processes of a container die at once",
        "frozen, killed one by one, thawed",
    ));
    all
}

fn security() -> Vec<Probe> {
    let actions = read("/proc/sys/kernel/seccomp/actions_avail");
    let capabilities =
        crate::proc::status_field(&crate::proc::status_self(), "CapPrm").unwrap_or_default();
    let mask = u64::from_str_radix(&capabilities, 16).unwrap_or(0);
    let resource = mask & (1 << 24) != 0;
    vec![
        probe(
            "seccomp filters",
            actions.contains("errno"),
            "system calls are filtered",
            "configurations with a filter are refused",
        ),
        probe(
            "seccomp notification",
            actions.contains("user_notif"),
            "listeners get their descriptor",
            "configurations with a listener are refused",
        ),
        probe(
            "AppArmor",
            runtime::identity::apparmor_enabled(),
            "profiles are applied",
            "a profile in a configuration is refused",
        ),
        probe(
            "SELinux",
            runtime::identity::selinux_enabled(),
            "labels are applied",
            "a label in a configuration is refused",
        ),
        probe(
            "CAP_SYS_RESOURCE",
            resource || mask == 0,
            "limits of processes can be raised, oom_score_adj lowered",
            "rlimits above our own and lower oom_score_adj are refused; hulld clamps them",
        ),
    ]
}

fn insight() -> Vec<Probe> {
    let accounting = read("/proc/sys/kernel/task_delayacct") == "1";
    let log = fs::File::open("/dev/kmsg").is_ok();
    vec![
        probe(
            "pressure (PSI)",
            !read("/proc/pressure/io").is_empty(),
            "`top` shows who waits",
            "`top` shows no pressure: boot with psi=1",
        ),
        probe(
            "delay accounting",
            accounting,
            "`top --io` shows how long tasks wait for disks",
            "switch it on: sysctl kernel.task_delayacct=1",
        ),
        probe(
            "kernel log",
            log,
            "`why` names the process that was killed and the call that was refused",
            "`why` knows counters only: run it as root",
        ),
    ]
}

/// An old criu may be at a loss on a new kernel.
fn criu_works() -> bool {
    let mut check = std::process::Command::new("criu");
    let check = check.arg("check").stdin(std::process::Stdio::null());
    check.output().is_ok_and(|done| done.status.success())
}

fn helpers() -> Vec<Probe> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = |name: &str| std::env::split_paths(&path).any(|dir| dir.join(name).is_file());
    vec![
        probe(
            "criu",
            found("criu") && criu_works(),
            "checkpoint and restore",
            "no checkpoint and restore: it is not there, or too old for this kernel, as `criu check` says",
        ),
        probe(
            "newuidmap",
            found("newuidmap"),
            "ranges of ids for users without rights",
            "users without rights get one id inside",
        ),
        probe(
            "/dev/net/tun",
            Path::new("/dev/net/tun").exists(),
            "networks for users without rights",
            "users without rights share the machine's network or have none",
        ),
    ]
}
