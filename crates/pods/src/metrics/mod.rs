//! Metrics of pods and containers under the names that cAdvisor has made common.

mod table;

use std::fs;
use std::sync::Arc;

use cgroup::stats::{BlkioEntry, Pressure, Stats};
use cri_api::v1::{self, MetricType};

use crate::container::{Container, Phase};
use crate::engine::Engine;
use crate::journal::now;
use crate::pod::{Pod, PodPhase};
use crate::record::ContainerRecord;
use crate::stats::{interfaces, raw, working_set};
use crate::supervisor::blocking;
use table::{METRICS, Metric};

/// Labels that every metric has.
const LABELS: [&str; 6] = ["id", "name", "image", "container", "pod", "namespace"];

/// What metrics there are.
#[must_use]
pub fn descriptors() -> Vec<v1::MetricDescriptor> {
    let one = |(name, help, labels, _): &Metric| v1::MetricDescriptor {
        name: (*name).to_owned(),
        help: (*help).to_owned(),
        label_keys: LABELS
            .iter()
            .chain(*labels)
            .map(|&l| l.to_owned())
            .collect(),
    };
    METRICS.iter().map(one).collect()
}

/// Metrics being collected for one pod or container.
#[derive(Debug)]
struct Sheet {
    labels: Vec<String>,
    time: i64,
    all: Vec<v1::Metric>,
}

impl Sheet {
    fn add(&mut self, name: &str, further: &[&str], value: u64) {
        let counts = METRICS.iter().find(|m| m.0 == name).is_none_or(|m| m.3);
        let kind = if counts {
            MetricType::Counter
        } else {
            MetricType::Gauge
        };
        let further = further.iter().map(|&l| l.to_owned());
        self.all.push(v1::Metric {
            name: name.to_owned(),
            timestamp: self.time,
            metric_type: kind.into(),
            label_values: self.labels.iter().cloned().chain(further).collect(),
            value: Some(v1::UInt64Value { value }),
        });
    }
}

impl Engine {
    /// Metrics of all pods that are ready.
    pub async fn pod_metrics(&self) -> Vec<v1::PodSandboxMetrics> {
        let engine = self.clone();
        let read = move || {
            let ready = engine
                .pods()
                .into_iter()
                .filter(|p| p.phase() == PodPhase::Ready);
            Ok(ready.map(|p| engine.metrics_of(&p)).collect())
        };
        blocking(read).await.unwrap_or_default()
    }

    fn metrics_of(&self, pod: &Arc<Pod>) -> v1::PodSandboxMetrics {
        let record = pod.record();
        let metadata = record.config.metadata.clone().unwrap_or_default();
        let labels = |id: &str, name: &str, image: &str, container: &str| {
            [
                id,
                name,
                image,
                container,
                &metadata.name,
                &metadata.namespace,
            ]
            .map(str::to_owned)
            .to_vec()
        };
        let mut sheet = Sheet {
            labels: labels(&record.cgroup_parent, &pod.id, "", ""),
            time: now(),
            all: Vec::new(),
        };
        if !record.namespaces.host_network {
            network(&mut sheet, record.pid);
        }
        sheet.add("container_start_time_seconds", &[], seconds(record.created));
        let live = self
            .containers_of(&pod.id)
            .into_iter()
            .filter(|c| c.phase() == Phase::Running);
        let each = live.map(|container| {
            let r = container.record();
            let name = r.config.metadata.clone().unwrap_or_default().name;
            let image = r.config.image.clone().unwrap_or_default().image;
            let group = crate::oci::cgroup::place(&record.cgroup_parent, &r.cgroups_path);
            let sheet = Sheet {
                labels: labels(&group, &r.id, &image, &name),
                time: now(),
                all: Vec::new(),
            };
            v1::ContainerMetrics {
                container_id: r.id.clone(),
                metrics: self.container_metrics(sheet, &container, &r),
            }
        });
        v1::PodSandboxMetrics {
            pod_sandbox_id: pod.id.clone(),
            container_metrics: each.collect(),
            metrics: sheet.all,
        }
    }

    fn container_metrics(
        &self,
        mut sheet: Sheet,
        container: &Arc<Container>,
        record: &ContainerRecord,
    ) -> Vec<v1::Metric> {
        let Ok(manager) = self.manager(record) else {
            return sheet.all;
        };
        let Ok(stats) = manager.stats() else {
            return sheet.all;
        };
        usage(&mut sheet, &stats);
        disk(&mut sheet, &stats);
        let oom = manager.oom_kills().ok().flatten().unwrap_or(0);
        sheet.add("container_oom_events_total", &[], oom);
        if let Ok(pids) = manager.procs(true) {
            processes(&mut sheet, &pids);
        }
        let layer = *crate::operation::lock(&container.layer);
        if let Some((_, bytes, _)) = layer {
            sheet.add("container_fs_usage_bytes", &["overlay"], bytes);
        }
        limits(&mut sheet, record);
        sheet.all
    }
}

fn seconds(nanos: i64) -> u64 {
    u64::try_from(nanos / 1_000_000_000).unwrap_or(0)
}

fn usage(sheet: &mut Sheet, stats: &Stats) {
    const SECOND: u64 = 1_000_000_000;
    let (cpu, memory) = (&stats.cpu, &stats.memory);
    sheet.add(
        "container_cpu_usage_seconds_total",
        &["total"],
        cpu.usage.total / SECOND,
    );
    let throttled = cpu.throttling.throttled_time / SECOND;
    let kernel = memory.kernel.usage.max(raw(stats, "kernel", "kernel"));
    let swap = memory.swap.usage.saturating_sub(memory.usage.usage);
    for (name, value) in [
        ("cpu_user_seconds_total", cpu.usage.user / SECOND),
        ("cpu_system_seconds_total", cpu.usage.kernel / SECOND),
        ("cpu_cfs_periods_total", cpu.throttling.periods),
        (
            "cpu_cfs_throttled_periods_total",
            cpu.throttling.throttled_periods,
        ),
        ("cpu_cfs_throttled_seconds_total", throttled),
        ("memory_cache", memory.cache),
        ("memory_rss", raw(stats, "total_rss", "anon")),
        ("memory_kernel_usage", kernel),
        (
            "memory_mapped_file",
            raw(stats, "total_mapped_file", "file_mapped"),
        ),
        ("memory_swap", swap),
        ("memory_failcnt", memory.usage.failcnt),
        ("memory_usage_bytes", memory.usage.usage),
        ("memory_max_usage_bytes", memory.usage.max),
        ("memory_working_set_bytes", working_set(stats)),
        ("threads", stats.pids.current),
        ("threads_max", stats.pids.limit),
    ] {
        sheet.add(&format!("container_{name}"), &[], value);
    }
    for (kind, v1) in [
        ("pgfault", "total_pgfault"),
        ("pgmajfault", "total_pgmajfault"),
    ] {
        let faults = raw(stats, v1, kind);
        sheet.add(
            "container_memory_failures_total",
            &[kind, "container"],
            faults,
        );
    }
    for (size, entry) in &stats.hugetlb {
        sheet.add("container_hugetlb_usage_bytes", &[size], entry.usage);
        sheet.add("container_hugetlb_max_usage_bytes", &[size], entry.max);
    }
    pressure(sheet, stats);
}

fn pressure(sheet: &mut Sheet, stats: &Stats) {
    let all = [
        ("cpu", stats.cpu.psi),
        ("memory", stats.memory.psi),
        ("io", stats.blkio.psi),
    ];
    for (what, psi) in all {
        let Some(Pressure { some, full }) = psi else {
            continue;
        };
        let name = |kind: &str| format!("container_pressure_{what}_{kind}_seconds_total");
        sheet.add(&name("waiting"), &[], some.total / 1_000_000);
        sheet.add(&name("stalled"), &[], full.total / 1_000_000);
    }
}

fn disk(sheet: &mut Sheet, stats: &Stats) {
    let device = |e: &BlkioEntry| format!("{}:{}", e.major, e.minor);
    for (entries, read, write) in [
        (
            &stats.blkio.io_service_bytes_recursive,
            "container_fs_reads_bytes_total",
            "container_fs_writes_bytes_total",
        ),
        (
            &stats.blkio.io_serviced_recursive,
            "container_fs_reads_total",
            "container_fs_writes_total",
        ),
    ] {
        for entry in entries {
            match entry.op.to_ascii_lowercase().as_str() {
                "read" => sheet.add(read, &[&device(entry)], entry.value),
                "write" => sheet.add(write, &[&device(entry)], entry.value),
                _ => {}
            }
        }
    }
    for entry in &stats.blkio.io_service_bytes_recursive {
        let (major, minor) = (entry.major.to_string(), entry.minor.to_string());
        sheet.add(
            "container_blkio_device_usage_total",
            &[&device(entry), &major, &minor, &entry.op],
            entry.value,
        );
    }
}

fn processes(sheet: &mut Sheet, pids: &[i32]) {
    let (mut descriptors, mut sockets) = (0, 0);
    for pid in pids {
        for entry in fs::read_dir(format!("/proc/{pid}/fd"))
            .into_iter()
            .flatten()
            .flatten()
        {
            descriptors += 1;
            let target = fs::read_link(entry.path()).unwrap_or_default();
            sockets += u64::from(target.to_string_lossy().starts_with("socket:"));
        }
    }
    sheet.add("container_processes", &[], pids.len() as u64);
    sheet.add("container_file_descriptors", &[], descriptors);
    sheet.add("container_sockets", &[], sockets);
    let limits = pids
        .first()
        .and_then(|pid| fs::read_to_string(format!("/proc/{pid}/limits")).ok());
    for line in limits.iter().flat_map(|text| text.lines()) {
        let Some(rest) = line.strip_prefix("Max open files") else {
            continue;
        };
        let soft = rest
            .split_ascii_whitespace()
            .next()
            .and_then(|soft| soft.parse().ok());
        sheet.add(
            "container_ulimits_soft",
            &["max_open_files"],
            soft.unwrap_or(u64::MAX),
        );
    }
}

fn limits(sheet: &mut Sheet, record: &ContainerRecord) {
    let linux = record.config.linux.clone().unwrap_or_default();
    let given = linux.resources.unwrap_or_default();
    let number = |n: i64| u64::try_from(n).unwrap_or(0);
    sheet.add("container_spec_cpu_period", &[], number(given.cpu_period));
    sheet.add("container_spec_cpu_quota", &[], number(given.cpu_quota));
    sheet.add("container_spec_cpu_shares", &[], number(given.cpu_shares));
    sheet.add(
        "container_spec_memory_limit_bytes",
        &[],
        number(given.memory_limit_in_bytes),
    );
    sheet.add(
        "container_spec_memory_swap_limit_bytes",
        &[],
        number(given.memory_swap_limit_in_bytes),
    );
    sheet.add("container_start_time_seconds", &[], seconds(record.started));
    sheet.add("container_last_seen", &[], seconds(now()));
}

fn network(sheet: &mut Sheet, pid: i32) {
    for i in interfaces(pid) {
        for (way, counters) in [("receive", i.received), ("transmit", i.sent)] {
            let kinds = ["bytes", "packets", "errors", "packets_dropped"];
            for (kind, value) in kinds.iter().zip(counters) {
                sheet.add(
                    &format!("container_network_{way}_{kind}_total"),
                    &[&i.name],
                    value,
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_described_with_as_many_labels() {
        let described = descriptors();
        let mut sheet = Sheet {
            labels: vec![String::new(); LABELS.len()],
            time: 0,
            all: Vec::new(),
        };
        let psi = Some(Pressure::default());
        let mut stats = Stats::default();
        (stats.cpu.psi, stats.memory.psi, stats.blkio.psi) = (psi, psi, psi);
        stats
            .hugetlb
            .insert("2MB".to_owned(), cgroup::stats::Hugetlb::default());
        for op in ["Read", "write"] {
            let entry = BlkioEntry {
                op: op.to_owned(),
                ..BlkioEntry::default()
            };
            stats.blkio.io_service_bytes_recursive.push(entry.clone());
            stats.blkio.io_serviced_recursive.push(entry);
        }
        usage(&mut sheet, &stats);
        disk(&mut sheet, &stats);
        processes(&mut sheet, &[i32::try_from(std::process::id()).unwrap()]);
        limits(&mut sheet, &ContainerRecord::default());
        for metric in &sheet.all {
            let descriptor = described.iter().find(|d| d.name == metric.name);
            let descriptor =
                descriptor.unwrap_or_else(|| panic!("{} is not described", metric.name));
            assert_eq!(
                descriptor.label_keys.len(),
                metric.label_values.len(),
                "{}",
                metric.name
            );
        }
        assert!(sheet.all.len() > 40, "{}", sheet.all.len());
    }
}
