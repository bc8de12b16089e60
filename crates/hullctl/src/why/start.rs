//! How long the start took, stage by stage.

use std::fmt::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sys::trace::Step;

use super::story::Story;

/// In the directory of a container.
const STAGES: &str = "stages";

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

/// The start of a container, where it was recorded.
pub fn of(story: &Story) -> Option<Start> {
    let bytes = std::fs::read(story.dir.join(STAGES)).ok()?;
    serde_json::from_slice(&bytes).ok()
}
