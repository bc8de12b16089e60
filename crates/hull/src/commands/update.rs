//! `hull update`.

use clap::Command;

use crate::options::{command, id, path, text};

/// The definition.
#[must_use]
pub fn define() -> Command {
    command("update", "Change the limits of a container")
        .arg(
            path(
                "resources",
                "FILE",
                "Read linux.resources from this file, - for standard input",
            )
            .short('r'),
        )
        .arg(text("blkio-weight", "N", "Block I/O weight, 10 to 1000"))
        .arg(text("cpu-period", "MICROSECONDS", "CFS period"))
        .arg(text("cpu-quota", "MICROSECONDS", "CFS quota"))
        .arg(text("cpu-burst", "MICROSECONDS", "CFS burst"))
        .arg(text("cpu-share", "N", "CPU shares"))
        .arg(text("cpu-rt-period", "MICROSECONDS", "Real-time period"))
        .arg(text("cpu-rt-runtime", "MICROSECONDS", "Real-time runtime"))
        .arg(text("cpuset-cpus", "LIST", "CPUs to use"))
        .arg(text("cpuset-mems", "LIST", "Memory nodes to use"))
        .arg(text("cpu-idle", "N", "SCHED_IDLE for the cgroup: 0 or 1"))
        .arg(text("memory", "BYTES", "Memory limit"))
        .arg(text("memory-reservation", "BYTES", "Memory reservation"))
        .arg(text(
            "memory-swap",
            "BYTES",
            "Limit of memory and swap together, -1 for none",
        ))
        .arg(text("kernel-memory", "BYTES", "Obsolete and without effect").hide(true))
        .arg(text("kernel-memory-tcp", "BYTES", "Obsolete and without effect").hide(true))
        .arg(text("pids-limit", "N", "Number of tasks, -1 for no limit"))
        .arg(text(
            "l3-cache-schema",
            "SCHEMA",
            "L3 cache schema of resctrl",
        ))
        .arg(text(
            "mem-bw-schema",
            "SCHEMA",
            "Memory bandwidth schema of resctrl",
        ))
        .arg(id())
}
