//! Statistics of version 1 controllers.

use super::{Group, find};
use crate::dir::Dir;
use crate::error::Result;
use crate::parse;
use crate::stats::{Blkio, BlkioEntry, Cpu, Cpuset, Hugetlb, Memory, MemoryEntry, Pids, Stats};

/// Nanoseconds in a USER_HZ tick, which is 100 Hz to user space on every architecture we know.
const TICK_NS: u64 = 10_000_000;

/// Reads what the controllers offer; a controller that is absent leaves zeros.
pub(crate) fn read(groups: &[Group]) -> Result<Stats> {
    let mut stats = Stats::default();
    if let Some(dir) = find(groups, "cpuacct") {
        cpu_usage(dir, &mut stats.cpu)?;
    }
    if let Some(dir) = find(groups, "cpu") {
        throttling(dir, &mut stats.cpu)?;
    }
    if let Some(dir) = find(groups, "cpuset") {
        stats.cpuset = cpuset(dir)?;
    }
    if let Some(dir) = find(groups, "memory") {
        stats.memory = memory(dir)?;
    }
    if let Some(dir) = find(groups, "pids") {
        stats.pids = pids(dir)?;
    }
    if let Some(dir) = find(groups, "blkio") {
        stats.blkio = blkio(dir)?;
    }
    if let Some(dir) = find(groups, "hugetlb") {
        for size in crate::v2::hugetlb::page_sizes() {
            let entry = hugetlb(dir, &size)?;
            stats.hugetlb.insert(size, entry);
        }
    }
    Ok(stats)
}

fn text(dir: &Dir, file: &str) -> Result<String> {
    Ok(dir.read_opt(file)?.unwrap_or_default())
}

fn number(dir: &Dir, file: &str) -> Result<u64> {
    text(dir, file).map(|t| parse::number(&t))
}

fn cpu_usage(dir: &Dir, cpu: &mut Cpu) -> Result<()> {
    let stat = text(dir, "cpuacct.stat")?;
    let ticks = |key| {
        parse::field(&stat, key)
            .unwrap_or(0)
            .saturating_mul(TICK_NS)
    };
    cpu.usage.user = ticks("user");
    cpu.usage.kernel = ticks("system");
    cpu.usage.total = number(dir, "cpuacct.usage")?;
    cpu.usage.percpu = parse::numbers(&text(dir, "cpuacct.usage_percpu")?);
    // "cpu user system", then a line for each CPU (Linux 4.6).
    for line in text(dir, "cpuacct.usage_all")?.lines().skip(1) {
        if let [_, user, kernel] = parse::numbers(line)[..] {
            cpu.usage.percpu_user.push(user);
            cpu.usage.percpu_kernel.push(kernel);
        }
    }
    Ok(())
}

fn throttling(dir: &Dir, cpu: &mut Cpu) -> Result<()> {
    let stat = text(dir, "cpu.stat")?;
    let field = |key| parse::field(&stat, key).unwrap_or(0);
    cpu.throttling.periods = field("nr_periods");
    cpu.throttling.throttled_periods = field("nr_throttled");
    cpu.throttling.throttled_time = field("throttled_time");
    Ok(())
}

fn cpuset(dir: &Dir) -> Result<Cpuset> {
    let flag = |name: &str| number(dir, &format!("cpuset.{name}"));
    Ok(Cpuset {
        cpus: parse::list(&text(dir, "cpuset.cpus")?),
        mems: parse::list(&text(dir, "cpuset.mems")?),
        cpu_exclusive: flag("cpu_exclusive")?,
        mem_hardwall: flag("mem_hardwall")?,
        mem_exclusive: flag("mem_exclusive")?,
        memory_migrate: flag("memory_migrate")?,
        memory_spread_page: flag("memory_spread_page")?,
        memory_spread_slab: flag("memory_spread_slab")?,
        memory_pressure: flag("memory_pressure")?,
        sched_load_balance: flag("sched_load_balance")?,
        sched_relax_domain_level: text(dir, "cpuset.sched_relax_domain_level")?
            .trim()
            .parse()
            .unwrap_or(0),
    })
}

fn memory(dir: &Dir) -> Result<Memory> {
    let raw = parse::flat_map(&text(dir, "memory.stat")?);
    Ok(Memory {
        cache: raw.get("cache").copied().unwrap_or(0),
        usage: memory_entry(dir, "memory")?,
        swap: memory_entry(dir, "memory.memsw")?,
        kernel: memory_entry(dir, "memory.kmem")?,
        kernel_tcp: memory_entry(dir, "memory.kmem.tcp")?,
        raw,
        psi: None,
    })
}

fn memory_entry(dir: &Dir, prefix: &str) -> Result<MemoryEntry> {
    let file = |name: &str| number(dir, &format!("{prefix}.{name}"));
    Ok(MemoryEntry {
        limit: file("limit_in_bytes")?,
        usage: file("usage_in_bytes")?,
        max: file("max_usage_in_bytes")?,
        failcnt: file("failcnt")?,
    })
}

fn pids(dir: &Dir) -> Result<Pids> {
    let limit = number(dir, "pids.max")?;
    Ok(Pids {
        current: number(dir, "pids.current")?,
        limit: if limit == u64::MAX { 0 } else { limit },
    })
}

fn hugetlb(dir: &Dir, size: &str) -> Result<Hugetlb> {
    let reserved = format!("hugetlb.{size}.rsvd");
    let prefix = if dir.has(&format!("{reserved}.usage_in_bytes")) {
        reserved
    } else {
        format!("hugetlb.{size}")
    };
    Ok(Hugetlb {
        usage: number(dir, &format!("{prefix}.usage_in_bytes"))?,
        max: number(dir, &format!("{prefix}.max_usage_in_bytes"))?,
        failcnt: number(dir, &format!("{prefix}.failcnt"))?,
    })
}

fn blkio(dir: &Dir) -> Result<Blkio> {
    // BFQ, then the throttling layer, which every device has.
    let best = |names: &[&str]| -> Result<Vec<BlkioEntry>> {
        for name in names {
            let entries = blkio_entries(&text(dir, name)?);
            if !entries.is_empty() {
                return Ok(entries);
            }
        }
        Ok(Vec::new())
    };
    Ok(Blkio {
        io_service_bytes_recursive: best(&[
            "blkio.bfq.io_service_bytes_recursive",
            "blkio.throttle.io_service_bytes_recursive",
            "blkio.throttle.io_service_bytes",
        ])?,
        io_serviced_recursive: best(&[
            "blkio.bfq.io_serviced_recursive",
            "blkio.throttle.io_serviced_recursive",
            "blkio.throttle.io_serviced",
        ])?,
        io_queue_recursive: best(&["blkio.bfq.io_queued_recursive"])?,
        io_service_time_recursive: best(&["blkio.bfq.io_service_time_recursive"])?,
        io_wait_time_recursive: best(&["blkio.bfq.io_wait_time_recursive"])?,
        io_merged_recursive: best(&["blkio.bfq.io_merged_recursive"])?,
        io_time_recursive: best(&["blkio.bfq.time_recursive"])?,
        sectors_recursive: best(&["blkio.bfq.sectors_recursive"])?,
        psi: None,
    })
}

/// `8:0 Read 4096` lines; the closing `Total 4096` of all devices has no device and is left out.
fn blkio_entries(text: &str) -> Vec<BlkioEntry> {
    let entry = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let (major, minor) = words.next()?.split_once(':')?;
        let second = words.next()?;
        let (op, value) = match words.next() {
            Some(value) => (second, value),
            None => ("", second),
        };
        Some(BlkioEntry {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
            op: op.to_owned(),
            value: value.parse().ok()?,
        })
    };
    text.lines().filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blkio_lines() {
        let text = "8:0 Read 4096\n8:16 77\nTotal 4096\n\n";
        let got = blkio_entries(text);
        assert_eq!(got.len(), 2);
        assert_eq!((got[0].op.as_str(), got[0].value), ("Read", 4096));
        assert_eq!((got[1].minor, got[1].value), (16, 77));
    }
}
