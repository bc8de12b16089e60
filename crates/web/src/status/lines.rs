//! `?auto`: a line for each figure, for scripts.

use std::fmt::Write as _;

use super::Status;

/// The lines.
pub fn lines(s: &Status) -> String {
    let mut text = String::new();
    let count = |phase: &str| s.containers.iter().filter(|c| c.phase == phase).count();
    let ready = s.pods.iter().filter(|p| p.phase == "ready").count();
    let differing = s.network.iter().filter(|n| !n.differs.is_empty()).count();
    let stalled = s.operations.iter().filter(|o| o.stalled).count();
    let pairs: [(&str, String); 22] = [
        ("Version", s.version.to_owned()),
        ("Built", s.built.clone()),
        ("Now", s.now.clone()),
        ("Uptime", s.uptime_seconds.to_string()),
        ("Pid", s.pid.to_string()),
        ("Memory", s.memory.to_string()),
        ("Descriptors", s.descriptors.to_string()),
        ("OperationsServed", s.operations_served.to_string()),
        ("OperationsFailed", s.operations_failed.to_string()),
        ("BytesPulled", s.bytes_pulled.to_string()),
        ("OperationsRunning", s.operations.len().to_string()),
        ("OperationsStalled", stalled.to_string()),
        ("Pods", s.pods.len().to_string()),
        ("PodsReady", ready.to_string()),
        ("Containers", s.containers.len().to_string()),
        ("ContainersRunning", count("running").to_string()),
        ("TasksStuck", s.stuck.len().to_string()),
        ("DiskLayers", s.disk.layers.to_string()),
        ("DiskReclaimable", s.disk.reclaimable.to_string()),
        ("NetworksDiffering", differing.to_string()),
        ("LastEvent", s.last_event.to_string()),
        ("Scoreboard", s.scoreboard.clone()),
    ];
    // Writing to a String cannot fail.
    for (key, value) in pairs {
        let _ = writeln!(text, "{key}: {value}");
    }
    for p in &s.pressure {
        let _ = writeln!(text, "Pressure-{}: {} {}", p.resource, p.some, p.full);
    }
    text
}
