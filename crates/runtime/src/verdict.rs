//! What is kept of a container that has gone: why it ended is asked afterwards.
//!
//! A container's directory is not removed with it: it goes to `@ended` in the state root, with
//! what the kernel said of its control groups while it still could. The last [`KEPT`] stay,
//! sometimes a few more. Here facts are only collected; `hullctl why` makes sentences of them.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::container::Container;

/// The directory in the state root; no id contains the character.
pub const ENDED: &str = "@ended";
/// How many are kept at least.
pub const KEPT: usize = 64;
/// How many more there may be.
pub const SLACK: usize = 16;
/// In the directory of a container: a line for each thing that was done to it or went wrong.
pub const NOTES: &str = "notes";
/// Nobody wants to read more than these bytes of them.
const NOTES_LIMIT: u64 = 16 << 10;
/// Beside it: the kernel's files of its control groups and of its first process.
pub const FACTS: &str = "facts";

/// Writes down something about a container, with the time. Best effort: what was done is done.
pub fn note(container: &Container, what: &str, detail: &str) {
    let detail = detail.trim_end().replace('\n', " ");
    let line = format!("{} {what} {detail}\n", crate::clock::now_rfc3339());
    // A container is not worse for lacking a line of its story.
    let _ = container.dir.append(NOTES, line.as_bytes(), NOTES_LIMIT);
}

/// How long each stage of something took: what a slow start is judged by. Far coarser than
/// [`sys::trace`], so that it can always be on.
#[derive(Debug)]
pub struct Stages {
    last: Instant,
    text: String,
}

impl Stages {
    /// The first stage of `what` begins.
    #[must_use]
    pub fn begin(what: &str) -> Self {
        Self {
            last: Instant::now(),
            text: what.to_owned(),
        }
    }

    /// The stage of this name has ended, and the next one begins.
    pub fn end(&mut self, name: &str) {
        let now = Instant::now();
        self.add(name, now.duration_since(self.last));
        self.last = now;
    }

    /// A stage that was measured elsewhere.
    pub fn add(&mut self, name: &str, took: Duration) {
        let name = name.replace(' ', "-");
        // Writing to a String cannot fail.
        let _ = write!(self.text, " {name}={}", took.as_micros());
    }

    /// Writes them down.
    pub fn keep(&self, container: &Container) {
        note(container, "stages", &self.text);
    }
}

/// Writes down what the kernel says of the container's groups and first process now.
pub fn facts(container: &Container) {
    let mut text = String::new();
    if let Some(manager) = container.cgroups() {
        manager.limit_files(&mut |file| section(&mut text, file));
    }
    if let Some(init) = container.record.init {
        section(&mut text, Path::new(&format!("/proc/{}/stat", init.pid)));
    }
    let _ = container.dir.write(FACTS, text.as_bytes());
}

/// One file: its path after a mark, and its contents.
fn section(text: &mut String, path: &Path) {
    if let Ok(contents) = sys::file::read_text(path) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "@ {}\n{}", path.display(), contents.trim_end());
    }
}
