//! How long the start took, stage by stage.

use std::fmt::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sys::trace::Step;

use super::story::Story;

/// In the directory of a container.
const STAGES: &str = "stages";

/// A start that takes so long is worth a word.
const SLOW_US: u64 = 1_000_000;

/// One stage.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Stage {
    /// Microseconds.
    pub took_us: u64,
    /// The kernel calls.
    pub call: String,
    /// What for.
    pub detail: String,
}

/// A whole start.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Start {
    /// Microseconds from the first stage to the end of the last.
    pub total_us: u64,
    /// The longest first.
    pub stages: Vec<Stage>,
}

impl Start {
    fn from_steps(steps: &[Step]) -> Self {
        let begin = steps.iter().map(|s| s.start_ns).min().unwrap_or(0);
        let end = steps
            .iter()
            .map(|s| s.start_ns + s.took_ns)
            .max()
            .unwrap_or(0);
        let stage = |s: &Step| Stage {
            took_us: s.took_ns / 1000,
            call: s.call.clone(),
            detail: s.detail.clone(),
        };
        let mut stages: Vec<Stage> = steps.iter().map(stage).collect();
        stages.sort_by_key(|s| std::cmp::Reverse(s.took_us));
        Self {
            total_us: end.saturating_sub(begin) / 1000,
            stages,
        }
    }

    /// What to say of a start that a person would have noticed.
    pub fn slow(&self) -> Option<String> {
        let longest = self.stages.first().filter(|_| self.total_us >= SLOW_US)?;
        Some(format!(
            "its start was slow: {}.{} s, most of it in {} ({})",
            self.total_us / 1_000_000,
            self.total_us % 1_000_000 / 100_000,
            longest.call,
            longest.detail
        ))
    }

    /// One sentence: the whole, and what took longest.
    pub fn sentence(&self) -> String {
        let mut text = format!("{} µs in {} stages", self.total_us, self.stages.len());
        for (at, s) in self.stages.iter().take(3).enumerate() {
            let lead = if at == 0 { "; the longest:" } else { "," };
            // Writing to a String cannot fail.
            let _ = write!(text, "{lead} {} µs {} ({})", s.took_us, s.call, s.detail);
        }
        text
    }
}

/// Keeps the stages of a container that this process has run, beside what else is kept of it.
/// Best effort: it ran.
pub fn keep(root: &Path, id: &str, steps: &[Step]) {
    let Ok(Some(story)) = Story::find(root, id) else {
        return;
    };
    if let Ok(json) = serde_json::to_vec(&Start::from_steps(steps)) {
        let _ = std::fs::write(story.dir.join(STAGES), json);
    }
}

/// The start of a container, where it was recorded: each kernel call by `hullctl run`, else what
/// the runtime and the daemon have written down.
pub fn of(story: &Story) -> Option<Start> {
    let bytes = std::fs::read(story.dir.join(STAGES)).ok();
    if let Some(start) = bytes.and_then(|b| serde_json::from_slice(&b).ok()) {
        return Some(start);
    }
    let lines = story.notes.iter().filter(|n| n.what == "stages");
    from_notes(lines.map(|n| n.detail.as_str()))
}

/// `create configuration=310 process=200`, microseconds. A daemon's operations contain what the
/// runtime did meanwhile, so that only they count for the whole where there are any.
fn from_notes<'a>(lines: impl Iterator<Item = &'a str>) -> Option<Start> {
    let (mut own, mut daemons) = (0, 0);
    let mut stages: Vec<Stage> = Vec::new();
    for line in lines {
        let mut words = line.split(' ');
        let what = words.next().unwrap_or_default();
        let is_daemons = !matches!(what, "create" | "start");
        for (name, took) in words.filter_map(|w| w.split_once('=')) {
            let took_us = took.parse().unwrap_or(0);
            *(if is_daemons { &mut daemons } else { &mut own }) += took_us;
            stages.push(Stage {
                took_us,
                call: what.to_owned(),
                detail: name.replace('-', " "),
            });
        }
    }
    stages.sort_by_key(|s| std::cmp::Reverse(s.took_us));
    let total_us = if daemons > 0 { daemons } else { own };
    (!stages.is_empty()).then_some(Start { total_us, stages })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemons_stages_contain_the_runtimes() {
        let lines = ["create a=10 b-c=30", "start program=5"];
        let start = from_notes(lines.into_iter()).unwrap();
        assert_eq!(start.total_us, 45);
        assert_eq!(start.stages[0].detail, "b c");
        let lines = ["CreateContainer image=1500000 runtime=50", lines[0]];
        let start = from_notes(lines.into_iter()).unwrap();
        assert_eq!(start.total_us, 1_500_050);
        assert_eq!(
            start.slow().as_deref(),
            Some("its start was slow: 1.5 s, most of it in CreateContainer (image)")
        );
        assert!(from_notes([].into_iter()).is_none());
    }
}
