//! Statistics of version 2 controllers, in version 1's terms where the interface has no others.

use crate::dir::Dir;
use crate::error::Result;
use crate::parse;
use crate::stats::{Blkio, BlkioEntry, Cpu, Hugetlb, Memory, MemoryEntry, Pids, Pressure, Stats};

/// Reads what the group offers; a controller that is absent leaves zeros.
pub(crate) fn read(dir: &Dir) -> Result<Stats> {
    let mut stats = Stats {
        cpu: cpu(dir)?,
        memory: memory(dir)?,
        pids: pids(dir)?,
        blkio: io(dir)?,
        ..Stats::default()
    };
    for size in super::hugetlb::page_sizes() {
        if let Some(entry) = hugetlb(dir, &size)? {
            stats.hugetlb.insert(size, entry);
        }
    }
    pressure(dir, &mut stats)?;
    Ok(stats)
}

/// Fills in pressure, which needs no controller.
pub(crate) fn pressure(dir: &Dir, stats: &mut Stats) -> Result<()> {
    let read = |file| Ok::<_, sys::Error>(dir.read_opt(file)?.and_then(|t| Pressure::parse(&t)));
    stats.cpu.psi = read("cpu.pressure")?;
    stats.memory.psi = read("memory.pressure")?;
    stats.blkio.psi = read("io.pressure")?;
    Ok(())
}

fn text(dir: &Dir, file: &str) -> Result<String> {
    Ok(dir.read_opt(file)?.unwrap_or_default())
}

fn cpu(dir: &Dir) -> Result<Cpu> {
    let stat = text(dir, "cpu.stat")?;
    let field = |key| parse::field(&stat, key).unwrap_or(0);
    let nanos = |key| field(key).saturating_mul(1000);
    let mut cpu = Cpu::default();
    cpu.usage.total = nanos("usage_usec");
    cpu.usage.user = nanos("user_usec");
    cpu.usage.kernel = nanos("system_usec");
    cpu.throttling.periods = field("nr_periods");
    cpu.throttling.throttled_periods = field("nr_throttled");
    cpu.throttling.throttled_time = nanos("throttled_usec");
    Ok(cpu)
}

fn memory(dir: &Dir) -> Result<Memory> {
    let raw = parse::flat_map(&text(dir, "memory.stat")?);
    let usage = memory_entry(dir, "memory")?;
    let mut swap = memory_entry(dir, "memory.swap")?;
    // Version 1 counts memory and swap together, and so do readers of this.
    swap.usage = swap.usage.saturating_add(usage.usage);
    swap.limit = swap.limit.saturating_add(usage.limit);
    // The peak of the sum is not known: the sum of the peaks would be wrong.
    swap.max = 0;
    Ok(Memory {
        cache: raw.get("file").copied().unwrap_or(0),
        usage,
        swap,
        raw,
        ..Memory::default()
    })
}

fn memory_entry(dir: &Dir, prefix: &str) -> Result<MemoryEntry> {
    let Some(current) = dir.read_opt(&format!("{prefix}.current"))? else {
        return Ok(MemoryEntry::default());
    };
    let events = text(dir, &format!("{prefix}.events"))?;
    Ok(MemoryEntry {
        usage: parse::number(&current),
        limit: parse::number(&text(dir, &format!("{prefix}.max"))?),
        // Linux 5.19.
        max: parse::number(&text(dir, &format!("{prefix}.peak"))?),
        failcnt: parse::field(&events, "max").unwrap_or(0),
    })
}

fn pids(dir: &Dir) -> Result<Pids> {
    let limit = parse::number(&text(dir, "pids.max")?);
    Ok(Pids {
        current: parse::number(&text(dir, "pids.current")?),
        limit: if limit == u64::MAX { 0 } else { limit },
    })
}

fn hugetlb(dir: &Dir, size: &str) -> Result<Option<Hugetlb>> {
    for prefix in [format!("hugetlb.{size}.rsvd"), format!("hugetlb.{size}")] {
        let Some(current) = dir.read_opt(&format!("{prefix}.current"))? else {
            continue;
        };
        // Events are counted for the size, not for its reservations.
        let events = text(dir, &format!("hugetlb.{size}.events"))?;
        return Ok(Some(Hugetlb {
            usage: parse::number(&current),
            max: 0,
            failcnt: parse::field(&events, "max").unwrap_or(0),
        }));
    }
    Ok(None)
}

/// `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6` lines.
fn io(dir: &Dir) -> Result<Blkio> {
    Ok(io_stat(&text(dir, "io.stat")?))
}

fn io_stat(text: &str) -> Blkio {
    let mut blkio = Blkio::default();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let device = words.next().and_then(|d| d.split_once(':'));
        let Some((Ok(major), Ok(minor))) = device.map(|(a, b)| (a.parse(), b.parse())) else {
            continue;
        };
        for (key, value) in parse::pairs(words) {
            let (bytes, op) = match key {
                "rbytes" => (true, "Read"),
                "wbytes" => (true, "Write"),
                "dbytes" => (true, "Discard"),
                "rios" => (false, "Read"),
                "wios" => (false, "Write"),
                "dios" => (false, "Discard"),
                _ => continue,
            };
            let entry = BlkioEntry {
                major,
                minor,
                op: op.to_owned(),
                value: value.parse().unwrap_or(0),
            };
            if bytes {
                blkio.io_service_bytes_recursive.push(entry);
            } else {
                blkio.io_serviced_recursive.push(entry);
            }
        }
    }
    blkio
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn io_lines() {
        let b =
            io_stat("8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6 cost.usage=1\n8:16 \nx\n");
        let values = |e: &[BlkioEntry]| e.iter().map(|e| e.value).collect::<Vec<_>>();
        assert_eq!(values(&b.io_service_bytes_recursive), [1, 2, 5]);
        assert_eq!(values(&b.io_serviced_recursive), [3, 4, 6]);
    }
}
