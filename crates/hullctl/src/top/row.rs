//! A container's line: rates from two samples.

use std::time::Duration;

use cgroup::stats::Pressure;
use serde::Serialize;

use super::sample::{Container, Sample};
use crate::proc::waits::Wait;
use crate::units::bytes;

/// The columns.
pub const HEADER: [&str; 12] = [
    "CONTAINER",
    "CPU%",
    "MEMORY",
    "NET IN/s",
    "NET OUT/s",
    "READ/s",
    "WRITE/s",
    "IO/s",
    "PSI c/m/i",
    "TASKS",
    "D",
    "LIMITS",
];

/// A task that is stuck in the kernel.
#[derive(Clone, Debug, Serialize)]
pub struct Stuck {
    /// The process.
    pub pid: i32,
    /// The task.
    pub tid: i32,
    /// Its name.
    pub name: String,
    /// The kernel function.
    pub wchan: String,
    /// The file it is about.
    pub file: Option<String>,
    /// The mount of that file.
    pub mount: Option<String>,
    /// All of it in words.
    pub sentence: String,
    /// Seconds for which it was seen stuck; what was before this program looked is not known.
    pub seen_seconds: f64,
}

impl Stuck {
    fn new(wait: &Wait, seen: Duration) -> Self {
        Self {
            pid: wait.pid,
            tid: wait.tid,
            name: wait.name.clone(),
            wchan: wait.wchan.clone(),
            file: wait.file.as_ref().map(|f| f.display().to_string()),
            mount: wait.mount.clone(),
            sentence: wait.sentence(),
            seen_seconds: seen.as_secs_f64(),
        }
    }

    /// `for 3 s at least`.
    pub fn since(&self) -> String {
        format!("for {:.0} s at least", self.seen_seconds)
    }
}

/// A container's line.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// `pod/container`, or the id.
    pub name: String,
    /// The id.
    pub id: String,
    /// The first process.
    pub pid: i32,
    /// Of one processor.
    pub cpu_percent: f64,
    /// Per cent of the periods in which its processor quota was used up.
    pub throttled_percent: f64,
    /// Bytes.
    pub memory: u64,
    /// Bytes a second.
    pub net_in: f64,
    /// Bytes a second.
    pub net_out: f64,
    /// Bytes a second from disks.
    pub read: f64,
    /// Bytes a second to disks, counted when they are written to the cache.
    pub write: f64,
    /// Operations a second of disks.
    pub operations: f64,
    /// Bytes that are written but not on the disk yet.
    pub dirty: u64,
    /// Bytes on their way to the disk.
    pub writeback: u64,
    /// Processor.
    pub cpu_pressure: Option<Pressure>,
    /// Memory.
    pub memory_pressure: Option<Pressure>,
    /// Disks.
    pub io_pressure: Option<Pressure>,
    /// Tasks.
    pub tasks: u64,
    /// Those in state D.
    pub stuck: Vec<Stuck>,
    /// Per cent of the time in which its tasks waited for disks; absent without delay accounting.
    pub disk_wait_percent: Option<f64>,
    /// Limits in effect.
    pub limits: Vec<String>,
}

/// All that are in the second sample.
pub fn rows(before: &Sample, now: &Sample) -> Vec<Row> {
    let seconds = now.at.duration_since(before.at).as_secs_f64().max(0.001);
    let row = |(id, c): (&String, &Container)| {
        let old = before.containers.get(id);
        let seen = now.at.duration_since(before.at);
        Row::new(id, c, old, seconds, seen, now.machine.delay_accounting)
    };
    now.containers.iter().map(row).collect()
}

#[allow(
    clippy::cast_precision_loss,
    reason = "a rate for people; 52 bits are plenty"
)]
fn rate(now: u64, before: Option<u64>, seconds: f64) -> f64 {
    before.map_or(0.0, |before| now.saturating_sub(before) as f64 / seconds)
}

impl Row {
    fn new(
        id: &str,
        c: &Container,
        old: Option<&Container>,
        seconds: f64,
        seen: Duration,
        accounting: bool,
    ) -> Self {
        let s = &c.stats;
        let before = old.map(|o| &o.stats);
        let cpu = rate(
            s.cpu.usage.total,
            before.map(|b| b.cpu.usage.total),
            seconds,
        );
        let throttling = |t: &cgroup::stats::Stats| {
            (t.cpu.throttling.throttled_periods, t.cpu.throttling.periods)
        };
        let (throttled, periods) = throttling(s);
        let (throttled_before, periods_before) =
            before.map(throttling).unwrap_or((throttled, periods));
        let periods = rate(periods, Some(periods_before), 1.0);
        let raw = |names: [&str; 2]| {
            names
                .iter()
                .find_map(|n| s.memory.raw.get(*n).copied())
                .unwrap_or(0)
        };
        let (read, write) = disk(c, old, seconds);
        let still = |w: &&Wait| old.is_some_and(|o| o.stuck.iter().any(|b| b.tid == w.tid));
        Self {
            name: c.known.name.clone(),
            id: id.to_owned(),
            pid: c.known.pids.first().copied().unwrap_or(0),
            // Nanoseconds a second.
            cpu_percent: cpu / 1e7,
            throttled_percent: if periods > 0.0 {
                100.0 * rate(throttled, Some(throttled_before), 1.0) / periods
            } else {
                0.0
            },
            memory: s.memory.usage.usage,
            net_in: rate(c.network.0, old.map(|o| o.network.0), seconds),
            net_out: rate(c.network.1, old.map(|o| o.network.1), seconds),
            read,
            write,
            operations: rate(operations(s), before.map(operations), seconds),
            dirty: raw(["total_dirty", "file_dirty"]),
            writeback: raw(["total_writeback", "file_writeback"]),
            cpu_pressure: s.cpu.psi,
            memory_pressure: s.memory.psi,
            io_pressure: s.blkio.psi,
            tasks: s.pids.current,
            stuck: c
                .stuck
                .iter()
                .map(|w| {
                    let seen = if still(&w) { seen } else { Duration::ZERO };
                    Stuck::new(w, seen)
                })
                .collect(),
            // 100 ticks a second.
            disk_wait_percent: accounting
                .then(|| rate(c.blkio_ticks, old.map(|o| o.blkio_ticks), seconds)),
            limits: c.limits.clone(),
        }
    }

    /// The cells of the table.
    pub fn cells(&self) -> Vec<String> {
        let psi = |p: Option<Pressure>| {
            p.map_or_else(|| "-".to_owned(), |p| format!("{:.0}", p.some.avg10))
        };
        let mut limits = self.limits.join(", ");
        if self.throttled_percent > 0.0 {
            limits = format!("{limits} (throttled {:.0}%)", self.throttled_percent);
        }
        vec![
            self.name.clone(),
            format!("{:.1}", self.cpu_percent),
            bytes(self.memory),
            amount(self.net_in),
            amount(self.net_out),
            amount(self.read),
            amount(self.write),
            format!("{:.0}", self.operations),
            format!(
                "{}/{}/{}",
                psi(self.cpu_pressure),
                psi(self.memory_pressure),
                psi(self.io_pressure)
            ),
            self.tasks.to_string(),
            self.stuck.len().to_string(),
            limits,
        ]
    }

    /// Per cent of the last 10 s in which one of its tasks waited for a disk.
    pub fn waits_for_disk(&self) -> f64 {
        self.io_pressure.map_or(0.0, |p| p.some.avg10)
    }
}

/// A rate as bytes.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rates are not negative, and below 2^64"
)]
pub fn amount(rate: f64) -> String {
    bytes(rate as u64)
}

/// What the block layer counts for the group, or the processes for themselves, whichever is more:
/// each sees something that the other does not.
fn disk(c: &Container, old: Option<&Container>, seconds: f64) -> (f64, f64) {
    let group = |op: &str| {
        let sum = |c: &Container| -> u64 {
            let entries = c.stats.blkio.io_service_bytes_recursive.iter();
            entries
                .filter(|e| e.op.eq_ignore_ascii_case(op))
                .map(|e| e.value)
                .sum()
        };
        rate(sum(c), old.map(sum), seconds)
    };
    let mut own = (0.0, 0.0);
    for (pid, io) in &c.io {
        let before = old.and_then(|o| o.io.get(pid));
        own.0 += rate(io.read, before.map(|b| b.read), seconds);
        own.1 += rate(io.written, before.map(|b| b.written), seconds);
    }
    (own.0.max(group("read")), own.1.max(group("write")))
}

fn operations(s: &cgroup::stats::Stats) -> u64 {
    let entries = s.blkio.io_serviced_recursive.iter();
    let some = |op: &str| op.eq_ignore_ascii_case("read") || op.eq_ignore_ascii_case("write");
    entries.filter(|e| some(&e.op)).map(|e| e.value).sum()
}

/// The order of the lines.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sort {
    /// Processor.
    Cpu,
    /// Memory.
    Memory,
    /// Network.
    Network,
    /// Disks.
    Io,
    /// Waiting for disks.
    Pressure,
    /// Tasks in state D.
    Stuck,
    /// Name.
    Name,
}

impl Sort {
    /// By the word of the command line.
    pub fn of(word: &str) -> Self {
        match word {
            "memory" => Self::Memory,
            "network" => Self::Network,
            "io" => Self::Io,
            "pressure" => Self::Pressure,
            "stuck" => Self::Stuck,
            "name" => Self::Name,
            _ => Self::Cpu,
        }
    }

    /// By a key of the live view.
    pub fn of_key(key: u8) -> Option<Self> {
        Some(match key {
            b'c' => Self::Cpu,
            b'm' => Self::Memory,
            b't' => Self::Network,
            b'i' => Self::Io,
            b'p' => Self::Pressure,
            b'd' => Self::Stuck,
            b'n' => Self::Name,
            _ => return None,
        })
    }

    /// Sorts, the most first.
    pub fn apply(self, rows: &mut [Row]) {
        #[allow(clippy::cast_precision_loss, reason = "only an order")]
        let key = |r: &Row| match self {
            Self::Cpu => r.cpu_percent,
            Self::Memory => r.memory as f64,
            Self::Network => r.net_in + r.net_out,
            Self::Io => r.read + r.write,
            Self::Pressure => r.waits_for_disk(),
            Self::Stuck => r.stuck.len() as f64,
            Self::Name => 0.0,
        };
        // Stable: equal ones stay in the order of their names.
        rows.sort_by(|a, b| key(b).total_cmp(&key(a)));
    }
}
