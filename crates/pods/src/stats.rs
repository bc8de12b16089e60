//! What containers and pods use, from their control groups.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cgroup::stats::{Pressure, PressureLine, Stats};
use cri_api::v1;

use crate::container::{Container, Phase};
use crate::engine::Engine;
use crate::error::{Doing, Result};
use crate::journal::now;
use crate::oci::cgroup::Driver;
use crate::operation::lock;
use crate::pod::{Pod, PodPhase};
use crate::record::ContainerRecord;
use crate::supervisor::blocking;

/// How old the size of a writable layer may be: counting it reads a whole tree.
const LAYER_AGE: Duration = Duration::from_secs(10);

/// Counters of one interface.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interface {
    pub(crate) name: String,
    /// In the order of `/proc/net/dev`: receive bytes, packets, errors, drops.
    pub(crate) received: [u64; 4],
    /// The same for what was sent.
    pub(crate) sent: [u64; 4],
}

impl Engine {
    /// What a container uses.
    ///
    /// # Errors
    /// There is none, or its control groups cannot be read.
    pub async fn container_stats(&self, id: &str) -> Result<v1::ContainerStats> {
        let (engine, container) = (self.clone(), self.container(id)?);
        blocking(move || engine.stats_now(&container)).await
    }

    /// What containers use; those that have ended use nothing and are left out.
    pub async fn stats_of(&self, all: Vec<Arc<Container>>) -> Vec<v1::ContainerStats> {
        let engine = self.clone();
        let read = move || {
            let live = all.iter().filter(|c| c.phase() == Phase::Running);
            Ok(live.filter_map(|c| engine.stats_now(c).ok()).collect())
        };
        blocking(read).await.unwrap_or_default()
    }

    /// What a pod uses.
    ///
    /// # Errors
    /// There is none.
    pub async fn pod_stats(&self, id: &str) -> Result<v1::PodSandboxStats> {
        let (engine, pod) = (self.clone(), self.pod(id)?);
        blocking(move || engine.pod_stats_now(&pod)).await
    }

    /// What pods use; those that have ended use nothing and are left out.
    pub async fn stats_of_pods(&self, all: Vec<Arc<Pod>>) -> Vec<v1::PodSandboxStats> {
        let engine = self.clone();
        let read = move || {
            let live = all.iter().filter(|p| p.phase() == PodPhase::Ready);
            Ok(live.filter_map(|p| engine.pod_stats_now(p).ok()).collect())
        };
        blocking(read).await.unwrap_or_default()
    }

    fn stats_now(&self, container: &Arc<Container>) -> Result<v1::ContainerStats> {
        let record = container.record();
        let attributes = v1::ContainerAttributes {
            id: record.id.clone(),
            metadata: record.config.metadata.clone(),
            labels: record.config.labels.clone(),
            annotations: record.config.annotations.clone(),
        };
        let mut stats = v1::ContainerStats {
            attributes: Some(attributes),
            writable_layer: self.writable_layer(container),
            ..v1::ContainerStats::default()
        };
        if container.phase() == Phase::Running {
            let read = self.read(&record)?;
            let time = now();
            let rate = rate(&container.sample, time, read.cpu.usage.total);
            stats.cpu = Some(cpu(&read, time, rate));
            stats.memory = Some(memory(&read, time));
            stats.swap = Some(swap(&read, time));
            stats.io = Some(io(&read, time));
        }
        Ok(stats)
    }

    pub(crate) fn read(&self, record: &ContainerRecord) -> Result<Stats> {
        self.manager(record)?
            .stats()
            .doing(|| format!("statistics of {}", record.id))
    }

    fn writable_layer(&self, container: &Arc<Container>) -> Option<v1::FilesystemUsage> {
        let known = *lock(&container.layer);
        let (bytes, inodes) = match known {
            Some((at, bytes, inodes)) if at.elapsed() < LAYER_AGE => (bytes, inodes),
            _ => {
                let (bytes, inodes) = self.0.images.usage(&container.id).ok()?;
                *lock(&container.layer) = Some((Instant::now(), bytes, inodes));
                (bytes, inodes)
            }
        };
        let mountpoint = self.places().state.to_string_lossy().into_owned();
        Some(v1::FilesystemUsage {
            timestamp: now(),
            fs_id: Some(v1::FilesystemIdentifier { mountpoint }),
            used_bytes: value(bytes),
            inodes_used: value(inodes),
        })
    }

    fn pod_stats_now(&self, pod: &Arc<Pod>) -> Result<v1::PodSandboxStats> {
        let record = pod.record();
        let containers: Vec<Arc<Container>> = self.containers_of(&pod.id);
        let live = containers.iter().filter(|c| c.phase() == Phase::Running);
        let each: Vec<v1::ContainerStats> = live.filter_map(|c| self.stats_now(c).ok()).collect();
        let time = now();
        let whole = self.whole(&record.cgroup_parent, &each);
        let rate = rate(&pod.sample, time, whole.cpu.usage.total);
        let interfaces = interfaces(record.pid);
        let tasks = whole.pids.current;
        Ok(v1::PodSandboxStats {
            attributes: Some(v1::PodSandboxAttributes {
                id: record.id.clone(),
                metadata: record.config.metadata.clone(),
                labels: record.config.labels.clone(),
                annotations: record.config.annotations.clone(),
            }),
            linux: Some(v1::LinuxPodSandboxStats {
                cpu: Some(cpu(&whole, time, rate)),
                memory: Some(memory(&whole, time)),
                network: (!record.namespaces.host_network).then(|| network(&interfaces, time)),
                process: Some(v1::ProcessUsage {
                    timestamp: time,
                    process_count: value(tasks),
                }),
                containers: each,
                io: Some(io(&whole, time)),
            }),
            windows: None,
        })
    }

    /// A pod's own control group; where systemd has made it, the sum of the containers' use.
    fn whole(&self, parent: &str, each: &[v1::ContainerStats]) -> Stats {
        let request = cgroup::Request {
            path: Some(parent),
            ..cgroup::Request::default()
        };
        let read = (self.settings().policy.driver == Driver::Cgroupfs)
            .then(|| cgroup::Manager::new(&request).and_then(|m| m.stats()));
        if let Some(Ok(stats)) = read {
            return stats;
        }
        let mut sum = Stats::default();
        for one in each {
            let number = |v: Option<v1::UInt64Value>| v.map_or(0, |v| v.value);
            let cpu = one.cpu.as_ref().and_then(|c| c.usage_core_nano_seconds);
            sum.cpu.usage.total += number(cpu);
            sum.memory.usage.usage += number(one.memory.as_ref().and_then(|m| m.usage_bytes));
            let rss = number(one.memory.as_ref().and_then(|m| m.rss_bytes));
            *sum.memory.raw.entry("anon".to_owned()).or_default() += rss;
        }
        sum.memory.usage.limit = u64::MAX;
        sum
    }

    /// A container's control groups: as the built-in runtime wrote them down, else where its
    /// first process is.
    pub(crate) fn manager(&self, record: &ContainerRecord) -> Result<cgroup::Manager> {
        let what = || format!("control groups of {}", record.id);
        if let Some(manager) = self.written_down(&record.id) {
            return Ok(manager);
        }
        let own = fs::read_to_string(format!("/proc/{}/cgroup", record.pid));
        let path = own
            .ok()
            .and_then(|text| place(&text))
            .unwrap_or_else(|| record.cgroups_path.clone());
        let request = cgroup::Request {
            path: Some(&path),
            id: &record.id,
            ..cgroup::Request::default()
        };
        cgroup::Manager::new(&request).doing(what)
    }

    fn written_down(&self, id: &str) -> Option<cgroup::Manager> {
        let root = runtime::root::StateRoot::open(&self.places().runtime_root).ok()??;
        let id = runtime::ContainerId::new(id).ok()?;
        runtime::Container::open(&root, &id).ok()?.cgroups()
    }
}

/// The path in `/proc/PID/cgroup`: of the memory controller, else of the unified tree.
fn place(text: &str) -> Option<String> {
    let of = |wanted: &str| {
        text.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let controllers = fields.next()?;
            controllers
                .split(',')
                .any(|c| c == wanted)
                .then(|| fields.next())
                .flatten()
        })
    };
    of("memory").or_else(|| of("")).map(str::to_owned)
}

/// The interfaces of a process's network namespace, without its loopback.
pub(crate) fn interfaces(pid: i32) -> Vec<Interface> {
    let text = fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default();
    let mut all: Vec<Interface> = text
        .lines()
        .filter_map(interface)
        .filter(|i| i.name != "lo")
        .collect();
    // The one that the network made comes first.
    all.sort_by_key(|i| i.name != "eth0");
    all
}

fn interface(line: &str) -> Option<Interface> {
    let (name, counters) = line.split_once(':')?;
    let counters: Vec<u64> = counters
        .split_ascii_whitespace()
        .map_while(|c| c.parse().ok())
        .collect();
    let four = |from: usize| counters.get(from..from + 4)?.try_into().ok();
    Some(Interface {
        name: name.trim().to_owned(),
        received: four(0)?,
        sent: four(8)?,
    })
}

type Sample = std::sync::Mutex<Option<(i64, u64)>>;

/// Nanoseconds of processor time a second, since the last time this was asked.
fn rate(sample: &Sample, time: i64, total: u64) -> Option<u64> {
    let (before, used) = lock(sample).replace((time, total))?;
    let elapsed = u64::try_from(time - before).ok().filter(|&e| e > 0)?;
    let used = u128::from(total.saturating_sub(used)) * 1_000_000_000;
    u64::try_from(used / u128::from(elapsed)).ok()
}

#[allow(clippy::unnecessary_wraps)]
fn value(value: u64) -> Option<v1::UInt64Value> {
    Some(v1::UInt64Value { value })
}

fn cpu(stats: &Stats, timestamp: i64, rate: Option<u64>) -> v1::CpuUsage {
    v1::CpuUsage {
        timestamp,
        usage_core_nano_seconds: value(stats.cpu.usage.total),
        usage_nano_cores: rate.and_then(value),
        psi: stats.cpu.psi.map(pressure),
    }
}

/// A value of `memory.stat` by its name in version 1 and in version 2.
pub(crate) fn raw(stats: &Stats, v1: &str, v2: &str) -> u64 {
    let raw = &stats.memory.raw;
    raw.get(v1).or_else(|| raw.get(v2)).copied().unwrap_or(0)
}

/// What could not be given back without writing to a disk.
pub(crate) fn working_set(stats: &Stats) -> u64 {
    stats
        .memory
        .usage
        .usage
        .saturating_sub(raw(stats, "total_inactive_file", "inactive_file"))
}

fn memory(stats: &Stats, timestamp: i64) -> v1::MemoryUsage {
    let working_set = working_set(stats);
    let limit = stats.memory.usage.limit;
    // Version 1 says "none" by the largest number of whole pages.
    let limited = limit < i64::MAX as u64 - 0xffff;
    v1::MemoryUsage {
        timestamp,
        working_set_bytes: value(working_set),
        available_bytes: limited.then_some(v1::UInt64Value {
            value: limit.saturating_sub(working_set),
        }),
        usage_bytes: value(stats.memory.usage.usage),
        rss_bytes: value(raw(stats, "total_rss", "anon")),
        page_faults: value(raw(stats, "total_pgfault", "pgfault")),
        major_page_faults: value(raw(stats, "total_pgmajfault", "pgmajfault")),
        psi: stats.memory.psi.map(pressure),
    }
}

fn swap(stats: &Stats, timestamp: i64) -> v1::SwapUsage {
    let (both, memory) = (stats.memory.swap, stats.memory.usage);
    let used = both.usage.saturating_sub(memory.usage);
    let limited = both.limit > 0 && both.limit < i64::MAX as u64 - 0xffff;
    let most = both.limit.saturating_sub(memory.limit);
    v1::SwapUsage {
        timestamp,
        swap_available_bytes: limited.then_some(v1::UInt64Value {
            value: most.saturating_sub(used),
        }),
        swap_usage_bytes: value(used),
    }
}

fn io(stats: &Stats, timestamp: i64) -> v1::IoUsage {
    v1::IoUsage {
        timestamp,
        psi: stats.blkio.psi.map(pressure),
    }
}

fn pressure(psi: Pressure) -> v1::PsiStats {
    // The kernel counts microseconds, the CRI nanoseconds.
    let data = |line: PressureLine| v1::PsiData {
        total: line.total.saturating_mul(1000),
        avg10: line.avg10,
        avg60: line.avg60,
        avg300: line.avg300,
    };
    v1::PsiStats {
        full: Some(data(psi.full)),
        some: Some(data(psi.some)),
    }
}

fn network(interfaces: &[Interface], timestamp: i64) -> v1::NetworkUsage {
    let all: Vec<v1::NetworkInterfaceUsage> = interfaces
        .iter()
        .map(|i| v1::NetworkInterfaceUsage {
            name: i.name.clone(),
            rx_bytes: value(i.received[0]),
            rx_errors: value(i.received[2]),
            tx_bytes: value(i.sent[0]),
            tx_errors: value(i.sent[2]),
        })
        .collect();
    let mut all = all.into_iter();
    v1::NetworkUsage {
        timestamp,
        default_interface: all.next(),
        interfaces: all.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_of_a_process() {
        let line = " eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16";
        let read = interface(line).unwrap();
        assert_eq!(
            (read.name.as_str(), read.received, read.sent),
            ("eth0", [1, 2, 3, 4], [9, 10, 11, 12])
        );
        assert!(interface("Inter-|   Receive").is_none());
        assert!(interface(" face |bytes    packets").is_none());
    }

    #[test]
    fn a_place_in_the_hierarchies() {
        assert_eq!(place("5:memory:/a\n0::/b\n").unwrap(), "/a");
        assert_eq!(place("0::/b\n").unwrap(), "/b");
        assert_eq!(place(""), None);
    }

    #[test]
    fn processor_time_a_second() {
        let sample = Sample::default();
        assert_eq!(rate(&sample, 1_000_000_000, 5), None);
        assert_eq!(
            rate(&sample, 3_000_000_000, 1_000_000_005),
            Some(500_000_000)
        );
    }
}
