//! What this machine can do, looked at once at start.

use std::fs;
use std::path::Path;

use cgroup::{Layout, Mode};

/// Facts of the machine and of this process.
#[derive(Clone, Debug)]
pub struct Host {
    /// Only the version 2 tree has controllers.
    pub cgroup_v2: bool,
    /// Swap can be limited.
    pub swap_accounting: bool,
    /// Huge pages can be limited.
    pub hugetlb: bool,
    /// `2MB`, `1GB`.
    pub hugepage_sizes: Vec<String>,
    /// `CAP_SYS_RESOURCE` is ours.
    pub may_lower_oom_score: bool,
    /// Ours.
    pub own_oom_score_adj: i32,
    /// Capabilities that we can hand on.
    pub bounding: u64,
    /// SELinux is on.
    pub selinux: bool,
    /// AppArmor is on.
    pub apparmor: bool,
    /// Changes with every boot.
    pub boot_id: String,
}

impl Host {
    /// Looks.
    ///
    /// # Errors
    /// No control groups.
    pub fn look() -> Result<Self, cgroup::Error> {
        let layout = Layout::detect()?;
        let has = |name: &str| has_controller(&layout, name);
        let line = |path: &str| {
            fs::read_to_string(path)
                .unwrap_or_default()
                .trim()
                .to_owned()
        };
        let bounding = super::capabilities::bounding();
        Ok(Self {
            cgroup_v2: layout.mode == Mode::V2,
            swap_accounting: swap_accounting(&layout),
            hugetlb: has("hugetlb"),
            hugepage_sizes: hugepage_sizes(),
            may_lower_oom_score: bounding & (1 << 24) != 0,
            own_oom_score_adj: line("/proc/self/oom_score_adj").parse().unwrap_or(0),
            bounding,
            selinux: Path::new("/sys/fs/selinux/enforce").exists(),
            apparmor: line("/sys/module/apparmor/parameters/enabled") == "Y",
            boot_id: line("/proc/sys/kernel/random/boot_id"),
        })
    }
}

fn has_controller(layout: &Layout, name: &str) -> bool {
    let v1 = layout
        .v1
        .iter()
        .any(|h| h.controllers.iter().any(|c| c == name));
    let v2 = layout.unified.as_ref().is_some_and(|h| {
        let text = fs::read_to_string(h.mountpoint.join("cgroup.controllers"));
        text.is_ok_and(|t| t.split_ascii_whitespace().any(|c| c == name))
    });
    v1 || v2
}

fn swap_accounting(layout: &Layout) -> bool {
    let memory = layout
        .v1
        .iter()
        .find(|h| h.controllers.iter().any(|c| c == "memory"));
    memory.map_or_else(
        // In version 2 the file is missing from the root group; our own has it or not.
        || {
            layout
                .unified
                .as_ref()
                .is_some_and(|h| h.own_dir().join("memory.swap.max").exists())
        },
        |h| h.mountpoint.join("memory.memsw.limit_in_bytes").exists(),
    )
}

fn hugepage_sizes() -> Vec<String> {
    let entries = fs::read_dir("/sys/kernel/mm/hugepages")
        .into_iter()
        .flatten()
        .flatten();
    let names = entries.map(|e| e.file_name().to_string_lossy().into_owned());
    let kib = names.filter_map(|n| {
        n.strip_prefix("hugepages-")?
            .strip_suffix("kB")?
            .parse()
            .ok()
    });
    kib.map(|kib: u64| match kib {
        k if k % (1 << 20) == 0 => format!("{}GB", k >> 20),
        k if k % (1 << 10) == 0 => format!("{}MB", k >> 10),
        k => format!("{k}KB"),
    })
    .collect()
}
