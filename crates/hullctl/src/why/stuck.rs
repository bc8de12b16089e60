//! Why a container that is there does not go on.

use std::time::Duration;

use super::story::Story;
use super::{Evidence, Verdict};
use crate::proc;
use crate::proc::waits::{self, Wait};

/// Whoever waits longer than this for a disk is stuck; each page that is read is a short wait.
const LASTING: Duration = Duration::from_millis(200);

/// The sentence about a container that has not ended.
pub fn judge(story: &Story) -> Verdict {
    let (kind, sentence, evidence) = match story.status.as_str() {
        "creating" => creating(story),
        "created" => (
            "created",
            "waits for `hull start`: created, and nobody has started it".to_owned(),
            vec![Evidence::new(
                "state.json",
                format!("created at {}", story.record.created),
            )],
        ),
        "paused" => (
            "paused",
            "paused: its control group is frozen until `hull resume`".to_owned(),
            Vec::new(),
        ),
        _ => running(story),
    };
    Verdict {
        kind,
        sentence,
        evidence,
    }
}

type Parts = (&'static str, String, Vec<Evidence>);

fn creating(story: &Story) -> Parts {
    let creator = story.record.creator.map_or(0, |c| c.pid);
    let waits = waits::of_process(creator);
    let at = waits.first().map_or_else(
        || "which is at work".to_owned(),
        |w| format!("which waits: {}", w.sentence()),
    );
    let sentence = format!(
        "still being created, since {}, by process {creator}, {at}",
        story.record.created
    );
    ("creating", sentence, evidence_of(&waits))
}

/// All tasks, and of them those that do not get out of the kernel: in state D, and still so after
/// [`LASTING`].
fn look(story: &Story) -> (Vec<Wait>, Vec<Wait>) {
    let look = || story.pids.iter().flat_map(|pid| waits::of_process(*pid));
    let before: Vec<Wait> = look().collect();
    let is_deep = |w: &&Wait| w.state == 'D';
    if !before.iter().any(|w| is_deep(&w)) {
        return (before, Vec::new());
    }
    std::thread::sleep(LASTING);
    let now: Vec<Wait> = look().collect();
    let lasting = now.iter().filter(is_deep).filter(|w| {
        let mut earlier = before.iter().filter(is_deep);
        earlier.any(|e| (e.pid, e.tid, &e.call) == (w.pid, w.tid, &w.call))
    });
    let lasting = lasting.cloned().collect();
    (now, lasting)
}

fn running(story: &Story) -> Parts {
    let (all, stuck) = look(story);
    if let Some(first) = stuck.first() {
        let more = match stuck.len() {
            1 => String::new(),
            n => format!(" (and {} tasks more)", n - 1),
        };
        let sentence = format!("stuck in the kernel: {}{more}", first.sentence());
        return ("stuck", sentence, evidence_of(&stuck));
    }
    if let Some(stopped) = all.iter().find(|w| matches!(w.state, 'T' | 't')) {
        let how = if stopped.state == 't' {
            "held by a debugger"
        } else {
            "stopped by a signal; SIGCONT lets it go on"
        };
        let sentence = format!("process {} ({}) is {how}", stopped.name, stopped.pid);
        return (
            "stopped",
            sentence,
            evidence_of(std::slice::from_ref(stopped)),
        );
    }
    let busy = story
        .pids
        .iter()
        .filter_map(|p| proc::stat::read(*p, None))
        .any(|s| s.state == 'R');
    let first = all.first();
    let sentence = match (busy, first) {
        (true, _) => "runs: it uses the processor right now".to_owned(),
        (false, Some(w)) => format!("runs, and waits for something to do: {}", w.sentence()),
        (false, None) => "runs".to_owned(),
    };
    (
        "running",
        sentence,
        evidence_of(all.get(..1).unwrap_or_default()),
    )
}

fn evidence_of(waits: &[Wait]) -> Vec<Evidence> {
    waits
        .iter()
        .take(8)
        .flat_map(Wait::evidence)
        .map(|(s, t)| Evidence::new(s, t))
        .collect()
}
