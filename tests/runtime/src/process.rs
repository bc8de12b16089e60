//! Running the program under test: output in files, a time limit on everything.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};
use serde_json::Value;

use crate::program::program;

/// After this long a command hangs, as far as a test is concerned, on a machine of usual speed.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How many times longer everything may take here: `SUITE_SLOWNESS`, for emulated machines.
#[must_use]
pub fn slowness() -> u32 {
    static FOUND: OnceLock<u32> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let given = std::env::var("SUITE_SLOWNESS").ok();
        given.and_then(|n| n.parse().ok()).unwrap_or(1)
    })
}

/// What a command did.
#[derive(Clone, Debug)]
pub struct Output {
    /// The command line, for messages.
    pub what: String,
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output so far; a detached container goes on writing to the same file.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Exit code; 128 + signal where it was killed, as a shell counts.
    #[must_use]
    pub fn code(&self) -> i32 {
        self.status
            .code()
            .unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    /// Fails the test unless the command succeeded.
    ///
    /// # Panics
    /// So.
    pub fn ok(self) -> Self {
        assert!(self.code() == 0, "{self}");
        self
    }

    /// Fails the test unless the command exited with this code.
    ///
    /// # Panics
    /// So.
    pub fn exits(self, code: i32) -> Self {
        assert!(self.code() == code, "not {code}: {self}");
        self
    }

    /// Fails the test unless the command ended by itself, nonzero, with its reason in one line on
    /// standard error; returns that.
    ///
    /// # Panics
    /// So.
    pub fn refused(self) -> String {
        assert!(self.status.signal().is_none(), "died of a signal: {self}");
        assert!(self.code() != 0, "was not refused: {self}");
        let lines = self.stderr.trim_end().lines().count();
        // That it is one line is hull's own promise; the others' helpers add lines of their own.
        let right = lines == 1 || (lines > 1 && program().kind != "hull");
        assert!(right, "not one line on standard error: {self}");
        self.stderr.trim_end().to_owned()
    }

    /// Standard output without the last line's end.
    #[must_use]
    pub fn text(&self) -> &str {
        self.stdout.trim_end()
    }

    /// Standard output as one JSON document.
    ///
    /// # Panics
    /// Where it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("not JSON ({e}): {self}"))
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}: {}\n--- stdout\n{}\n--- stderr\n{}",
            self.what,
            self.status,
            self.stdout.trim_end(),
            self.stderr.trim_end()
        )
    }
}

/// A command to be run.
#[derive(Debug)]
pub struct Cmd {
    command: Command,
    capture: PathBuf,
    patience: Duration,
}

impl Cmd {
    /// Runs `command`, with its output in files in the directory `capture`.
    #[must_use]
    pub fn new(command: Command, capture: &Path) -> Self {
        Self {
            command,
            capture: capture.to_owned(),
            patience: PATIENCE * slowness(),
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: AsRef<std::ffi::OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, key: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    /// Sets some, or none.
    #[must_use]
    pub fn envs(mut self, all: impl IntoIterator<Item = (&'static str, &'static str)>) -> Self {
        self.command.envs(all);
        self
    }

    /// Runs in this directory.
    #[must_use]
    pub fn dir(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Gives up after this long.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience * slowness();
        self
    }

    /// Runs it as the arguments of another command, which executes it.
    #[must_use]
    pub fn under(mut self, outer: &Command) -> Self {
        let mut command = Command::new(outer.get_program());
        command.args(outer.get_args());
        command.arg(self.command.get_program());
        command.args(self.command.get_args());
        for (key, value) in self.command.get_envs() {
            match value {
                Some(value) => command.env(key, value),
                None => command.env_remove(key),
            };
        }
        if let Some(dir) = self.command.get_current_dir() {
            command.current_dir(dir);
        }
        self.command = command;
        self
    }

    /// Gives the program more descriptors: each of these files, open for reading, under that
    /// number. A shell opens them, because only it can place them without touching ours.
    #[must_use]
    pub fn with_fds(self, fds: &[(u32, &Path)]) -> Self {
        let opens: String = fds
            .iter()
            .map(|(n, path)| format!("exec {n}<'{}'; ", path.display()))
            .collect();
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(opens + "exec \"$0\" \"$@\"");
        self.under(&shell)
    }

    /// Runs it to its end.
    #[must_use]
    pub fn run(self) -> Output {
        self.start(Stdio::null()).wait()
    }

    /// Runs it to its end, with this on its standard input.
    #[must_use]
    pub fn run_with_input(self, input: &str) -> Output {
        let file = self.capture.join("stdin");
        std::fs::write(&file, input).expect("write standard input");
        self.start(File::open(file).expect("open standard input").into())
            .wait()
    }

    /// Starts it and goes on.
    #[must_use]
    pub fn spawn(self) -> Running {
        self.start(Stdio::null())
    }

    fn start(mut self, stdin: Stdio) -> Running {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let out = self.capture.join(format!("{n}.out"));
        let err = self.capture.join(format!("{n}.err"));
        let create = |path: &Path| File::create(path).expect("create an output file");
        self.command
            .stdin(stdin)
            .stdout(create(&out))
            .stderr(create(&err));
        let what = describe(&self.command);
        let child = self
            .command
            .spawn()
            .unwrap_or_else(|e| panic!("cannot run {what}: {e}"));
        Running {
            child,
            what,
            out,
            err,
            patience: self.patience,
        }
    }
}

fn describe(command: &Command) -> String {
    let mut words = vec![command.get_program()];
    words.extend(command.get_args());
    let words: Vec<_> = words.iter().map(|w| w.to_string_lossy()).collect();
    words.join(" ")
}

/// A command under way. Killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    what: String,
    out: PathBuf,
    err: PathBuf,
    patience: Duration,
}

impl Running {
    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a pid")
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal);
    }

    /// What it has written to its standard output so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        read(&self.out)
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// Where it does not come in time.
    #[must_use]
    pub fn wait(mut self) -> Output {
        let pid = Pid::from_child(&self.child);
        if let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) {
            let timeout = rustix::time::Timespec {
                tv_sec: i64::try_from(self.patience.as_secs()).expect("a short time"),
                tv_nsec: i64::from(self.patience.subsec_nanos()),
            };
            let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
            if poll(&mut fds, Some(&timeout)) == Ok(0) {
                let _ = self.child.kill();
                let _ = self.child.wait();
                panic!(
                    "hung: {}\n--- stdout\n{}\n--- stderr\n{}",
                    self.what,
                    read(&self.out),
                    read(&self.err)
                );
            }
        }
        let status = self.child.wait().expect("wait for a child");
        Output {
            what: self.what.clone(),
            status,
            stdout: read(&self.out),
            stderr: read(&self.err),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Errors mean that it has ended: all is well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

/// Sends a signal to a process that may have gone.
pub fn kill(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// Whether a process is alive and no zombie.
#[must_use]
pub fn is_alive(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|s| {
            s.rsplit_once(") ")
                .map(|(_, rest)| !rest.starts_with(['Z', 'X']))
        })
        .unwrap_or(false)
}

/// Asks until the answer is yes.
///
/// # Panics
/// Where it is not within some seconds.
pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10) * slowness();
    while !done() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
