//! The bundle that every runtime gets: the mounts, namespaces, capabilities and masks of
//! `runc spec`, without a terminal and without resource limits of the process.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// A root file system and the configurations that use it.
#[derive(Debug)]
pub struct Bundles {
    dir: PathBuf,
    parent: String,
}

impl Bundles {
    /// Makes the root file system in `work`: busybox under the names `true` and `sleep`.
    /// Containers will be placed below the cgroup `parent`.
    ///
    /// # Errors
    /// Missing busybox, and file errors.
    pub fn new(work: &Path, parent: &str) -> Result<Self> {
        let root = work.join("rootfs");
        for dir in ["bin", "proc", "sys", "dev"] {
            fs::create_dir_all(root.join(dir))?;
        }
        let busybox = Path::new("/usr/bin/busybox");
        for name in ["true", "sleep"] {
            fs::copy(busybox, root.join("bin").join(name))
                .context("busybox-static is not installed")?;
        }
        Ok(Self {
            dir: work.to_owned(),
            parent: parent.to_owned(),
        })
    }

    /// The shared root file system.
    pub fn root(&self) -> PathBuf {
        self.dir.join("rootfs")
    }

    /// Writes a bundle for the container `id` that runs `args`, with a memory limit in bytes if
    /// there is one.
    ///
    /// # Errors
    /// File errors.
    pub fn write(&self, id: &str, args: &[&str], memory: Option<u64>) -> Result<String> {
        let bundle = self.dir.join(format!("bundle-{id}"));
        fs::create_dir_all(&bundle)?;
        let cgroup = format!("{}/{id}", self.parent);
        let text = config(&self.root(), &cgroup, args, memory).to_string();
        fs::write(bundle.join("config.json"), text)?;
        Ok(bundle.display().to_string())
    }
}

fn config(root: &Path, cgroup: &str, args: &[&str], memory: Option<u64>) -> Value {
    let capabilities = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
    let mut resources = json!({ "devices": [{ "allow": false, "access": "rwm" }] });
    if let Some(limit) = memory {
        resources["memory"] = json!({ "limit": limit, "swap": limit });
    }
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "args": args,
            "env": ["PATH=/bin"],
            "cwd": "/",
            "capabilities": {
                "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
            },
            "noNewPrivileges": true,
        },
        "root": { "path": root, "readonly": true },
        "hostname": "bench",
        "mounts": mounts(),
        "linux": {
            "cgroupsPath": cgroup,
            "resources": resources,
            "namespaces": [
                { "type": "pid" }, { "type": "network" }, { "type": "ipc" },
                { "type": "uts" }, { "type": "mount" },
            ],
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware",
                "/proc/scsi",
            ],
            "readonlyPaths": [
                "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
            ],
        },
    })
}

fn mounts() -> Value {
    let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| json!({ "destination": destination, "type": kind, "source": source, "options": options });
    let guarded = ["nosuid", "noexec", "nodev"];
    let pts = [
        "nosuid",
        "noexec",
        "newinstance",
        "ptmxmode=0666",
        "mode=0620",
        "gid=5",
    ];
    let shm = [&guarded[..], &["mode=1777", "size=65536k"]].concat();
    let read_only = [&guarded[..], &["ro"]].concat();
    let cgroup = [&guarded[..], &["relatime", "ro"]].concat();
    json!([
        mount("/proc", "proc", "proc", &[]),
        mount(
            "/dev",
            "tmpfs",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"]
        ),
        mount("/dev/pts", "devpts", "devpts", &pts),
        mount("/dev/shm", "tmpfs", "shm", &shm),
        mount("/dev/mqueue", "mqueue", "mqueue", &guarded),
        mount("/sys", "sysfs", "sysfs", &read_only),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &cgroup),
    ])
}
