//! Whether checkpoint and restore can work on this kernel at all.

use std::process::Command;

/// Why criu cannot work here, in its own words; `None` where `criu check` is content.
pub fn criu_refusal() -> Option<String> {
    let out = match Command::new("criu").arg("check").output() {
        Ok(out) if out.status.success() => return None,
        Ok(out) => out,
        Err(e) => return Some(format!("criu: {e}")),
    };
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    let reason = text.lines().find(|l| l.contains("Error"));
    Some(reason.map_or_else(|| format!("criu check: {}", out.status), str::to_owned))
}
