//! What is to be reached, and what was.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::measure::Figures;

/// What a figure must be.
#[derive(Clone, Copy)]
enum Target {
    /// At most this part of containerd's.
    Part(f64),
    /// At least so many times containerd's.
    Times(f64),
    /// At most this.
    Most(f64),
    /// Nothing: for information.
    None,
}

const TARGETS: [(&str, Target); 17] = [
    ("RunPodSandbox ms", Target::Part(0.125)),
    ("Create+Start ms", Target::Part(0.125)),
    ("ExecSync true ms", Target::Part(0.125)),
    ("Stop+Remove container ms", Target::Part(0.125)),
    ("Stop+Remove pod ms", Target::Part(0.125)),
    ("pods up /s", Target::Times(10.0)),
    ("pods down /s", Target::None),
    ("exec probes /s (of 100)", Target::None),
    ("cpu of 100 probes ms", Target::Part(0.25)),
    ("daemon RSS MB, 100 containers", Target::Most(40.0)),
    ("a lone pod's keeper PSS MB", Target::Most(0.6)),
    ("keeper PSS MB of 100 pods, each", Target::Most(0.6)),
    ("a further container PSS MB", Target::Most(0.2)),
    ("ListContainers ms", Target::Most(5.0)),
    ("ListPodSandbox ms", Target::Most(5.0)),
    ("ListContainerStats ms", Target::None),
    ("ListPodSandboxStats ms", Target::None),
];

/// The table, and how many targets were missed.
pub fn table(hulld: &Figures, containerd: &Figures) -> (String, usize) {
    let mut text = format!(
        "{:<34}{:>10}{:>12}{:>8}  target\n",
        "median", "hulld", "containerd", "ratio"
    );
    let mut missed = 0;
    for (name, target) in TARGETS {
        let ours = hulld.get(name).and_then(|s| s.median());
        let theirs = containerd.get(name).and_then(|s| s.median());
        if ours.is_none() && theirs.is_none() {
            continue;
        }
        let ratio = ours.zip(theirs).map(|(o, t)| o / t);
        let (wanted, reached) = match target {
            Target::Part(part) => (format!("<= {part} x"), ratio.map(|r| r <= part)),
            Target::Times(times) => (format!(">= {times} x"), ratio.map(|r| r >= times)),
            Target::Most(most) => (format!("<= {most}"), ours.map(|o| o <= most)),
            Target::None => (String::new(), None),
        };
        missed += usize::from(reached == Some(false));
        let verdict = reached.map_or("", |r| if r { "reached" } else { "MISSED" });
        let cell = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |v| format!("{v:.2}"));
        let ratio = ratio.map_or(String::new(), |r| format!("{r:.3}"));
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{name:<34}{:>10}{:>12}{ratio:>8}  {wanted:<12}{verdict}",
            cell(ours),
            cell(theirs)
        );
    }
    (text, missed)
}

/// All of it for programs.
pub fn json(hulld: &Figures, containerd: &Figures) -> Value {
    let all = |figures: &Figures| -> Value {
        figures
            .iter()
            .map(|(name, samples)| ((*name).to_owned(), samples.to_json()))
            .collect()
    };
    json!({"hulld": all(hulld), "containerd": all(containerd)})
}
