//! The supervisor itself.

mod adopt;
mod connection;
mod container;
mod deaf;
mod ending;
mod exec;
mod external;
mod jobs;
mod journal;
mod log;
mod output;
mod poller;
mod requests;
mod start;
mod stuck;
mod words;
mod worker;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::pipe::{PipeFlags, pipe_with};
use sys::Context as _;
use sys::signal::SignalSet;

use crate::Result;
use connection::Connection;
use container::Container;
use exec::Command;
use journal::Journal;
use poller::{Poller, Source};
use start::Start;
use worker::Worker;

const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;
const SIGCHLD: i32 = 17;

/// Whoever has had nothing to do for so long rests.
const IDLE: Duration = Duration::from_secs(1);

/// How a supervisor is to be.
#[derive(Clone, Debug)]
pub struct Options {
    /// State root of the containers.
    pub root: PathBuf,
    /// Directory of the pod.
    pub dir: PathBuf,
    /// Go on with what another supervisor has left there.
    pub resume: bool,
}

/// A supervisor that runs.
#[derive(Debug)]
pub struct Supervisor {
    options: Options,
    listener: OwnedFd,
    signals: OwnedFd,
    poller: Poller,
    connections: BTreeMap<u64, Connection>,
    workers: BTreeMap<u64, Worker>,
    /// By the container's key.
    starts: BTreeMap<u64, Start>,
    containers: BTreeMap<u64, Container>,
    commands: BTreeMap<u64, Command>,
    journal: Journal,
    /// When those who want to know are told what is new.
    tell_at: Option<Instant>,
    /// /dev/null.
    null: OwnedFd,
    /// What oom_score_adj was for whoever started us, if it is another now.
    oom_score: Option<String>,
    /// A pipe into which output is looked at before it is taken.
    side: (OwnedFd, OwnedFd),
    /// The last key given out.
    last: u64,
    quit: bool,
}

impl Supervisor {
    /// Becomes the supervisor: leader of a session, subreaper, hard to kill by the OOM killer.
    /// Standard input must be the listening socket that [`crate::Launch`] makes.
    ///
    /// # Errors
    /// The step that failed.
    pub fn start(options: Options) -> Result<Self> {
        let dup = |fd| rustix::io::fcntl_dupfd_cloexec(fd, 3).context("fcntl", || "F_DUPFD");
        let listener = dup(rustix::stdio::stdin())?;
        rustix::net::sockopt::socket_acceptconn(&listener)
            .ok()
            .filter(|listens| *listens)
            .ok_or_else(|| {
                let text = "standard input is not a listening socket; hulld starts this command";
                crate::Error::Invalid(text.to_owned())
            })?;
        let null = openat(
            CWD,
            "/dev/null",
            OFlags::RDWR | OFlags::CLOEXEC,
            Mode::empty(),
        );
        let null = null.context("open", || "/dev/null")?;
        rustix::stdio::dup2_stdin(&null).context("dup2", || "/dev/null, 0")?;
        // Whoever leads a group already leads a session, or will do without one.
        let _ = rustix::process::setsid();
        let own = Some(rustix::process::getpid());
        rustix::process::set_child_subreaper(own)
            .context("prctl", || "PR_SET_CHILD_SUBREAPER, 1")?;
        let oom_score = protect_from_oom();
        let set = SignalSet::empty().with(SIGCHLD).with(SIGTERM).with(SIGINT);
        sys::signal::set_mask(&set)?;
        let signals = sys::signal::signalfd(&set)?;
        let side = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK);
        let mut poller = Poller::new()?;
        poller.add(&listener, Source::Listener, false)?;
        poller.add(&signals, Source::Signals, false)?;
        let journal = options.dir.join("journal");
        if !options.resume {
            // Of a pod that had the same name.
            let _ = std::fs::remove_file(&journal);
        }
        Ok(Self {
            journal: Journal::open(journal),
            tell_at: None,
            options,
            listener,
            signals,
            poller,
            connections: BTreeMap::new(),
            workers: BTreeMap::new(),
            starts: BTreeMap::new(),
            containers: BTreeMap::new(),
            commands: BTreeMap::new(),
            null,
            oom_score,
            side: side.context("pipe2", || "")?,
            last: 0,
            quit: false,
        })
    }

    /// Serves until it is told to quit.
    ///
    /// # Errors
    /// epoll_wait(2)'s.
    pub fn run(mut self) -> Result<()> {
        let mut idle = false;
        while !self.quit {
            let limit = self.next_deadline();
            let limit = limit.map(|at| at.saturating_duration_since(Instant::now()));
            let rest = idle && limit.is_none();
            let limit = limit.or_else(|| (!rest).then_some(IDLE));
            let sources = self.poller.wait(limit, rest)?;
            idle = sources.is_empty();
            for source in sources {
                // One may have gone on behalf of another of the same batch.
                if self.poller.has(source) {
                    self.serve(source);
                }
            }
            self.on_deadlines();
        }
        // A new supervisor may have made its own by now, but not under a pod that has gone.
        let _ = std::fs::remove_file(self.options.dir.join(crate::SOCKET));
        Ok(())
    }

    fn serve(&mut self, source: Source) {
        match source {
            Source::Listener => self.accept(),
            Source::Signals => self.on_signals(),
            Source::Connection(key) => self.on_packet(key),
            Source::Worker(key) => self.on_worker(key),
            Source::Word(key) => self.on_word(key),
            Source::Start(key) => self.on_start(key),
            Source::Container(key) => self.on_container_end(key),
            Source::Output(key, stream) => self.on_output(key, stream),
            Source::Oom(key) => self.on_oom(key),
            Source::Follower(key, follower) => self.drop_follower(key, follower),
            Source::Exec(key) => self.on_command_end(key),
            Source::Captured(key, stream) => self.on_captured(key, stream),
        }
    }

    fn on_signals(&mut self) {
        while let Ok(Some(signal)) = sys::signal::read_signal(&self.signals) {
            if signal == SIGCHLD {
                self.reap();
            } else if self.containers.is_empty() {
                self.quit = true;
            }
        }
    }

    /// Waits for children that have ended: those that are known by their own ways, orphans here.
    fn reap(&mut self) {
        while let Ok(Some(pid)) = sys::process::peek_ended_child() {
            let raw = pid.as_raw_nonzero().get();
            // Whose child it is may only be known from a worker that has just ended.
            let workers: Vec<u64> = self.workers.keys().copied().collect();
            workers.into_iter().for_each(|key| self.on_worker(key));
            let container = self.containers.iter().find(|(_, c)| c.is_process(raw));
            let command = self.commands.iter().find(|(_, c)| c.pid == raw);
            if let Some((&key, _)) = container {
                self.on_container_end(key);
            } else if let Some((&key, _)) = command {
                self.on_command_end(key);
            }
            // Whoever is left is an orphan; all others were waited for above.
            let none = rustix::process::WaitOptions::NOHANG;
            let _ = rustix::process::waitpid(Some(pid), none);
        }
    }

    fn next_key(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn next_deadline(&self) -> Option<Instant> {
        let containers = self.containers.values().filter_map(Container::deadline);
        let commands = self.commands.values().filter_map(Command::deadline);
        containers.chain(commands).chain(self.tell_at).min()
    }

    fn on_deadlines(&mut self) {
        let now = Instant::now();
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if due(self.tell_at) {
            self.tell();
        }
        let containers: Vec<u64> = self
            .containers
            .iter()
            .filter(|(_, c)| due(c.deadline()))
            .map(|(key, _)| *key)
            .collect();
        let commands: Vec<u64> = self
            .commands
            .iter()
            .filter(|(_, c)| due(c.deadline()))
            .map(|(key, _)| *key)
            .collect();
        containers.into_iter().for_each(|key| self.on_time(key));
        commands
            .into_iter()
            .for_each(|key| self.on_command_time(key));
    }

    fn by_id(&self, id: &str) -> Result<u64> {
        let found = self.containers.iter().find(|(_, c)| c.id() == id);
        found.map(|(key, _)| *key).ok_or_else(|| not_found(id))
    }
}

/// Makes the OOM killer look elsewhere; what it was before, which is what containers inherit.
/// Without CAP_SYS_RESOURCE it stays as it is.
fn protect_from_oom() -> Option<String> {
    let path = "/proc/self/oom_score_adj";
    let before = std::fs::read_to_string(path).ok()?;
    let set = std::fs::write(path, "-999");
    set.ok().map(|()| before)
}

fn not_found(id: &str) -> crate::Error {
    let text = format!("container {id:?} does not exist");
    crate::Error::of_kind(crate::protocol::Kind::NotFound, text)
}

/// Says something that nobody asked for.
fn complain(text: &str) {
    // Whoever started us may have closed it.
    let _ = writeln!(std::io::stderr(), "hull supervise: {text}");
}

/// Replaces a file: whoever reads it sees the old one or the new one.
fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let new = path.with_extension("new");
    let args = || new.display().to_string();
    std::fs::write(&new, bytes).context("write", args)?;
    Ok(std::fs::rename(&new, path).context("rename", args)?)
}

/// A second descriptor of the same thing.
fn duplicate(fd: &OwnedFd) -> Result<OwnedFd> {
    let copy = rustix::io::fcntl_dupfd_cloexec(fd.as_fd(), 3);
    Ok(copy.context("fcntl", || "F_DUPFD_CLOEXEC")?)
}

/// So long from now.
fn after(time: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(time).unwrap_or(now)
}
