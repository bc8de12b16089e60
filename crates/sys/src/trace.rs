//! The recorder behind `--explain`: which step took how long, across processes.
//!
//! Off, a step costs one atomic load. On, each step is one line appended to a descriptor that
//! the processes of one start share; there is nothing to merge and nothing is lost when one of
//! them dies.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::fs::{MemfdFlags, OFlags, fcntl_setfl, memfd_create};
use rustix::time::{ClockId, clock_gettime};

use crate::{Context as _, Result};

static SINK: AtomicI32 = AtomicI32::new(-1);

/// One recorded step.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Step {
    /// Process that took it, as the recorder's own pid namespace numbers it.
    pub pid: i32,
    /// CLOCK_MONOTONIC at its start, nanoseconds.
    pub start_ns: u64,
    /// How long it took, nanoseconds.
    pub took_ns: u64,
    /// The kernel call, or several joined by ` + `.
    pub call: String,
    /// What it was for.
    pub detail: String,
}

/// A record under way, in a file that this process and its forks share.
#[derive(Debug)]
pub struct Recorder(File);

impl Recorder {
    /// Records all further steps of this process and its forks.
    ///
    /// # Errors
    /// memfd_create(2)'s, fcntl(2)'s.
    pub fn begin() -> Result<Self> {
        let memfd =
            memfd_create("steps", MemfdFlags::CLOEXEC).context("memfd_create", || "steps")?;
        // Several processes write: each line goes to the end, wherever that is by now.
        fcntl_setfl(&memfd, OFlags::APPEND).context("fcntl", || "steps, O_APPEND")?;
        SINK.store(memfd.as_raw_fd(), Ordering::Relaxed);
        Ok(Self(File::from(memfd)))
    }

    /// The steps so far, by their starts.
    ///
    /// # Errors
    /// read(2)'s.
    pub fn steps(&self) -> Result<Vec<Step>> {
        let mut file = &self.0;
        let mut text = String::new();
        file.rewind()
            .and_then(|()| file.read_to_string(&mut text))
            .context("read", || "steps")?;
        Ok(parse(&text))
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        stop();
    }
}

/// Ends the record of this process: before its descriptor is closed, lest steps go to the file
/// that gets its number next.
pub fn stop() {
    SINK.store(-1, Ordering::Relaxed);
}

/// Whether steps are recorded.
pub fn is_on() -> bool {
    SINK.load(Ordering::Relaxed) >= 0
}

/// Runs `f` as one step. `call` names the kernel call, `detail` its object and purpose.
pub fn step<T, D: AsRef<str>>(call: &str, detail: impl FnOnce() -> D, f: impl FnOnce() -> T) -> T {
    if !is_on() {
        return f();
    }
    let start = now();
    let result = f();
    note(call, detail().as_ref(), start, now().saturating_sub(start));
    result
}

/// Nanoseconds of CLOCK_MONOTONIC.
pub fn now() -> u64 {
    let t = clock_gettime(ClockId::Monotonic);
    let secs = u64::try_from(t.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(t.tv_nsec).unwrap_or(0);
    secs.saturating_mul(1_000_000_000).saturating_add(nanos)
}

fn note(call: &str, detail: &str, start_ns: u64, took_ns: u64) {
    let fd = SINK.load(Ordering::Relaxed);
    if fd < 0 {
        return;
    }
    let pid = rustix::process::getpid().as_raw_nonzero();
    let mut line = String::with_capacity(96);
    let detail = detail.replace(['\t', '\n'], " ");
    // Writing to a String cannot fail.
    let _ = writeln!(line, "{pid}\t{start_ns}\t{took_ns}\t{call}\t{detail}");
    // SAFETY: the descriptor is the recorder's, or its copy in a fork: open until `stop`.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    // The record is a convenience: losing it must not fail a start.
    let _ = rustix::io::write(fd, line.as_bytes());
}

fn parse(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = text.lines().filter_map(parse_line).collect();
    steps.sort_by_key(|s| s.start_ns);
    steps
}

fn parse_line(line: &str) -> Option<Step> {
    let mut f = line.splitn(5, '\t');
    Some(Step {
        pid: f.next()?.parse().ok()?,
        start_ns: f.next()?.parse().ok()?,
        took_ns: f.next()?.parse().ok()?,
        call: f.next()?.to_owned(),
        detail: f.next()?.to_owned(),
    })
}
