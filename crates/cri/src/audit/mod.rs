//! The audit log: who asked for what, what became of it, and how long it took.
//!
//! One JSON document a line, in the order in which the calls ended; only calls that change
//! something. A thread of its own writes, so that no call waits for a disk: what cannot be kept
//! meanwhile is counted, and the count is written.

mod caller;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Instant;

pub(crate) use runtime::audit::Object;
use runtime::audit::{Caller, Journal, Line, Rotated, cut};
use tonic::{Code, Extensions, Status};

pub use caller::Peer;

/// How many lines wait for the disk before others are only counted.
const WAITING: usize = 4096;

/// Where the log goes.
#[derive(Clone, Debug)]
pub struct Options {
    /// The file; the renamed ones stand beside it, as `FILE.1`, the newest, and so on.
    pub file: PathBuf,
    /// Rename it when it would grow beyond so many bytes; 0: never.
    pub max_bytes: u64,
    /// Keep so many renamed ones.
    pub max_files: u32,
    /// The journal's socket; none: not told.
    pub journal: Option<PathBuf>,
}

/// The log.
#[derive(Debug, Default)]
pub struct Audit {
    /// None where it is switched off.
    lines: Option<SyncSender<String>>,
    lost: Arc<AtomicU64>,
}

impl Audit {
    /// Opens the log.
    ///
    /// # Errors
    /// The file cannot be opened, or no thread can be started.
    pub fn open(options: &Options) -> std::io::Result<Self> {
        let file = Rotated {
            path: options.file.clone(),
            max_bytes: options.max_bytes,
            max_files: options.max_files,
        };
        file.make()?;
        let journal = options.journal.clone();
        let journal = journal.and_then(|path| Journal::new(path, "hulld-audit"));
        let (sender, receiver) = sync_channel(WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&lost);
        std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || write(&receiver, &file, journal.as_ref(), &counted))?;
        Ok(Self {
            lines: Some(sender),
            lost,
        })
    }

    /// A call begins.
    pub(crate) fn asked(
        self: &Arc<Self>,
        from: &Extensions,
        call: &'static str,
        object: Object,
    ) -> Asked {
        Asked {
            audit: Arc::clone(self),
            caller: from.get::<Caller>().cloned().unwrap_or_default(),
            call,
            object,
            detail: String::new(),
            since: Instant::now(),
            is_told: false,
        }
    }

    fn tell(&self, line: &Line) {
        let Some(lines) = &self.lines else {
            return;
        };
        if lines.try_send(line.to_json()).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The writer's life.
fn write(lines: &Receiver<String>, file: &Rotated, journal: Option<&Journal>, lost: &AtomicU64) {
    let mut is_broken = false;
    for line in lines {
        let missing = lost.swap(0, Ordering::Relaxed);
        let mut text = line.clone();
        if missing > 0 {
            let time = pods::now_rfc3339();
            text = format!("{{\"time\":\"{time}\",\"lost\":{missing}}}\n{line}");
        }
        if let Some(journal) = journal {
            journal.tell(&line);
        }
        match file.append(&text) {
            Ok(()) => is_broken = false,
            Err(error) => {
                lost.fetch_add(missing + 1, Ordering::Relaxed);
                if !is_broken {
                    tracing::error!(%error, "audit log: calls are counted until it can be written again");
                }
                is_broken = true;
            }
        }
    }
}

/// A call that runs.
#[derive(Debug)]
pub(crate) struct Asked {
    audit: Arc<Audit>,
    caller: Caller,
    call: &'static str,
    object: Object,
    detail: String,
    since: Instant,
    is_told: bool,
}

impl Asked {
    /// What else there is to say of it.
    pub fn with(mut self, detail: impl Into<String>) -> Self {
        self.detail = cut(detail.into());
        self
    }

    /// The call and its caller, for those who ask later why something ended.
    pub fn by(&self) -> String {
        format!("{} by {}", self.call, self.caller)
    }

    /// It has made the object of this id.
    pub fn made(&mut self, id: &str) {
        id.clone_into(&mut self.object.id);
    }

    /// It has this result, which is handed on.
    pub fn done<T>(mut self, result: Result<T, Status>) -> Result<T, Status> {
        match &result {
            Ok(_) => self.tell(Code::Ok, String::new()),
            Err(status) => self.tell(status.code(), status.message().to_owned()),
        }
        result
    }

    fn tell(&mut self, code: Code, reason: String) {
        self.is_told = true;
        let object = std::mem::take(&mut self.object);
        let took = self.since.elapsed();
        let mut line = Line::new(self.call, self.caller.clone(), object, took);
        line.detail = std::mem::take(&mut self.detail);
        line.code = format!("{code:?}");
        line.reason = reason;
        self.audit.tell(&line);
    }
}

impl Drop for Asked {
    /// A caller that hangs up ends the call, not what it has begun.
    fn drop(&mut self) {
        if !self.is_told {
            let reason = "the caller hung up; what was begun goes on";
            self.tell(Code::Cancelled, reason.to_owned());
        }
    }
}
