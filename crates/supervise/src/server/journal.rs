//! Events until they are acknowledged, in memory and on disk.

use std::io::Write as _;
use std::path::PathBuf;

use sys::Context as _;

use crate::protocol::{Event, What};
use crate::{Result, packet};

/// Most events that wait; older ones go, the statuses on disk say the rest.
const MAX: usize = 4096;

/// The journal.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    /// In ascending order, without gaps. The last one stays when acknowledged: it keeps the count.
    events: Vec<Event>,
    last: u64,
}

impl Journal {
    /// Goes on with what is there.
    pub fn open(path: PathBuf) -> Self {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        // A line that was being written when its writer was killed is none.
        let events: Vec<Event> = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        let last = events.last().map_or(0, |e| e.number);
        Self { path, events, last }
    }

    /// Adds one.
    ///
    /// # Errors
    /// It could not be written down; it is in memory nonetheless.
    pub fn add(&mut self, id: &str, what: What) -> Result<()> {
        self.last += 1;
        let event = Event {
            number: self.last,
            time: runtime::clock::now_rfc3339(),
            id: id.to_owned(),
            what,
        };
        if self.events.len() >= MAX {
            self.events.remove(0);
        }
        let written = self.append(&event);
        self.events.push(event);
        written
    }

    /// The number of the newest.
    pub fn last(&self) -> u64 {
        self.last
    }

    fn append(&self, event: &Event) -> Result<()> {
        let mut line = packet::to_json(event)?;
        line.push(b'\n');
        let args = || self.path.display().to_string();
        let mut options = std::fs::OpenOptions::new();
        let file = options.append(true).create(true).open(&self.path);
        let mut file = file.context("open", args)?;
        Ok(file.write_all(&line).context("write", args)?)
    }

    /// Those after this number.
    pub fn after(&self, number: u64) -> impl Iterator<Item = &Event> {
        self.events.iter().filter(move |e| e.number > number)
    }

    /// Forgets those up to this number.
    ///
    /// # Errors
    /// The file could not be replaced.
    pub fn acknowledge(&mut self, number: u64) -> Result<()> {
        let last = self.last;
        self.events
            .retain(|e| e.number > number || e.number == last);
        let mut text = Vec::new();
        for event in &self.events {
            text.extend(packet::to_json(event)?);
            text.push(b'\n');
        }
        super::replace(&self.path, &text)
    }
}
