//! What a client and a supervisor say to each other, and what a supervisor writes down.
//!
//! Each packet is one JSON document; descriptors come along (SCM_RIGHTS, unix(7)) in the order
//! that the document's `parts` say.
//!
//! Daemon and supervisor may be of different versions: fields that one does not know are passed
//! over, fields that one lacks are as by default.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// From a client.
#[derive(Debug, Deserialize, Serialize)]
pub struct Call {
    /// Comes back with every reply.
    pub number: u64,
    /// What is wanted.
    pub request: Request,
}

/// From a supervisor.
#[derive(Debug, Deserialize, Serialize)]
pub enum Answer {
    /// To the call of this number. [`Request::Exec`] gets two, every other call one.
    Reply(u64, Reply),
    /// To those who asked for [`Request::Events`].
    Event(Event),
}

/// What a client can ask for.
#[derive(Debug, Deserialize, Serialize)]
pub enum Request {
    /// Make a container, and start it at once if so asked. [`Reply::Created`].
    Create(Box<Create>),
    /// Start a created one. [`Reply::Done`] once its program has been executed.
    Start(String),
    /// Send a signal to its first process, or to all of them. [`Reply::Done`].
    Signal(Signal),
    /// Send a signal, and kill all its processes if they live on after the grace. Answered with
    /// [`Reply::Done`] when its first process has ended and its output has been written. A
    /// second call with less grace shortens that of the first.
    Stop(Stop),
    /// Unmake a container that has ended, or kill it first. An unknown one is no error.
    /// [`Reply::Done`].
    Delete(Delete),
    /// Run a command in a container. [`Reply::Started`], and [`Reply::Ended`] in the end.
    Exec(Box<Exec>),
    /// Run a command and collect its output. [`Reply::Output`].
    ExecSync(Box<ExecSync>),
    /// Signal a command by the number that [`Reply::Started`] gave. [`Reply::Done`].
    SignalExec(u64, i32),
    /// Follow a container's output, write to its input. [`Reply::Attached`].
    Attach(Attach),
    /// Set the size of a container's terminal: id, rows, columns. [`Reply::Done`].
    Resize(String, u16, u16),
    /// Open the log again by its path, after it was renamed. [`Reply::Done`].
    ReopenLog(String),
    /// All containers as they are now. [`Reply::List`].
    List,
    /// The descriptors of a container that another supervisor would need. [`Reply::Descriptors`].
    Keep(String),
    /// To a supervisor that was started to go on with what another has left: take over a
    /// container by the descriptors that [`Reply::Created`] gave. [`Reply::Done`].
    Adopt(Adopt),
    /// Those that happened after the one of this number and were not acknowledged, and all to
    /// come. [`Reply::Done`], then [`Answer::Event`]s.
    Events(u64),
    /// Forget events up to this number. [`Reply::Done`].
    Acknowledge(u64),
    /// End; refused while a container exists. [`Reply::Done`].
    Quit,
}

/// What a supervisor answers.
#[derive(Debug, Deserialize, Serialize)]
pub enum Reply {
    /// It is done.
    Done,
    /// It could not be done.
    Failed(Failure),
    /// The container exists. The descriptors are for the client to keep: see [`Request::Adopt`].
    Created(Process),
    /// A command runs. With a terminal, its master comes along.
    Started(Process),
    /// A command has ended.
    Ended(Ended),
    /// A command has ended, and this is its output.
    Output(Output),
    /// The ends of pipes, or the master of the terminal as [`Part::Stdin`].
    Attached(Vec<Part>),
    /// All containers.
    List(Vec<Status>),
    /// As asked for.
    Descriptors(Vec<Part>),
}

/// What a descriptor is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Part {
    /// Of the first process.
    Pidfd,
    /// What writes to standard input.
    Stdin,
    /// What reads standard output.
    Stdout,
    /// What reads standard error.
    Stderr,
    /// The master of a pseudo-terminal.
    Terminal,
}

/// How a container's program is connected.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum Stdio {
    /// To /dev/null.
    #[default]
    Null,
    /// By pipes.
    Pipes,
    /// By a pseudo-terminal, as `process.terminal` in its configuration says too.
    Terminal,
}

/// What becomes of standard input.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum Stdin {
    /// It is at its end from the beginning.
    #[default]
    Closed,
    /// It stays open when a client detaches.
    Open,
    /// It ends with the first client that attaches to it.
    Once,
}

/// An OCI runtime to be used in place of the one built in.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct External {
    /// The program.
    pub path: PathBuf,
    /// Its `--root`; its own default where absent.
    pub root: Option<PathBuf>,
}

/// Where a container's output is written.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct LogOptions {
    /// The file, made where missing.
    pub path: PathBuf,
    /// Rename it when it would grow beyond so many bytes.
    pub max_bytes: Option<u64>,
    /// Keep so many renamed ones; at least 1.
    pub max_files: Option<u32>,
    /// Drop what comes faster than so many bytes a second.
    pub rate: Option<u64>,
}

/// A container to be made.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Create {
    /// Its id.
    pub id: String,
    /// Directory with `config.json`.
    pub bundle: PathBuf,
    /// In place of the runtime built in.
    pub runtime: Option<External>,
    /// Have systemd manage its control groups.
    pub systemd_cgroup: bool,
    /// How it is connected.
    pub stdio: Stdio,
    /// What becomes of its standard input.
    pub stdin: Stdin,
    /// Where its output goes, beside those who attach.
    pub log: Option<LogOptions>,
    /// Start it at once, as a sandbox is.
    pub start: bool,
}

/// A signal to be sent.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Signal {
    /// To the container of this id.
    pub id: String,
    /// Its number.
    pub signal: i32,
    /// To all processes.
    pub all: bool,
    /// Who wants it, for the exit record.
    pub by: String,
}

/// A container to be stopped.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Stop {
    /// The container.
    pub id: String,
    /// What to send first; 9 kills at once.
    pub signal: i32,
    /// How long to wait after that.
    pub grace_millis: u64,
    /// Who wants it, for the exit record.
    pub by: String,
}

/// A container to be unmade.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Delete {
    /// The container.
    pub id: String,
    /// Kill it if it runs.
    pub force: bool,
}

/// A command to be run in a container.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Exec {
    /// In the container of this id.
    pub id: String,
    /// The command and its arguments.
    pub args: Vec<String>,
    /// A whole process document (OCI `process`) in its place; `args` is ignored then.
    pub document: Option<String>,
    /// With a terminal of its own, whose master comes back.
    pub terminal: bool,
    /// Rows and columns of that terminal.
    pub size: Option<(u16, u16)>,
    /// What the descriptors that come along are to be, among [`Part::Stdin`], [`Part::Stdout`]
    /// and [`Part::Stderr`]: the command gets them as they are. The others are /dev/null.
    pub parts: Vec<Part>,
}

/// A command whose output is collected.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct ExecSync {
    /// In the container of this id.
    pub id: String,
    /// The command and its arguments.
    pub args: Vec<String>,
    /// Kill it, with all it has started, after so long; 0 is never.
    pub timeout_millis: u64,
    /// Keep so many bytes of each output, 16 MiB where absent; the rest is read and dropped.
    pub max_output: Option<u64>,
}

/// A wish to follow a container.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Attach {
    /// The container.
    pub id: String,
    /// Also write to its input.
    pub stdin: bool,
    /// Follow its output.
    pub stdout: bool,
    /// Follow its error output, where it has one of its own.
    pub stderr: bool,
}

/// A container that another supervisor has left.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Adopt {
    /// The container.
    pub id: String,
    /// What comes along.
    pub parts: Vec<Part>,
}

/// A process of a container.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Process {
    /// In our pid namespace.
    pub pid: i32,
    /// For [`Request::SignalExec`].
    pub exec: u64,
    /// What comes along.
    pub parts: Vec<Part>,
    /// What its runtime warned of.
    pub warnings: Vec<String>,
}

/// How a process ended.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Ended {
    /// Its exit code, or 128 and the number of the signal that ended it; `None` where that cannot
    /// be known.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Why the code is not known, or what else is to be said.
    pub note: Option<String>,
}

/// The output of a command.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Output {
    /// How it ended.
    pub ended: Ended,
    /// It was killed at its deadline.
    pub timed_out: bool,
    /// There was more output than is kept.
    pub truncated: bool,
    /// Files in memory with what there was; none for an output that stayed empty.
    pub parts: Vec<Part>,
}

/// What the kernel's OOM killer had to do with an end.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum Oom {
    /// Nothing.
    #[default]
    None,
    /// It killed other processes of the container.
    Others,
    /// It ended the container.
    Container,
}

/// How a container ended.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Exit {
    /// Code and signal.
    pub ended: Ended,
    /// Whether for lack of memory.
    pub oom: Oom,
    /// `Completed`, `Error`, `OOMKilled`, `StartError`, or `Unknown`.
    pub reason: String,
    /// When it was started, RFC 3339; empty if never.
    pub started: String,
    /// When it ended, RFC 3339.
    pub finished: String,
    /// Who killed it through us, and how.
    pub killed_by: Option<String>,
}

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum Phase {
    /// Being made.
    #[default]
    Creating,
    /// Made; its program has not been started.
    Created,
    /// Its program runs.
    Running,
    /// It has ended.
    Exited,
}

/// A container as it is now. The same is written down beside the socket, as `<id>.json`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Status {
    /// As it was asked for.
    pub create: Create,
    /// Where it is in its life.
    pub phase: Phase,
    /// Its first process; 0 before there is one.
    pub pid: i32,
    /// When it was made, RFC 3339.
    pub created: String,
    /// When it was started, RFC 3339.
    pub started: String,
    /// How it ended.
    pub exit: Option<Exit>,
    /// Clients that are attached now.
    pub attached: u32,
    /// Bytes of output that could not be written to the log.
    pub lost: u64,
    /// Processes of it that were killed for lack of memory.
    pub oom_kills: u64,
}

/// What has happened.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Event {
    /// One more than that of the event before.
    pub number: u64,
    /// When, RFC 3339.
    pub time: String,
    /// The container.
    pub id: String,
    /// What.
    pub what: What,
}

/// What has happened to a container.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub enum What {
    /// It was made, with this first process.
    Created(i32),
    /// Its program was started.
    Started,
    /// Processes of it were killed for lack of memory, so many until now.
    Oom(u64),
    /// It has ended, and its output has been written.
    Exited(Exit),
    /// It is no more.
    Deleted,
    /// Its log cannot be written to, for this reason.
    LogTrouble(String),
}

/// Sorts of failures.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Kind {
    /// The kernel, or something outside of us, refused.
    Failed,
    /// The request is at fault.
    Invalid,
    /// No such container.
    NotFound,
    /// There is such a container already.
    Exists,
    /// The container is in the wrong state.
    WrongState,
    /// The program to run is missing or not executable; the message says why.
    Program,
}

/// Why something could not be done.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Failure {
    /// What sort.
    pub kind: Kind,
    /// One line.
    pub message: String,
}
