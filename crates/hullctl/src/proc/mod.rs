//! What /proc says about processes, for the commands that show it.

pub mod cgroups;
pub mod containers;
pub mod stat;
pub mod waits;

use anyhow::{Context as _, Result};

/// All processes, ascending.
pub fn pids() -> Result<Vec<i32>> {
    let entries = std::fs::read_dir("/proc").context("open(/proc)")?;
    let names = entries.flatten().map(|e| e.file_name());
    let mut pids: Vec<i32> = names
        .filter_map(|name| name.to_str()?.parse().ok())
        .collect();
    pids.sort_unstable();
    Ok(pids)
}

/// The command line of a process, words separated by blanks; its name where it has none (a kernel
/// thread, a zombie).
pub fn command_line(pid: i32) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = bytes.split(|b| *b == 0).map(String::from_utf8_lossy);
    let line = words.collect::<Vec<_>>().join(" ");
    let line = line.trim_end();
    if line.is_empty() {
        return name(pid);
    }
    line.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

/// The name of a process.
pub fn name(pid: i32) -> String {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim_end()
        .chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

/// How long a process has been there.
pub fn age(pid: i32) -> Option<std::time::Duration> {
    let ticks = stat::read(pid, None)?.start_ticks;
    let per_second = rustix::param::clock_ticks_per_second();
    let started = std::time::Duration::from_millis(ticks.saturating_mul(1000) / per_second.max(1));
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let now = std::time::Duration::try_from(now).ok()?;
    Some(now.saturating_sub(started))
}

/// A field of /proc/PID/status, without its name.
pub fn status_field(status: &str, field: &str) -> Option<String> {
    let mut values = status.lines().filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name == field).then(|| value.trim().to_owned())
    });
    values.next()
}

/// All of /proc/PID/status; empty where the process has ended.
pub fn status(pid: i32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default()
}

/// The calling process's.
pub fn status_self() -> String {
    std::fs::read_to_string("/proc/self/status").unwrap_or_default()
}
