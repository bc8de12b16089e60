//! Test support: real container clients, each in an arena of its own.
//!
//! An [`Arena`] is a process, network and mount namespace with private `/run` and `/dev/shm`, a
//! directory, and a cgroup parent. Whatever a client leaves behind dies with the arena, and
//! [`Arena::finish`] first looks for it, so that a runtime that leaks fails the test.
//!
//! The runtime under test is `$RUNTIME`; without it, the workspace's own `hull` is built and
//! used. With Debian's runc or crun the same tests run on those.

// A failed step must stop the test at its line: that is what panics are for here.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod arena;
mod cgroups;
mod criu;
mod image;
mod leaks;
mod pty;
mod runtime;
pub mod scripts;

pub use arena::{Arena, Run};
pub use criu::criu_refusal;
pub use image::{build_rootfs, docker_archive, rootfs_tar};
pub use pty::Pty;
pub use runtime::{Kind, Runtime, built};

use std::io::Write;
use std::time::{Duration, Instant};

/// Polls `f` until it says yes; `false` after `limit`.
pub fn eventually(limit: Duration, mut f: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if f() {
            return true;
        }
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Says that a test did not run and why, past the test harness, which keeps the output of tests
/// that pass to itself.
pub fn not_run(test: &str, why: &str) {
    let line = format!("\nNOT RUN: {test}: {why}\n");
    // Losing the notice must not fail the test.
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Whether a program is in `$PATH` or the administrator's directories.
pub fn program(name: &str) -> Option<std::path::PathBuf> {
    ["/usr/bin", "/usr/sbin", "/bin", "/sbin"]
        .iter()
        .map(|dir| std::path::Path::new(dir).join(name))
        .find(|p| p.exists())
}
