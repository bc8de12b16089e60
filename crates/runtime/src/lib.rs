//! The life cycle of a container, as the OCI runtime specification defines it.
//!
//! Below this crate lie the parts that know nothing of each other: `spec` (documents and the
//! validated plan), `cgroup`, `rootfs`, `seccomp`, `sys`. Here they become create, start, exec,
//! kill and delete. Everything is synchronous and single-threaded: the process forks.
//!
//! Invariant: nothing here prints. Errors are values, warnings go through [`Warn`].

#![forbid(unsafe_code)]

// The container: its record on disk and its life.
pub mod clock;
pub mod container;
pub mod create;
pub mod delete;
mod error;
pub mod foreign;
mod id;
pub mod idmap;
mod init;
pub mod kill;
pub mod list;
mod process_id;
pub mod record;
pub mod root;
pub mod run;
mod spawn;
pub mod start;
pub mod sweep;
pub mod teardown;
pub mod verdict;
pub mod wire;

// A process of it: identity, program, terminal, hooks.
pub mod become_program;
pub mod console;
pub mod exec_program;
pub mod foreground;
pub mod hooks;
pub mod identity;
pub mod netdev;
pub mod notify;
pub mod pid_file;
pub mod rdt;
pub mod receiver;
pub mod seccomp_notify;

// What is done to a living one.
pub mod criu;
pub mod events;
pub mod exec;
pub mod pause;
pub mod processes;
pub mod update;

// About the runtime itself.
pub mod audit;
pub mod features;

pub use container::{Container, Status};
pub use error::{Doing, Error, ErrorKind, Result};
pub use id::ContainerId;
pub use process_id::ProcessId;

/// Takes a warning: one line, without the program's name.
pub type Warn<'a> = &'a mut dyn FnMut(&str);

/// Whether we lack the rights of the machine's root: another user, or root of a user namespace
/// other than the first.
#[must_use]
pub fn is_rootless() -> bool {
    // A runtime stays in its user namespace; only its children leave it.
    static FIRST: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    !rustix::process::geteuid().is_root() || !*FIRST.get_or_init(in_first_namespace)
}

/// The same in a child that may have changed its user namespace.
pub(crate) fn has_become_rootless() -> bool {
    !rustix::process::geteuid().is_root() || !in_first_namespace()
}

fn in_first_namespace() -> bool {
    let map = sys::file::read_text("/proc/self/uid_map".as_ref()).unwrap_or_default();
    let fields: Vec<&str> = map.split_ascii_whitespace().collect();
    // The first namespace maps every id to itself; so may others, but they gain nothing.
    fields == ["0", "0", "4294967295"]
}
