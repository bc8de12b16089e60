//! `linux.resources` on version 1 hierarchies.
//!
//! A field that is absent or zero leaves the kernel's value alone (`pids.limit` is the one
//! field whose zero is a limit). Reads are avoided: where the order of two writes depends on
//! values in force, the likely order is tried and the kernel's EINVAL turns it round.

use std::fmt::Display;

use spec::oci::{BlockIo, Cpu, HugepageLimit, Memory, Network, Resources, ThrottleDevice};
use sys::Errno;

use super::{Group, devices, find};
use crate::check;
use crate::dir::Dir;
use crate::error::{Error, Result};
use crate::policy::Judge;

const NO_GROUP: &str = "no control group of the container has it";

/// Applies all resources; `unified` is not this module's.
pub(crate) fn apply(groups: &[Group], judge: &mut Judge<'_>, r: &Resources) -> Result<()> {
    if let Some(m) = &r.memory
        && let Some(dir) = memory_dir(groups, judge, m)?
    {
        memory(dir, m)?;
    }
    if let Some(c) = &r.cpu {
        cpu_and_cpuset(groups, judge, c)?;
    }
    if let Some(limit) = r.pids.as_ref().and_then(|p| p.limit)
        && let Some(dir) = need(groups, judge, "pids.limit", "pids")?
    {
        dir.write("pids.max", &check::max_or(limit))?;
    }
    if let Some(b) = r.block_io.as_ref().filter(|b| **b != BlockIo::default())
        && let Some(dir) = need(groups, judge, "blockIO", "blkio")?
    {
        block_io(dir, b)?;
    }
    if !r.hugepage_limits.is_empty()
        && let Some(dir) = need(groups, judge, "hugepageLimits", "hugetlb")?
    {
        hugetlb(dir, &r.hugepage_limits)?;
    }
    if let Some(n) = &r.network {
        network(groups, judge, n)?;
    }
    if !r.rdma.is_empty()
        && let Some(dir) = need(groups, judge, "rdma", "rdma")?
    {
        dir.write_each("rdma.max", &check::rdma(&r.rdma)?)?;
    }
    if !r.devices.is_empty()
        && !judge.rootless()
        && let Some(dir) = need(groups, judge, "devices", "devices")?
    {
        devices::apply(dir, &r.devices)?;
    }
    Ok(())
}

/// The directory that enforces `limit`, or the policy's answer to its absence.
fn need<'a>(
    groups: &'a [Group],
    judge: &mut Judge<'_>,
    limit: &str,
    controller: &str,
) -> Result<Option<&'a Dir>> {
    match find(groups, controller) {
        Some(dir) => Ok(Some(dir)),
        None => judge.missing(limit, controller, NO_GROUP).map(|()| None),
    }
}

fn memory_dir<'a>(
    groups: &'a [Group],
    judge: &mut Judge<'_>,
    m: &Memory,
) -> Result<Option<&'a Dir>> {
    let asked = [m.limit, m.reservation, m.swap]
        .iter()
        .any(|v| set(*v).is_some())
        || m.swappiness.is_some()
        || m.disable_oom_killer == Some(true);
    if !asked {
        return Ok(None);
    }
    need(groups, judge, "memory", "memory")
}

/// A value that is there and not zero.
fn set(value: Option<i64>) -> Option<i64> {
    value.filter(|&v| v != 0)
}

const LIMIT: &str = "memory.limit_in_bytes";
const MEMSW: &str = "memory.memsw.limit_in_bytes";

fn memory(dir: &Dir, m: &Memory) -> Result<()> {
    let limit = set(m.limit);
    let swap = set(m.swap);
    if let Some(limit) = limit.filter(|_| m.check_before_update == Some(true)) {
        check::above_usage(limit, &dir.read("memory.usage_in_bytes")?)?;
    }
    match (limit, swap) {
        (Some(limit), Some(swap)) => limit_and_swap(dir, limit, swap)?,
        // An unlimited group under a limit of memory and swap is a contradiction; the limit of
        // both goes too. The file is absent where swap is not accounted.
        (Some(-1), None) => {
            if let Err(e) = dir.write(MEMSW, "-1")
                && e.errno != Errno::NOENT
            {
                return Err(e.into());
            }
            write_limit(dir, LIMIT, -1)?;
        }
        (Some(limit), None) => write_limit(dir, LIMIT, limit)?,
        (None, Some(swap)) => write_limit(dir, MEMSW, swap)?,
        (None, None) => {}
    }
    if let Some(reservation) = set(m.reservation) {
        write_limit(dir, "memory.soft_limit_in_bytes", reservation)?;
    }
    if let Some(swappiness) = m.swappiness {
        if swappiness > 100 {
            return Err(Error::value(
                "memory.swappiness",
                swappiness,
                "not in 0-100",
            ));
        }
        dir.write("memory.swappiness", &swappiness.to_string())?;
    }
    if m.disable_oom_killer == Some(true) {
        dir.write("memory.oom_control", "1")?;
    }
    Ok(())
}

/// The kernel holds limit <= memsw at every moment. Lowering both (and a new group) needs the
/// limit first, raising both needs memsw first.
fn limit_and_swap(dir: &Dir, limit: i64, swap: i64) -> Result<()> {
    if swap != -1 && (limit == -1 || swap < limit) {
        let reason = format!("below memory.limit {limit}, which it includes");
        return Err(Error::value("memory.swap", swap, reason));
    }
    match dir.write(LIMIT, &limit.to_string()) {
        Ok(()) => write_limit(dir, MEMSW, swap),
        Err(e) if e.errno == Errno::INVAL => {
            write_limit(dir, MEMSW, swap)?;
            write_limit(dir, LIMIT, limit)
        }
        Err(e) => Err(explain_busy(dir, limit, e)),
    }
}

fn write_limit(dir: &Dir, file: &str, value: i64) -> Result<()> {
    dir.write(file, &value.to_string())
        .map_err(|e| explain_busy(dir, value, e))
}

/// EBUSY from a memory limit: more is in use and could not be reclaimed.
fn explain_busy(dir: &Dir, value: i64, error: sys::Error) -> Error {
    if error.errno != Errno::BUSY {
        return error.into();
    }
    let number = |file| dir.read(file).map(|t| t.trim().to_owned());
    match (
        number("memory.usage_in_bytes"),
        number("memory.max_usage_in_bytes"),
    ) {
        (Ok(now), Ok(peak)) => Error::value(
            "memory.limit",
            value,
            format!("device or resource busy (current usage: {now}, peak usage: {peak})"),
        ),
        _ => error.into(),
    }
}

fn cpu_and_cpuset(groups: &[Group], judge: &mut Judge<'_>, c: &Cpu) -> Result<()> {
    let wants_cpuset = !c.cpus.is_empty() || !c.mems.is_empty();
    if wants_cpuset && let Some(dir) = need(groups, judge, "cpu.cpus", "cpuset")? {
        for (file, list) in [("cpuset.cpus", &c.cpus), ("cpuset.mems", &c.mems)] {
            if !list.is_empty() {
                dir.write(file, list)?;
            }
        }
    }
    let rest = Cpu {
        cpus: String::new(),
        mems: String::new(),
        ..c.clone()
    };
    if rest != Cpu::default()
        && let Some(dir) = need(groups, judge, "cpu", "cpu")?
    {
        cpu(dir, c)?;
    }
    Ok(())
}

fn cpu(dir: &Dir, c: &Cpu) -> Result<()> {
    write_set(dir, "cpu.idle", c.idle)?;
    // An idle group has no weight; the kernel refuses one.
    if let Some(shares) = c.shares.filter(|&s| s != 0 && c.idle != Some(1)) {
        dir.write("cpu.shares", &check::shares(shares)?.to_string())?;
    }
    // The realtime runtime is bounded by its period.
    write_set(
        dir,
        "cpu.rt_period_us",
        c.realtime_period.filter(|&p| p != 0),
    )?;
    write_set(dir, "cpu.rt_runtime_us", set(c.realtime_runtime))?;
    bandwidth(dir, c)
}

/// Quota, period and burst bound each other (quota of the parent / period; burst <= quota), so
/// what the kernel refuses first may be fine after the others.
fn bandwidth(dir: &Dir, c: &Cpu) -> Result<()> {
    let mut left: Vec<(&str, String)> = Vec::new();
    let mut want = |file, value: Option<String>| left.extend(value.map(|v| (file, v)));
    want("cpu.cfs_burst_us", c.burst.map(|b| b.to_string()));
    want(
        "cpu.cfs_period_us",
        c.period.filter(|&p| p != 0).map(|p| p.to_string()),
    );
    want(
        "cpu.cfs_quota_us",
        set(c.quota).map(|q| q.max(-1).to_string()),
    );
    let mut refused = None;
    for _ in 0..3 {
        refused = None;
        let mut again = Vec::new();
        for (file, value) in left {
            match dir.write(file, &value) {
                Ok(()) => {}
                Err(e) if e.errno == Errno::INVAL => {
                    refused = Some(e);
                    again.push((file, value));
                }
                Err(e) => return Err(e.into()),
            }
        }
        left = again;
        if left.is_empty() {
            break;
        }
    }
    refused.map_or(Ok(()), |e| Err(e.into()))
}

fn write_set(dir: &Dir, file: &str, value: Option<impl Display>) -> Result<()> {
    match value {
        Some(value) => Ok(dir.write(file, &value.to_string())?),
        None => Ok(()),
    }
}

fn block_io(dir: &Dir, b: &BlockIo) -> Result<()> {
    // CFQ's names went with CFQ (Linux 5.0); BFQ has its own.
    let weights = b.weight.is_some() || b.leaf_weight.is_some() || !b.weight_device.is_empty();
    let bfq = weights && !dir.has("blkio.weight") && dir.has("blkio.bfq.weight");
    let (weight, weight_device) = if bfq {
        ("blkio.bfq.weight", "blkio.bfq.weight_device")
    } else {
        ("blkio.weight", "blkio.weight_device")
    };
    write_set(dir, weight, b.weight.filter(|&w| w != 0))?;
    write_set(dir, "blkio.leaf_weight", b.leaf_weight.filter(|&w| w != 0))?;
    for d in &b.weight_device {
        let device = check::device_number("blockIO.weightDevice", d.major, d.minor)?;
        let line = |w: u16| format!("{device} {w}");
        write_set(dir, weight_device, d.weight.map(line))?;
        write_set(dir, "blkio.leaf_weight_device", d.leaf_weight.map(line))?;
    }
    throttle(
        dir,
        "blkio.throttle.read_bps_device",
        &b.throttle_read_bps_device,
    )?;
    throttle(
        dir,
        "blkio.throttle.write_bps_device",
        &b.throttle_write_bps_device,
    )?;
    throttle(
        dir,
        "blkio.throttle.read_iops_device",
        &b.throttle_read_iops_device,
    )?;
    throttle(
        dir,
        "blkio.throttle.write_iops_device",
        &b.throttle_write_iops_device,
    )
}

fn throttle(dir: &Dir, file: &str, devices: &[ThrottleDevice]) -> Result<()> {
    for d in devices {
        let device = check::device_number(file, d.major, d.minor)?;
        dir.write(file, &format!("{device} {}", d.rate))?;
    }
    Ok(())
}

fn hugetlb(dir: &Dir, limits: &[HugepageLimit]) -> Result<()> {
    for l in limits {
        let size = check::page_size(&l.page_size)?;
        let value = l.limit.to_string();
        dir.write(&format!("hugetlb.{size}.limit_in_bytes"), &value)?;
        // Reservations are counted since Linux 5.7: a limit at mmap(2) instead of SIGBUS later.
        match dir.write(&format!("hugetlb.{size}.rsvd.limit_in_bytes"), &value) {
            Err(e) if e.errno != Errno::NOENT => return Err(e.into()),
            _ => {}
        }
    }
    Ok(())
}

fn network(groups: &[Group], judge: &mut Judge<'_>, n: &Network) -> Result<()> {
    if let Some(id) = n.class_id.filter(|&id| id != 0)
        && let Some(dir) = need(groups, judge, "network.classID", "net_cls")?
    {
        dir.write("net_cls.classid", &id.to_string())?;
    }
    if !n.priorities.is_empty()
        && let Some(dir) = need(groups, judge, "network.priorities", "net_prio")?
    {
        for p in &n.priorities {
            let name = check::word("network.priorities", &p.name)?;
            dir.write("net_prio.ifpriomap", &format!("{name} {}", p.priority))?;
        }
    }
    Ok(())
}
