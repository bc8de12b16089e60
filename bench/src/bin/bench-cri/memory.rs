//! Whose memory it is.

use std::path::Path;

use anyhow::{Context as _, Result};
use rustix::process::Pid;

/// Megabytes that only this process would give back: its proportional share.
fn pss(pid: i32) -> Result<f64> {
    figure(&format!("/proc/{pid}/smaps_rollup"), "Pss:")
}

/// Megabytes of a process that are in memory.
pub fn rss(pid: i32) -> Result<f64> {
    figure(&format!("/proc/{pid}/status"), "VmRSS:")
}

fn figure(path: &str, name: &str) -> Result<f64> {
    let text = std::fs::read_to_string(path).with_context(|| path.to_owned())?;
    let line = text.lines().find_map(|l| l.strip_prefix(name));
    let number = line.and_then(|l| l.split_whitespace().next());
    let number = number.with_context(|| format!("{path}: no {name}"))?;
    Ok(number.parse::<f64>()? / 1024.0)
}

/// Processes whose words contain all of `words`.
pub fn processes(words: &[&str]) -> Vec<i32> {
    let mine = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        words.iter().all(|w| line.contains(w))
    };
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    all.filter_map(|e| e.file_name().to_string_lossy().parse().ok())
        .filter(mine)
        .collect()
}

/// Proportional megabytes of what a runtime keeps beside the containers' own programs: all
/// processes with `word` among theirs, and their children that are a pod's first process.
pub fn keepers(word: &str, dir: &Path, pauses: &[&str]) -> Result<f64> {
    let keepers = processes(&[word, &dir.display().to_string()]);
    let mut sum = 0.0;
    for keeper in keepers {
        sum += pss(keeper)?;
        for child in children(keeper) {
            let line = std::fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if pauses.contains(&line.trim()) {
                sum += pss(child)?;
            }
        }
    }
    Ok(sum)
}

fn children(pid: i32) -> Vec<i32> {
    let Some(pid) = Pid::from_raw(pid) else {
        return Vec::new();
    };
    let pid = pid.as_raw_nonzero();
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace()
        .filter_map(|w| w.parse().ok())
        .collect()
}
