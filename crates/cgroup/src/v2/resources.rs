//! `linux.resources` on the version 2 tree.
//!
//! A field that is absent or zero leaves the kernel's value alone (`pids.limit` is the one
//! field whose zero is a limit). Fields that version 2 has no counterpart for are refused, so
//! that nobody believes in a limit that is not there.

use std::collections::BTreeMap;

use spec::oci::{BlockIo, Cpu, HugepageLimit, Memory, Resources, ThrottleDevice};
use sys::Errno;

use super::{Tree, controllers, convert, devices};
use crate::check;
use crate::error::{Error, Result};
use crate::policy::Judge;

/// Applies all resources.
pub(crate) fn apply(tree: &Tree, judge: &mut Judge<'_>, r: &Resources) -> Result<()> {
    let mut w = Writer { tree, judge };
    if let Some(m) = &r.memory {
        w.memory(m)?;
    }
    if let Some(c) = &r.cpu {
        w.cpu(c)?;
    }
    if let Some(limit) = r.pids.as_ref().and_then(|p| p.limit) {
        w.set("pids.limit", "pids.max", &check::max_or(limit))?;
    }
    if let Some(b) = &r.block_io {
        w.block_io(b)?;
    }
    w.hugetlb(&r.hugepage_limits)?;
    for line in check::rdma(&r.rdma)? {
        w.set("rdma", "rdma.max", &line)?;
    }
    if let Some(n) = &r.network {
        if n.class_id.is_some_and(|id| id != 0) {
            w.no_counterpart("network.classID", "net_cls")?;
        }
        if !n.priorities.is_empty() {
            w.no_counterpart("network.priorities", "net_prio")?;
        }
    }
    if !r.devices.is_empty() && !w.judge.rootless() {
        devices::apply(&tree.dir, &r.devices)?;
    }
    w.unified(&r.unified)
}

struct Writer<'a, 'b> {
    tree: &'a Tree,
    judge: &'a mut Judge<'b>,
}

impl Writer<'_, '_> {
    /// Writes one value; an absent file is a missing controller.
    fn set(&mut self, limit: &str, file: &str, value: &str) -> Result<()> {
        match self.tree.dir.write(file, value) {
            Ok(()) => Ok(()),
            Err(e) => self.explain(limit, file, value, e),
        }
    }

    /// Like [`Self::set`] for a file that older kernels lack.
    fn set_if_there(&mut self, limit: &str, file: &str, value: &str) -> Result<()> {
        match self.tree.dir.write(file, value) {
            Err(e) if e.errno != Errno::NOENT => self.explain(limit, file, value, e),
            _ => Ok(()),
        }
    }

    /// A write failed. Hands the controller down where nobody has yet (a hybrid machine, where
    /// that is not done beforehand) and tries again; else says what is missing.
    fn explain(&mut self, limit: &str, file: &str, value: &str, error: sys::Error) -> Result<()> {
        let controller = file.split('.').next().unwrap_or(file);
        // cgroupfs has no O_CREAT: a file that is not there is one of these.
        let absent = matches!(error.errno, Errno::NOENT | Errno::PERM | Errno::ACCESS);
        let dir = &self.tree.dir;
        if !absent || controller == "cgroup" || controllers::handed_down(dir, controller) {
            return Err(error.into());
        }
        let (mountpoint, leaf) = (&self.tree.mountpoint, dir.path());
        controllers::enable(mountpoint, leaf, &[controller]);
        if dir.write(file, value).is_ok() {
            return Ok(());
        }
        let reason = controllers::why_missing(mountpoint, leaf, controller);
        self.judge.missing(limit, controller, &reason)
    }

    fn no_counterpart(&mut self, limit: &str, controller: &str) -> Result<()> {
        self.judge.missing(limit, controller, "cgroup v2 has none")
    }

    fn memory(&mut self, m: &Memory) -> Result<()> {
        let set = |v: Option<i64>| v.filter(|&v| v != 0);
        if m.check_before_update == Some(true)
            && let Some(usage) = self.tree.dir.read_opt("memory.current")?
            && let Some(limit) = set(m.limit)
        {
            check::above_usage(limit, &usage)?;
        }
        let limit = match (set(m.swap), set(m.limit)) {
            // A new sum for a limit that stays as it is.
            (Some(swap), None) if swap > 0 => self.memory_limit_in_force()?,
            (_, limit) => limit,
        };
        // Swap first: while it is too large, nothing is killed for want of memory.
        if let Some(swap) = convert::swap_max(m.swap, limit)? {
            if swap == "max" || swap == "0" {
                // Nothing to limit, nothing to deny, where swap is not accounted.
                self.set_if_there("memory.swap", "memory.swap.max", &swap)?;
            } else {
                self.set("memory.swap", "memory.swap.max", &swap)?;
            }
        }
        if let Some(limit) = set(m.limit) {
            self.set("memory.limit", "memory.max", &convert::memory(limit))?;
        }
        if let Some(low) = set(m.reservation) {
            self.set("memory.reservation", "memory.low", &convert::memory(low))?;
        }
        if m.swappiness.is_some() {
            self.no_counterpart("memory.swappiness", "swappiness")?;
        }
        if m.disable_oom_killer == Some(true) {
            self.no_counterpart("memory.disableOOMKiller", "oom_control")?;
        }
        Ok(())
    }

    fn memory_limit_in_force(&self) -> Result<Option<i64>> {
        let text = self.tree.dir.read_opt("memory.max")?;
        Ok(text.and_then(|t| t.trim().parse().ok()))
    }

    fn cpu(&mut self, c: &Cpu) -> Result<()> {
        let idle = c.idle;
        if let Some(idle) = idle {
            self.set("cpu.idle", "cpu.idle", &idle.to_string())?;
        }
        // An idle group has no weight; the kernel refuses one.
        if let Some(shares) = c.shares.filter(|&s| s != 0 && idle != Some(1)) {
            let weight = convert::cpu_weight(shares).to_string();
            self.set("cpu.shares", "cpu.weight", &weight)?;
        }
        self.bandwidth(c)?;
        if c.realtime_period.is_some_and(|p| p != 0) || c.realtime_runtime.is_some_and(|r| r != 0) {
            self.no_counterpart("cpu.realtimeRuntime", "cpu realtime")?;
        }
        for (limit, file, list) in [
            ("cpu.cpus", "cpuset.cpus", &c.cpus),
            ("cpu.mems", "cpuset.mems", &c.mems),
        ] {
            if !list.is_empty() {
                self.set(limit, file, list)?;
            }
        }
        Ok(())
    }

    /// A burst above the quota in force is refused, and so is a quota below the burst in force.
    fn bandwidth(&mut self, c: &Cpu) -> Result<()> {
        let current = match (c.quota, c.period) {
            (None | Some(0), Some(p)) if p != 0 => self.tree.dir.read_opt("cpu.max")?,
            _ => None,
        };
        let max = convert::cpu_max(c.quota, c.period, current.as_deref().unwrap_or_default());
        let burst = c.burst.map(|b| b.to_string());
        match (max, burst) {
            (Some(max), Some(burst)) => {
                if self.set("cpu.burst", "cpu.max.burst", &burst).is_ok() {
                    return self.set("cpu.quota", "cpu.max", &max);
                }
                self.set("cpu.quota", "cpu.max", &max)?;
                self.set("cpu.burst", "cpu.max.burst", &burst)
            }
            (Some(max), None) => self.set("cpu.quota", "cpu.max", &max),
            (None, Some(burst)) => self.set("cpu.burst", "cpu.max.burst", &burst),
            (None, None) => Ok(()),
        }
    }

    fn block_io(&mut self, b: &BlockIo) -> Result<()> {
        if b.leaf_weight.is_some_and(|w| w != 0)
            || b.weight_device.iter().any(|d| d.leaf_weight.is_some())
        {
            self.no_counterpart("blockIO.leafWeight", "leaf_weight")?;
        }
        if b.weight.is_some_and(|w| w != 0) || !b.weight_device.is_empty() {
            self.io_weight(b)?;
        }
        self.throttle("rbps", &b.throttle_read_bps_device)?;
        self.throttle("wbps", &b.throttle_write_bps_device)?;
        self.throttle("riops", &b.throttle_read_iops_device)?;
        self.throttle("wiops", &b.throttle_write_iops_device)
    }

    /// BFQ takes version 1's numbers as they are; io.weight has its own range.
    fn io_weight(&mut self, b: &BlockIo) -> Result<()> {
        let bfq = self.tree.dir.has("io.bfq.weight");
        let file = if bfq { "io.bfq.weight" } else { "io.weight" };
        let scale = |w: u16| {
            if bfq {
                u32::from(w)
            } else {
                convert::io_weight(w)
            }
        };
        if let Some(weight) = b.weight.filter(|&w| w != 0) {
            self.set("blockIO.weight", file, &scale(weight).to_string())?;
        }
        for d in &b.weight_device {
            let device = check::device_number("blockIO.weightDevice", d.major, d.minor)?;
            if let Some(weight) = d.weight {
                let line = format!("{device} {}", scale(weight));
                self.set("blockIO.weightDevice", file, &line)?;
            }
        }
        Ok(())
    }

    fn throttle(&mut self, key: &str, devices: &[ThrottleDevice]) -> Result<()> {
        for d in devices {
            let device = check::device_number("blockIO.throttle", d.major, d.minor)?;
            // Version 1 takes a limit away with 0.
            let rate = match d.rate {
                0 => "max".to_owned(),
                rate => rate.to_string(),
            };
            self.set(
                "blockIO.throttle",
                "io.max",
                &format!("{device} {key}={rate}"),
            )?;
        }
        Ok(())
    }

    fn hugetlb(&mut self, limits: &[HugepageLimit]) -> Result<()> {
        for l in limits {
            let size = check::page_size(&l.page_size)?;
            let value = l.limit.to_string();
            self.set("hugepageLimits", &format!("hugetlb.{size}.max"), &value)?;
            // Reservations are counted since Linux 5.7.
            self.set_if_there(
                "hugepageLimits",
                &format!("hugetlb.{size}.rsvd.max"),
                &value,
            )?;
        }
        Ok(())
    }

    /// Files by name. Each line is a write of its own: the kernel takes one device a write.
    fn unified(&mut self, files: &BTreeMap<String, String>) -> Result<()> {
        for (file, value) in files {
            let limit = format!("unified {file:?}");
            if !file.contains('.') || file.contains('/') {
                let reason = "not of the form CONTROLLER.PARAMETER";
                return Err(Error::value(limit, format!("{value:?}"), reason));
            }
            for line in value.lines() {
                self.set(&limit, file, line)?;
            }
        }
        Ok(())
    }
}
