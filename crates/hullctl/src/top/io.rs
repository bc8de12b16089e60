//! The view for a slow disk: who waits, who writes, where to, and what to do.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::files::{self, OpenFile};
use super::row::{Row, amount};
use super::sample::Sample;
use crate::table::Table;
use crate::units::bytes;

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Io {
    /// Bytes a second to and from each device, by container.
    pub devices: Vec<Device>,
    /// Files open for writing, of those who write.
    pub files: BTreeMap<String, Vec<OpenFile>>,
    /// One sentence.
    pub advice: String,
    /// What cannot be seen here, and how it could.
    pub blind_spots: Vec<String>,
}

/// What one container does to one device.
#[derive(Clone, Debug, Serialize)]
pub struct Device {
    /// The container.
    pub container: String,
    /// The device.
    pub device: String,
    /// Bytes a second.
    pub read: f64,
    /// Bytes a second.
    pub write: f64,
}

/// Looks.
pub fn look(rows: &[Row], before: &Sample, now: &Sample) -> Io {
    let mut devices = Vec::new();
    let mut open = BTreeMap::new();
    for row in rows {
        let Some(c) = now.containers.get(&row.id) else {
            continue;
        };
        devices.extend(of_container(row, before, now));
        if row.write > 0.0 || row.dirty > 0 {
            let files = files::open_for_writing(&c.known.pids);
            if !files.is_empty() {
                open.insert(row.name.clone(), files);
            }
        }
    }
    Io {
        devices,
        files: open,
        advice: advice(rows),
        blind_spots: blind_spots(rows, now),
    }
}

fn of_container(row: &Row, before: &Sample, now: &Sample) -> Vec<Device> {
    let mut by_device: BTreeMap<(u64, u64), (f64, f64)> = BTreeMap::new();
    let seconds = now.at.duration_since(before.at).as_secs_f64().max(0.001);
    let entries = |s: &Sample| -> BTreeMap<(u64, u64, bool), u64> {
        let c = s.containers.get(&row.id).into_iter();
        let all = c.flat_map(|c| &c.stats.blkio.io_service_bytes_recursive);
        let wanted = all.filter_map(|e| match e.op.to_ascii_lowercase().as_str() {
            "read" => Some(((e.major, e.minor, false), e.value)),
            "write" => Some(((e.major, e.minor, true), e.value)),
            _ => None,
        });
        wanted.collect()
    };
    let old = entries(before);
    for ((major, minor, write), value) in entries(now) {
        let was = old.get(&(major, minor, write)).copied().unwrap_or(0);
        #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = value.saturating_sub(was) as f64 / seconds;
        let sums = by_device.entry((major, minor)).or_default();
        if write {
            sums.1 += rate;
        } else {
            sums.0 += rate;
        }
    }
    let busy = by_device.into_iter().filter(|(_, (r, w))| r + w > 0.0);
    busy.map(|((major, minor), (read, write))| Device {
        container: row.name.clone(),
        device: files::name_of(major, minor),
        read,
        write,
    })
    .collect()
}

/// Who waits most and who writes most decide.
fn advice(rows: &[Row]) -> String {
    let waiter = rows.iter().max_by(|a, b| waits(a).total_cmp(&waits(b)));
    let writer = rows.iter().max_by(|a, b| a.write.total_cmp(&b.write));
    let (Some(waiter), Some(writer)) = (waiter, writer) else {
        return "nothing runs".to_owned();
    };
    if let Some(stuck) = waiter
        .stuck
        .first()
        .filter(|s| s.mount.is_some() || !s.wchan.is_empty())
    {
        let frozen = stuck.sentence.contains("frozen");
        if frozen {
            return format!(
                "{} waits for a frozen file system: thaw it (`fsfreeze --unfreeze`), nobody's writes are the cause",
                waiter.name
            );
        }
    }
    if waits(waiter) < 1.0 {
        return "no container waits for a disk".to_owned();
    }
    if writer.write < 65_536.0 {
        return format!(
            "{} waits for a disk, and no container writes much: look at the disk itself, or at the machine's own processes",
            waiter.name
        );
    }
    let rate = amount(writer.write);
    if writer.id == waiter.id {
        return format!(
            "{} waits for its own {rate} a second: fewer syncs, larger writes or a faster disk; a limit would not help",
            waiter.name
        );
    }
    format!(
        "{} waits while {} writes {rate} a second: limit it (`hull update` with blkio or io.max), or move one of them to another disk",
        waiter.name, writer.name
    )
}

#[allow(clippy::cast_precision_loss, reason = "only an order")]
fn waits(row: &Row) -> f64 {
    row.waits_for_disk() + 100.0 * row.stuck.len() as f64
}

fn blind_spots(rows: &[Row], now: &Sample) -> Vec<String> {
    let mut spots = Vec::new();
    if !now.machine.delay_accounting {
        spots.push(
            "how long each task waits for disks is not measured: `sysctl kernel.task_delayacct=1` switches it on"
                .to_owned(),
        );
    }
    if rows.iter().any(|r| r.io_pressure.is_none()) {
        spots.push(
            "pressure is not known for every container: it needs the unified control-group tree and psi=1 on the kernel's command line"
                .to_owned(),
        );
    }
    spots
}

impl Io {
    /// For people.
    pub fn text(&self, rows: &[Row], width: Option<usize>) -> String {
        let mut table = Table::new([
            "CONTAINER",
            "IO SOME/FULL 10s",
            "D",
            "DISK WAIT%",
            "READ/s",
            "WRITE/s",
            "IO/s",
            "DIRTY",
            "WRITEBACK",
            "LIMITS",
        ]);
        for r in rows {
            let psi = r.io_pressure.map_or_else(
                || "-".to_owned(),
                |p| format!("{:.1}/{:.1}%", p.some.avg10, p.full.avg10),
            );
            table.row([
                r.name.clone(),
                psi,
                r.stuck.len().to_string(),
                r.disk_wait_percent
                    .map_or_else(|| "-".to_owned(), |p| format!("{p:.0}")),
                amount(r.read),
                amount(r.write),
                format!("{:.0}", r.operations),
                bytes(r.dirty),
                bytes(r.writeback),
                r.limits.join(", "),
            ]);
        }
        table.right = (1..9).collect();
        table.width = width;
        let mut text = table.columns();
        text.push_str(&super::stuck(rows));
        // Writing to a String cannot fail.
        for d in &self.devices {
            let (read, write) = (amount(d.read), amount(d.write));
            let _ = writeln!(
                text,
                "{} on {}: reads {read}/s, writes {write}/s",
                d.container, d.device
            );
        }
        for (container, files) in &self.files {
            for f in files.iter().take(8) {
                let mount = f.mount.as_deref().unwrap_or("an unknown mount");
                let _ = writeln!(
                    text,
                    "{container} writes {} ({mount}, {}), process {}",
                    f.path, f.device, f.pid
                );
            }
        }
        let _ = writeln!(text, "advice: {}", self.advice);
        for spot in &self.blind_spots {
            let _ = writeln!(text, "not seen: {spot}");
        }
        text
    }
}
