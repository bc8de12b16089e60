//! `linux.resources`: contradictions, ranges, and zeros that mean "not set".

use std::collections::BTreeMap;

use super::{Warnings, devices, list, names, text};
use crate::error::{At, Result};
use crate::oci::{
    BlockIo, Cpu, HugepageLimit, Memory, Network, Pids, Rdma, Resources, ThrottleDevice,
};

/// Periods of the CPU controllers, in microseconds (Documentation/scheduler/sched-bwc).
const PERIOD: std::ops::RangeInclusive<u64> = 1_000..=1_000_000;
/// Shortest quota, in microseconds.
const QUOTA_MIN: i64 = 1_000;
/// Weights of block devices (config-linux.md).
const WEIGHT: std::ops::RangeInclusive<u16> = 10..=1000;
/// Largest swappiness (config-linux.md).
const SWAPPINESS_MAX: u64 = 100;

/// Validates a resources document as `update` gets one. Device rules are left as given, and a
/// limit may be missing that was set when the container was created.
///
/// # Errors
/// The first rule that is broken, by the field that breaks it.
pub fn check_update(given: &Resources) -> Result<(Resources, Vec<String>)> {
    let mut warnings = Warnings::new();
    let checked = all(given, false, &At::top("resources"), &mut warnings)?;
    Ok((checked, warnings))
}

/// Validates the resources of a container to be made.
pub(super) fn resources(given: &Resources, at: &At, warnings: &mut Warnings) -> Result<Resources> {
    all(given, true, at, warnings)
}

fn all(given: &Resources, fresh: bool, at: &At, warnings: &mut Warnings) -> Result<Resources> {
    let rules = at.field("devices");
    let devices = given
        .devices
        .iter()
        .enumerate()
        .map(|(i, rule)| devices::rule(rule, &rules.index(i)))
        .collect::<Result<_>>()?;
    let memory = given.memory.as_ref();
    let memory = memory.map(|m| memory_limits(m, fresh, &at.field("memory"), warnings));
    let cpu = given.cpu.as_ref().map(|c| cpu_limits(c, &at.field("cpu")));
    let block_io = given.block_io.as_ref();
    huge_pages(&given.hugepage_limits, &at.field("hugepageLimits"))?;
    rdma(&given.rdma, &at.field("rdma"))?;
    unified(&given.unified, &at.field("unified"))?;
    Ok(Resources {
        devices,
        memory: memory.transpose()?,
        cpu: cpu.transpose()?,
        pids: given.pids.as_ref().map(pids),
        block_io: block_io
            .map(|b| block(b, &at.field("blockIO")))
            .transpose()?,
        hugepage_limits: given.hugepage_limits.clone(),
        network: network(given.network.as_ref(), &at.field("network"))?,
        rdma: given.rdma.clone(),
        unified: given.unified.clone(),
    })
}

fn memory_limits(given: &Memory, fresh: bool, at: &At, warnings: &mut Warnings) -> Result<Memory> {
    let bytes = |value: Option<i64>, name: &str| match value {
        Some(n) if n < -1 => Err(at.field(name).invalid(n, "must be -1 (unlimited) or more")),
        // Producers whose number cannot be absent write 0.
        other => Ok(other.filter(|&n| n != 0)),
    };
    let mut out = given.clone();
    out.limit = bytes(given.limit, "limit")?;
    out.reservation = bytes(given.reservation, "reservation")?;
    out.swap = bytes(given.swap, "swap")?;
    if let Some(swap) = out.swap.filter(|&swap| swap != -1) {
        let at = at.field("swap");
        match out.limit {
            Some(limit) if limit != -1 && swap >= limit => {}
            Some(limit) if limit != -1 => {
                let reason = format!("is for memory and swap together, below limit ({limit})");
                return Err(at.invalid(swap, reason));
            }
            None if !fresh => {}
            _ => return Err(at.invalid(swap, "needs a limit for memory alone")),
        }
    }
    for (value, name) in [(given.kernel, "kernel"), (given.kernel_tcp, "kernelTCP")] {
        if value.is_some() {
            let at = at.field(name);
            warnings.push(format!(
                "{at}: ignored, the kernel has no such limit any more"
            ));
        }
    }
    // Docker and the kubelet wrote -1, "not set", through an unsigned number.
    out.swappiness = given.swappiness.filter(|&s| s != u64::MAX);
    if let Some(swappiness) = out.swappiness.filter(|&s| s > SWAPPINESS_MAX) {
        let reason = format!("must be at most {SWAPPINESS_MAX}");
        return Err(at.field("swappiness").invalid(swappiness, reason));
    }
    (out.kernel, out.kernel_tcp) = (None, None);
    Ok(out)
}

fn cpu_limits(given: &Cpu, at: &At) -> Result<Cpu> {
    let mut out = given.clone();
    out.shares = given.shares.filter(|&n| n != 0);
    out.quota = given.quota.filter(|&n| n != 0).map(|n| n.max(-1));
    out.period = given.period.filter(|&n| n != 0);
    out.realtime_period = given.realtime_period.filter(|&n| n != 0);
    if let Some(period) = out.period.filter(|p| !PERIOD.contains(p)) {
        let reason = format!("must be between {} and {} µs", PERIOD.start(), PERIOD.end());
        return Err(at.field("period").invalid(period, reason));
    }
    if let Some(quota) = out.quota.filter(|&q| q > 0) {
        if quota < QUOTA_MIN {
            let reason = format!("must be at least {QUOTA_MIN} µs, or negative for none");
            return Err(at.field("quota").invalid(quota, reason));
        }
        if let Some(burst) = given.burst.filter(|&b| b > quota.unsigned_abs()) {
            let reason = format!("must not be above quota ({quota})");
            return Err(at.field("burst").invalid(burst, reason));
        }
    }
    if let (Some(runtime), Some(period)) = (given.realtime_runtime, out.realtime_period)
        && u64::try_from(runtime).is_ok_and(|runtime| runtime > period)
    {
        let reason = format!("must not be above realtimePeriod ({period})");
        return Err(at.field("realtimeRuntime").invalid(runtime, reason));
    }
    if let Some(idle) = given.idle.filter(|idle| !matches!(idle, 0 | 1)) {
        return Err(at.field("idle").invalid(idle, "must be 0 or 1"));
    }
    list::kernel_list(&given.cpus, &at.field("cpus"))?;
    list::kernel_list(&given.mems, &at.field("mems"))?;
    Ok(out)
}

/// Every negative number means the same.
fn pids(given: &Pids) -> Pids {
    Pids {
        limit: given.limit.map(|n| n.max(-1)),
    }
}

fn weight(given: Option<u16>, at: &At) -> Result<Option<u16>> {
    match given {
        Some(0) | None => Ok(None),
        Some(n) if WEIGHT.contains(&n) => Ok(Some(n)),
        Some(n) => {
            let reason = format!("must be between {} and {}", WEIGHT.start(), WEIGHT.end());
            Err(at.invalid(n, reason))
        }
    }
}

fn block(given: &BlockIo, at: &At) -> Result<BlockIo> {
    let mut out = given.clone();
    out.weight = weight(given.weight, &at.field("weight"))?;
    out.leaf_weight = weight(given.leaf_weight, &at.field("leafWeight"))?;
    let devices = at.field("weightDevice");
    for (i, device) in out.weight_device.iter_mut().enumerate() {
        let at = devices.index(i);
        devices::block_numbers(device.major, device.minor, &at)?;
        device.weight = weight(device.weight, &at.field("weight"))?;
        device.leaf_weight = weight(device.leaf_weight, &at.field("leafWeight"))?;
        if device.weight.is_none() && device.leaf_weight.is_none() {
            return Err(at.missing("weight or leafWeight is required"));
        }
    }
    throttle(
        &given.throttle_read_bps_device,
        &at.field("throttleReadBpsDevice"),
    )?;
    throttle(
        &given.throttle_write_bps_device,
        &at.field("throttleWriteBpsDevice"),
    )?;
    throttle(
        &given.throttle_read_iops_device,
        &at.field("throttleReadIOPSDevice"),
    )?;
    throttle(
        &given.throttle_write_iops_device,
        &at.field("throttleWriteIOPSDevice"),
    )?;
    Ok(out)
}

fn throttle(given: &[ThrottleDevice], at: &At) -> Result<()> {
    for (i, device) in given.iter().enumerate() {
        devices::block_numbers(device.major, device.minor, &at.index(i))?;
    }
    Ok(())
}

/// The size becomes part of a file name: `64KB`, `2MB`, `1GB`.
fn huge_pages(given: &[HugepageLimit], at: &At) -> Result<()> {
    for (i, limit) in given.iter().enumerate() {
        let at = at.index(i);
        let at = at.field("pageSize");
        let size = text::required(&limit.page_size, &at)?;
        let digits = ["KB", "MB", "GB"]
            .into_iter()
            .find_map(|unit| size.strip_suffix(unit))
            .unwrap_or_default();
        let is_number = digits.bytes().all(|b| b.is_ascii_digit());
        if digits.is_empty() || digits.starts_with('0') || !is_number {
            return Err(at.invalid(size, "must be a number and KB, MB or GB"));
        }
        if given[..i].iter().any(|other| other.page_size == size) {
            return Err(at.invalid(size, "given twice"));
        }
    }
    Ok(())
}

fn network(given: Option<&Network>, at: &At) -> Result<Option<Network>> {
    let Some(given) = given else {
        return Ok(None);
    };
    let at = at.field("priorities");
    for (i, priority) in given.priorities.iter().enumerate() {
        names::interface(&priority.name, &at.index(i).field("name"))?;
    }
    Ok(Some(given.clone()))
}

/// A limit is the line `DEVICE hca_handle=N hca_object=N`.
fn rdma(given: &BTreeMap<String, Rdma>, at: &At) -> Result<()> {
    for (device, limit) in given {
        let at = at.key(device);
        if device.is_empty() || device.contains(|c: char| c.is_control() || c == ' ') {
            return Err(at.invalid(device, "not the name of an RDMA device"));
        }
        if limit.hca_handles.is_none() && limit.hca_objects.is_none() {
            return Err(at.missing("hcaHandles or hcaObjects is required"));
        }
    }
    Ok(())
}

/// Keys are files of the cgroup's own directory.
fn unified(given: &BTreeMap<String, String>, at: &At) -> Result<()> {
    for (file, value) in given {
        let at = at.key(file);
        let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if file.is_empty() || file.starts_with('.') || !file.chars().all(fits) {
            return Err(at.invalid(file, "not the name of a file of a cgroup"));
        }
        text::no_nul(value, &at)?;
    }
    Ok(())
}
