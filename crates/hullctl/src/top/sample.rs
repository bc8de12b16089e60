//! One look at everything: totals, of which two make rates.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use cgroup::stats::Stats;
use serde::Serialize;

use crate::proc::containers::{Known, known};
use crate::proc::stat;
use crate::proc::waits::{self, Wait};

/// Everything at one moment.
#[derive(Debug)]
pub struct Sample {
    /// When.
    pub at: Instant,
    /// By id.
    pub containers: BTreeMap<String, Container>,
    /// The machine.
    pub machine: Machine,
}

/// A container's totals.
#[derive(Debug)]
pub struct Container {
    /// Name and processes.
    pub known: Known,
    /// Its control groups' statistics.
    pub stats: Stats,
    /// Bytes received and sent, without loopback.
    pub network: (u64, u64),
    /// Bytes read from and written to disks, by process; buffered writes are counted here when
    /// they are made, in `stats` only where the kernel knows whose they were.
    pub io: BTreeMap<i32, ProcessIo>,
    /// Clock ticks that its tasks have waited for disks; 0 without delay accounting.
    pub blkio_ticks: u64,
    /// Tasks in state D.
    pub stuck: Vec<Wait>,
    /// Limits in effect, for people.
    pub limits: Vec<String>,
}

/// What a process has read and written.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessIo {
    /// From disks.
    pub read: u64,
    /// To disks, some of it later.
    pub written: u64,
}

/// The machine as a whole.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Machine {
    /// Per cent of the last 10 s in which some task waited for a processor.
    pub cpu_pressure: Option<f64>,
    /// For memory.
    pub memory_pressure: Option<f64>,
    /// For a disk.
    pub io_pressure: Option<f64>,
    /// Whether the kernel measures how long each task waits for disks.
    pub delay_accounting: bool,
}

impl Machine {
    fn look() -> Self {
        let pressure = |what: &str| {
            let text = std::fs::read_to_string(format!("/proc/pressure/{what}")).ok()?;
            Some(cgroup::stats::Pressure::parse(&text)?.some.avg10)
        };
        let accounting = std::fs::read_to_string("/proc/sys/kernel/task_delayacct");
        Self {
            cpu_pressure: pressure("cpu"),
            memory_pressure: pressure("memory"),
            io_pressure: pressure("io"),
            delay_accounting: accounting.is_ok_and(|t| t.trim() == "1"),
        }
    }

    /// One line for people.
    pub fn line(&self) -> String {
        let per_cent = |p: Option<f64>| p.map_or_else(|| "-".to_owned(), |p| format!("{p:.1}%"));
        format!(
            "machine: waiting for cpu {}, memory {}, io {}\n",
            per_cent(self.cpu_pressure),
            per_cent(self.memory_pressure),
            per_cent(self.io_pressure)
        )
    }
}

impl Sample {
    /// Looks at all containers of a state root that have a process.
    pub fn take(root: &Path) -> Result<Self> {
        let mut containers = BTreeMap::new();
        for known in known(root)? {
            if known.pids.is_empty() {
                continue;
            }
            let id = known.container.id.to_string();
            containers.insert(id, Container::look(known));
        }
        Ok(Self {
            at: Instant::now(),
            containers,
            machine: Machine::look(),
        })
    }
}

impl Container {
    fn look(known: Known) -> Self {
        let manager = known.container.cgroups();
        // A container that ends while it is looked at has no statistics any more.
        let stats = manager
            .as_ref()
            .and_then(|m| m.stats().ok())
            .unwrap_or_default();
        let pids = &known.pids;
        Self {
            network: pids.first().map(|pid| network(*pid)).unwrap_or_default(),
            io: pids
                .iter()
                .filter_map(|pid| Some((*pid, process_io(*pid)?)))
                .collect(),
            blkio_ticks: pids
                .iter()
                .filter_map(|p| stat::read(*p, None))
                .map(|s| s.blkio_ticks)
                .sum(),
            stuck: pids
                .iter()
                .flat_map(|p| waits::of_process(*p))
                .filter(|w| w.state == 'D')
                .collect(),
            limits: manager
                .map(|m| limits(&m.paths(), &stats))
                .unwrap_or_default(),
            stats,
            known,
        }
    }
}

fn network(pid: i32) -> (u64, u64) {
    let text = std::fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default();
    network_in(&text)
}

/// Sums the columns bytes received (1st) and sent (9th) of all interfaces but loopback.
fn network_in(text: &str) -> (u64, u64) {
    let mut sum = (0, 0);
    for line in text.lines().skip(2) {
        let Some((name, numbers)) = line.split_once(':') else {
            continue;
        };
        let numbers: Vec<u64> = numbers
            .split_whitespace()
            .filter_map(|n| n.parse().ok())
            .collect();
        if let (false, Some(received), Some(sent)) =
            (name.trim() == "lo", numbers.first(), numbers.get(8))
        {
            sum = (sum.0 + received, sum.1 + sent);
        }
    }
    sum
}

fn process_io(pid: i32) -> Option<ProcessIo> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
    let field = |name: &str| crate::proc::status_field(&text, name)?.parse::<u64>().ok();
    let cancelled = field("cancelled_write_bytes").unwrap_or(0);
    Some(ProcessIo {
        read: field("read_bytes")?,
        written: field("write_bytes")?.saturating_sub(cancelled),
    })
}

fn limits(paths: &BTreeMap<String, std::path::PathBuf>, stats: &Stats) -> Vec<String> {
    let mut limits = Vec::new();
    let memory = stats.memory.usage.limit;
    // v1 writes the largest page-aligned number for none, v2 the largest of all.
    if memory > 0 && memory < 1 << 60 {
        limits.push(format!("memory {}", crate::units::bytes(memory)));
    }
    if stats.pids.limit > 0 && stats.pids.limit < u64::MAX {
        limits.push(format!("tasks {}", stats.pids.limit));
    }
    let read = |controller: &str, file: &str| {
        let dir = paths.get(controller)?;
        let text = std::fs::read_to_string(dir.join(file)).ok()?;
        Some(text.trim().to_owned())
    };
    let quota = read("cpu", "cpu.cfs_quota_us").zip(read("cpu", "cpu.cfs_period_us"));
    let quota = quota.or_else(|| {
        let text = read("", "cpu.max")?;
        text.split_once(' ')
            .map(|(q, p)| (q.to_owned(), p.to_owned()))
    });
    if let Some((Ok(quota), Ok(period))) = quota.map(|(q, p)| (q.parse::<f64>(), p.parse::<f64>()))
        && quota > 0.0
        && period > 0.0
    {
        limits.push(format!("cpu {:.2}", quota / period));
    }
    for (controller, file) in [
        ("blkio", "blkio.throttle.read_bps_device"),
        ("blkio", "blkio.throttle.write_bps_device"),
        ("blkio", "blkio.throttle.read_iops_device"),
        ("blkio", "blkio.throttle.write_iops_device"),
        ("", "io.max"),
    ] {
        let lines = read(controller, file).unwrap_or_default();
        limits.extend(
            lines
                .lines()
                .filter(|l| !l.is_empty())
                .map(|l| format!("{file} {l}")),
        );
    }
    limits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_interfaces() {
        let text = "Inter-| Receive\n face |bytes\n  lo: 9 1 0 0 0 0 0 0 9 1 0\n eth0:100 1 0 0 0 0 0 0 50 1 0 0\n";
        assert_eq!(network_in(text), (100, 50));
    }
}
