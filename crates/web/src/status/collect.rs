//! Taking the snapshot.

use std::collections::HashMap;
use std::fs;
use std::sync::OnceLock;
use std::time::Instant;

use pods::{ContainerPhase, Engine, PodPhase};

use super::slow::Known;
use super::{Container, Event, Operation, Pod, Pressure, Status, Stuck};
use crate::Metrics;

/// Events that are shown.
const EVENTS: u64 = 25;

/// When the first look was taken, which is when the daemon began to serve.
fn began() -> Instant {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    *BEGAN.get_or_init(Instant::now)
}

/// Marks the beginning.
pub fn begin() {
    began();
}

/// Everything as it is now: from memory, and from /proc for what only the kernel knows; with what
/// is known of the disk and the network.
pub fn collect(engine: &Engine, metrics: &Metrics, known: Known) -> Status {
    let (served, failed) = metrics.totals();
    let containers = containers(engine);
    let mut status = Status {
        version: env!("CARGO_PKG_VERSION"),
        built: built(),
        now: time(std::time::SystemTime::now()),
        uptime_seconds: began().elapsed().as_secs(),
        pid: std::process::id(),
        memory: memory(),
        descriptors: fs::read_dir("/proc/self/fd").map_or(0, Iterator::count),
        operations_served: served,
        operations_failed: failed,
        bytes_pulled: metrics.pulled(),
        scoreboard: String::new(),
        operations: operations(engine),
        pods: pods(engine),
        stuck: stuck(&containers),
        containers,
        events: events(engine),
        pressure: ["cpu", "memory", "io"]
            .into_iter()
            .filter_map(pressure)
            .collect(),
        last_event: engine.journal().last(),
        disk: known.disk,
        network: known.network,
        slow: known.trouble,
    };
    status.score();
    status
}

fn built() -> String {
    let modified = fs::metadata("/proc/self/exe").and_then(|m| m.modified());
    modified.map(time).unwrap_or_default()
}

fn operations(engine: &Engine) -> Vec<Operation> {
    let limit = engine.settings().stalled_after;
    let all = engine.operations().running().into_iter();
    all.map(|o| Operation {
        kind: o.kind.to_owned(),
        subject: o.subject,
        stage: o.stage.to_owned(),
        age: o.age.as_secs_f64(),
        stage_age: o.stage_age.as_secs_f64(),
        stalled: o.stage_age > limit,
        bytes: o.bytes.0,
        bytes_expected: o.bytes.1,
    })
    .collect()
}

fn pods(engine: &Engine) -> Vec<Pod> {
    let one = |pod: &std::sync::Arc<pods::Pod>| {
        let record = pod.record();
        let port = |p: &cri_api::v1::PortMapping| {
            let protocol = p.protocol().as_str_name();
            format!("{}/{protocol} → {}", p.host_port, p.container_port)
        };
        let mapped = record
            .config
            .port_mappings
            .iter()
            .filter(|p| p.host_port > 0);
        Pod {
            name: pod.name(),
            id: pod.id.clone(),
            phase: match pod.phase() {
                PodPhase::Making => "making",
                PodPhase::Ready => "ready",
                PodPhase::NotReady => "notready",
                PodPhase::Removed => "removed",
            }
            .to_owned(),
            ports: mapped.map(port).collect(),
            ips: record.ips,
            created: nanos(record.created),
        }
    };
    engine.pods().iter().map(one).collect()
}

fn containers(engine: &Engine) -> Vec<Container> {
    let one = |c: &std::sync::Arc<pods::Container>| {
        let record = c.record();
        let phase = c.phase();
        let config = &record.config;
        let name = config.metadata.clone().unwrap_or_default();
        let image = config.image.clone().unwrap_or_default();
        let ended = record
            .ended
            .clone()
            .filter(|_| phase == ContainerPhase::Exited);
        Container {
            name: name.name,
            attempt: name.attempt,
            pod: c.pod.name(),
            id: c.id.clone(),
            phase: format!("{phase:?}").to_ascii_lowercase(),
            image: if image.user_specified_image.is_empty() {
                image.image
            } else {
                image.user_specified_image
            },
            pid: if phase == ContainerPhase::Running {
                record.pid
            } else {
                0
            },
            code: ended.as_ref().map(|e| e.code),
            reason: ended.as_ref().map(|e| e.reason.clone()).unwrap_or_default(),
            message: ended.map(|e| e.message).unwrap_or_default(),
        }
    };
    engine.containers().iter().map(one).collect()
}

fn events(engine: &Engine) -> Vec<Event> {
    let journal = engine.journal();
    let after = journal.last().saturating_sub(EVENTS);
    let events = journal.after(after).unwrap_or_default();
    let one = |e: &std::sync::Arc<pods::journal::Event>| Event {
        number: e.number,
        time: nanos(e.time),
        what: format!("{:?}", e.what).to_ascii_lowercase(),
        pod: e.pod.clone(),
        container: e.container.clone(),
    };
    events.iter().rev().map(one).collect()
}

/// Tasks in state D whose control group has a container's id in its name.
fn stuck(containers: &[Container]) -> Vec<Stuck> {
    let ids: HashMap<&str, ()> = containers
        .iter()
        .filter(|c| c.pid > 0)
        .map(|c| (c.id.as_str(), ()))
        .collect();
    if ids.is_empty() {
        return Vec::new();
    }
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    let waiting = pids.filter_map(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (head, rest) = stat.rsplit_once(')')?;
        if !rest.trim_start().starts_with('D') {
            return None;
        }
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        let id = groups
            .split(['/', ':', '\n', '-', '.'])
            .find(|part| ids.contains_key(part))?;
        let wchan = fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
        Some(Stuck {
            container: id.to_owned(),
            pid,
            name: head.split_once('(')?.1.to_owned(),
            wchan,
        })
    });
    waiting.collect()
}

fn pressure(resource: &'static str) -> Option<Pressure> {
    let text = fs::read_to_string(format!("/proc/pressure/{resource}")).ok()?;
    let of = |word: &str| {
        let line = text.lines().find(|l| l.starts_with(word))?;
        let value = line
            .split_whitespace()
            .find_map(|w| w.strip_prefix("avg10="))?;
        value.parse().ok()
    };
    Some(Pressure {
        resource,
        some: of("some")?,
        full: of("full").unwrap_or(0.0),
    })
}

/// Resident bytes.
fn memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let kib = line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

fn nanos(nanos: i64) -> String {
    let nanos = u64::try_from(nanos).unwrap_or(0);
    time(std::time::UNIX_EPOCH + std::time::Duration::from_nanos(nanos))
}

/// RFC 3339, in seconds.
fn time(at: std::time::SystemTime) -> String {
    let since = at.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let seconds = since.as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days since 0000-03-01, in eras of 400 years; a year that begins in March ends with its
    // leap day.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = era * 400 + year + carry;
    format!(
        "{year:04}-{month:02}-{date:02}T{:02}:{:02}:{:02}Z",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_492_799, "2026-11-24T03:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(nanos(seconds * 1_000_000_000), text);
        }
        assert!(memory() > 0);
    }
}
