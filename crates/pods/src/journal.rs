//! What has happened to pods and containers, numbered without a gap; the numbers go on after a
//! restart.
//!
//! The journal is a file of one JSON document a line. The newest events are in memory, too: a
//! reader that falls behind them is told so, and never misses one silently.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::error::{Doing, Error, Kind, Result};
use crate::operation::lock;

/// How many events are kept.
const KEEP: usize = 8192;
/// Where a file is ended and the next begun.
const FILE_MAX: u64 = 4 << 20;

/// What happened.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// A pod or container was made.
    Created,
    /// It runs.
    Started,
    /// It has ended.
    Stopped,
    /// It is no more.
    Deleted,
}

/// One event.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Event {
    /// One more than the event before.
    pub number: u64,
    /// Nanoseconds since 1970.
    pub time: i64,
    /// What.
    pub what: What,
    /// The pod.
    pub pod: String,
    /// The container; the pod's id for the pod itself.
    pub container: String,
}

/// All of them.
#[derive(Debug)]
pub struct Journal {
    inner: Mutex<Inner>,
    last: watch::Sender<u64>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    file: File,
    size: u64,
    /// The last line may not be whole.
    torn: bool,
    recent: VecDeque<Arc<Event>>,
    last: u64,
}

impl Journal {
    /// Opens the journal in a directory, and reads what the last daemon wrote.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn open(dir: &Path) -> Result<Self> {
        let path = dir.join("events");
        let mut recent = VecDeque::new();
        for file in [dir.join("events.1"), path.clone()] {
            read(&file, &mut recent)?;
        }
        let what = || format!("open({})", path.display());
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&path)
            .doing(what)?;
        let size = file.metadata().doing(what)?.len();
        let last = recent.back().map_or(0, |e: &Arc<Event>| e.number);
        Ok(Self {
            inner: Mutex::new(Inner {
                path,
                file,
                size,
                // Whoever wrote it may have been stopped in the middle.
                torn: size > 0,
                recent,
                last,
            }),
            last: watch::Sender::new(last),
        })
    }

    /// Adds one. A journal that cannot be written to is no reason to fail: readers still get it.
    pub fn add(&self, what: What, pod: &str, container: &str) -> u64 {
        let number = lock(&self.inner).add(what, pod, container);
        self.last.send_replace(number);
        number
    }

    /// The number of the newest event.
    pub fn last(&self) -> u64 {
        *self.last.borrow()
    }

    /// Those after number `after`.
    ///
    /// # Errors
    /// Some of them are not kept any more.
    pub fn after(&self, after: u64) -> Result<Vec<Arc<Event>>> {
        let inner = lock(&self.inner);
        let oldest = inner.recent.front().map_or(inner.last + 1, |e| e.number);
        if after + 1 < oldest && after < inner.last {
            return Err(Error::new(
                Kind::Exhausted,
                format!(
                    "events after {after}: the oldest kept is {oldest}; list again, then go on from {}",
                    inner.last
                ),
            ));
        }
        Ok(inner
            .recent
            .iter()
            .filter(|e| e.number > after)
            .cloned()
            .collect())
    }

    /// Waits for an event after number `after`.
    pub async fn wait(&self, after: u64) {
        let mut last = self.last.subscribe();
        // The sender lives as long as we do.
        let _ = last.wait_for(|&number| number > after).await;
    }
}

impl Inner {
    fn add(&mut self, what: What, pod: &str, container: &str) -> u64 {
        self.last += 1;
        let event = Event {
            number: self.last,
            time: now(),
            what,
            pod: pod.to_owned(),
            container: container.to_owned(),
        };
        if let Err(error) = self.write(&event) {
            tracing::error!(path = %self.path.display(), %error, "event not written down");
        }
        self.recent.push_back(Arc::new(event));
        if self.recent.len() > KEEP {
            self.recent.pop_front();
        }
        self.last
    }

    fn write(&mut self, event: &Event) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        if self.size + line.len() as u64 > FILE_MAX {
            fs::rename(&self.path, self.path.with_extension("1"))?;
            self.file = OpenOptions::new()
                .append(true)
                .create(true)
                .open(&self.path)?;
            self.size = 0;
        }
        if self.torn {
            line.insert(0, b'\n');
        }
        self.torn = true;
        self.file.write_all(&line)?;
        self.torn = false;
        self.size += line.len() as u64;
        Ok(())
    }
}

fn read(path: &Path, recent: &mut VecDeque<Arc<Event>>) -> Result<()> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::failed(format!("open({})", path.display()), e)),
    };
    for line in BufReader::new(file).split(b'\n') {
        let line = line.doing(|| format!("read({})", path.display()))?;
        // A line that was being written when the machine stopped is not an event.
        let Ok(event) = serde_json::from_slice::<Event>(&line) else {
            continue;
        };
        recent.push_back(Arc::new(event));
        if recent.len() > KEEP {
            recent.pop_front();
        }
    }
    Ok(())
}

/// Nanoseconds since 1970.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn numbers_go_on_and_gaps_are_told() {
        let dir = std::env::temp_dir().join(format!("hull-journal.{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let journal = Journal::open(&dir).unwrap();
        assert_eq!(journal.add(What::Created, "p", "p"), 1);
        assert_eq!(journal.add(What::Started, "p", "p"), 2);
        drop(journal);
        // A torn line, as a crash leaves it.
        let mut file = OpenOptions::new()
            .append(true)
            .open(dir.join("events"))
            .unwrap();
        file.write_all(b"{\"number\":3,\n").unwrap();
        let journal = Journal::open(&dir).unwrap();
        assert_eq!(journal.add(What::Stopped, "p", "p"), 3);
        journal.wait(2).await;
        let numbers: Vec<u64> = journal.after(1).unwrap().iter().map(|e| e.number).collect();
        assert_eq!(numbers, [2, 3]);
        for _ in 0..KEEP {
            journal.add(What::Created, "q", "q");
        }
        assert!(
            journal
                .after(0)
                .unwrap_err()
                .to_string()
                .contains("oldest kept is 4")
        );
        assert_eq!(journal.after(3).unwrap().len(), KEEP);
        fs::remove_dir_all(&dir).unwrap();
    }
}
