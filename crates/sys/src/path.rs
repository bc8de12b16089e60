//! Opening paths under constraints: openat2(2).

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, Result};

use crate::knob;

/// How often a lookup that a rename disturbed is tried again.
const RETRIES: u32 = 128;

/// openat2(2); close-on-exec is added. EAGAIN, by which the kernel says that a rename or mount
/// elsewhere kept it from proving that a `..` stays below `dir`, is retried.
///
/// # Errors
/// openat2(2)'s; ENOSYS also where [`knob`] fakes it.
pub fn openat2<P: rustix::path::Arg + Copy>(
    dir: BorrowedFd<'_>,
    path: P,
    flags: OFlags,
    mode: Mode,
    resolve: ResolveFlags,
) -> Result<OwnedFd> {
    knob::check("openat2")?;
    let mut tries = 0;
    loop {
        match rustix::fs::openat2(dir, path, flags | OFlags::CLOEXEC, mode, resolve) {
            Err(Errno::AGAIN | Errno::INTR) if tries < RETRIES => tries += 1,
            result => return result,
        }
    }
}
