//! Test switches that make a system call seem absent.
//!
//! `HULL_FAKE_ENOSYS=mount_setattr,open_tree` makes those calls fail with ENOSYS before they
//! reach the kernel, so that every fallback for an old kernel can be run on a new one; `all` stands
//! for every call that has one. The variable only ever takes features away, so it is honoured in
//! release builds too.

use std::sync::OnceLock;

use rustix::io::Errno;

/// Name of the variable.
pub const FAKE_ENOSYS: &str = "HULL_FAKE_ENOSYS";

/// Calls that have a fallback, and so a switch.
pub const CALLS: &[&str] = &[
    "bpf_f_replace",
    "cgroup_kill",
    "clone3",
    "clone_into_cgroup",
    "close_range",
    "erofs_file",
    "fsopen",
    "mount_setattr",
    "open_tree",
    "openat2",
    "overlay_lowerdir_add",
    "pidfd_info",
    "pidfd_open",
    "pr_set_mm_map",
    "setns_pidfd",
    "tiocgptpeer",
];

static FAKED: OnceLock<Vec<String>> = OnceLock::new();

/// `Err(ENOSYS)` where the environment says that `call` is to be absent.
///
/// # Errors
/// ENOSYS, faked.
pub fn check(call: &'static str) -> Result<(), Errno> {
    debug_assert!(
        CALLS.contains(&call),
        "a faked call must be listed in CALLS"
    );
    let faked = FAKED.get_or_init(|| {
        std::env::var(FAKE_ENOSYS)
            .map(|v| v.split(',').map(|s| s.trim().to_owned()).collect())
            .unwrap_or_default()
    });
    if faked.iter().any(|f| f == call || f == "all") {
        Err(Errno::NOSYS)
    } else {
        Ok(())
    }
}
