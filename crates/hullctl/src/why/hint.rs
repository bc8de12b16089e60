//! One line for whoever ran a container that was killed.

use std::path::Path;

use super::death;
use super::story::Story;
use crate::proc::containers;

/// Signals of which a person needs no explanation: Ctrl-C, and a reader that has seen enough.
const PLAIN: [i32; 2] = [2, 13];

/// What killed a container that has just ended with this exit code, and where to ask for more;
/// none for one that ended by itself.
pub fn hint(root: &Path, id: &str, code: i32) -> Option<String> {
    let signal = code - 128;
    if code == 0 || PLAIN.contains(&signal) {
        return None;
    }
    let story = Story::find(root, id).ok()??;
    if !(1..=64).contains(&signal) && story.oom_kills() == 0 {
        return None;
    }
    let sentence = death::judge(&story).sentence;
    let place = match containers::state_root(None) == root {
        true => String::new(),
        false => format!(" --root {}", root.display()),
    };
    Some(format!("{id}: {sentence}; more: `hullctl why{place} {id}`"))
}
