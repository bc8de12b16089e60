//! Attending a process from the terminal that started it: its signals, its terminal, its end.

use std::os::fd::{AsFd as _, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, WaitStatus};
use sys::Context as _;
use sys::signal::{SignalSet, read_signal, set_mask, signalfd};

use crate::Result;
use crate::notify::Listening;

mod terminal;

pub use terminal::RawTerminal;

/// How long to leave a terminal alone that nobody has open on the other side.
const HUNG_UP_TICK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};

/// Signal numbers (signal(7), x86 and ARM).
const SIGHUP: i32 = 1;
const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;
const SIGCHLD: i32 = 17;
const SIGURG: i32 = 23;
pub(crate) const SIGWINCH: i32 = 28;
const SIGPIPE: i32 = 13;

/// A runtime that stays in the foreground. From [`Foreground::begin`] on, signals wait to be
/// passed to the process.
#[derive(Debug)]
pub struct Foreground {
    signals: OwnedFd,
    before: SignalSet,
    /// Where the program says that it is ready, until it has.
    notify: Option<Listening>,
}

impl Foreground {
    /// Blocks all signals and collects them; with `subreaper` also becomes the parent of orphans
    /// below. Must come before the process is made, so that no signal is lost.
    ///
    /// # Errors
    /// The call that failed.
    pub fn begin(subreaper: bool) -> Result<Self> {
        if subreaper {
            rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
                .context("prctl", || "PR_SET_CHILD_SUBREAPER, 1")?;
        }
        let all = SignalSet::full();
        let before = set_mask(&all)?;
        let signals = signalfd(&all)?;
        Ok(Self {
            signals,
            before,
            notify: None,
        })
    }

    /// Passes the program's readiness on while it is attended. The manager is to watch this
    /// process, which stays.
    pub fn announce(&mut self, notify: Listening) {
        self.notify = Some(notify);
    }

    /// Stays with child `pid` until it ends; returns its exit code, or 128 and the number of the
    /// signal that ended it. `console` is the master of its terminal: it gets what is typed here,
    /// its output goes to standard output, and its size follows.
    ///
    /// # Errors
    /// A call that failed; the process runs on then.
    pub fn attend(mut self, pid: Pid, console: Option<OwnedFd>) -> Result<i32> {
        let mut relay = console.map(|c| Relay::new(c, true)).transpose()?;
        loop {
            let wake = wait(&self.signals, relay.as_ref(), self.notify.as_ref())?;
            if wake.signals
                && let Some(code) = self.handle_signals(pid, relay.as_ref())?
            {
                if let Some(relay) = relay.as_mut() {
                    relay.output()?;
                }
                return Ok(code);
            }
            if let Some(relay) = relay.as_mut() {
                relay.step(&wake)?;
            }
            if wake.notify {
                self.pass_on()?;
            }
        }
    }

    /// One message of the program's to the manager, if it is the one that counts.
    fn pass_on(&mut self) -> Result<()> {
        if let Some(listening) = &self.notify
            && let Some(ready) = listening.read()?
        {
            listening.tell(&ready, crate::ProcessId::own()?.pid)?;
            self.notify = None;
        }
        Ok(())
    }

    /// Passes signals on; the exit code once the process has ended.
    fn handle_signals(&self, pid: Pid, relay: Option<&Relay>) -> Result<Option<i32>> {
        while let Some(signal) = read_signal(&self.signals)? {
            match signal {
                SIGCHLD => {
                    if let Some(code) = reap(pid)? {
                        return Ok(Some(code));
                    }
                }
                SIGWINCH => {
                    if let Some(relay) = relay {
                        relay.follow_size();
                    }
                }
                // Ours: a pipe of ours that broke, out-of-band data.
                SIGPIPE | SIGURG => {}
                // It has not been waited for, so the pid is still its own.
                _ => match sys::pidfd::kill(pid, signal) {
                    Err(e) if e.errno != Errno::SRCH => return Err(e.into()),
                    _ => {}
                },
            }
        }
        Ok(None)
    }
}

impl Drop for Foreground {
    fn drop(&mut self) {
        // The runtime is about to exit; a mask that stays is of no consequence.
        let _ = set_mask(&self.before);
    }
}

/// Waits for a signal, for input, for the other side, or for a message of the program's.
fn wait(signals: &OwnedFd, relay: Option<&Relay>, notify: Option<&Listening>) -> Result<Wake> {
    let stdin = rustix::stdio::stdin();
    let reads_input = relay.is_some_and(Relay::wants_input);
    let sources = [
        Some(PollFd::new(signals, PollFlags::IN)),
        relay.and_then(Relay::source),
        reads_input.then(|| PollFd::new(&stdin, PollFlags::IN)),
        notify.map(|n| PollFd::new(n.socket(), PollFlags::IN)),
    ];
    let place = |n: usize| sources.iter().take(n).flatten().count();
    let (input, message) = (place(2), place(3));
    let has_message = notify.is_some();
    let mut fds: Vec<PollFd<'_>> = sources.into_iter().flatten().collect();
    let hung_up = relay.is_some_and(|relay| relay.hung_up);
    match poll(&mut fds, hung_up.then_some(&HUNG_UP_TICK)) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(e) => return Err(sys::Error::new("poll", "foreground", e).into()),
    }
    let ready = |n: usize| fds.get(n).is_some_and(|fd| !fd.revents().is_empty());
    Ok(Wake {
        signals: ready(0),
        input: reads_input && ready(input),
        notify: has_message && ready(message),
    })
}

/// Waits for all children that have ended, orphans too; the exit code of `pid` if it is among
/// them.
fn reap(pid: Pid) -> Result<Option<i32>> {
    let mut code = None;
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((ended, status))) if ended == pid => code = Some(exit_code(status)),
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) | Err(Errno::CHILD) => return Ok(code),
            Err(e) => return Err(sys::Error::new("wait4", "-1, WNOHANG", e).into()),
        }
    }
}

/// The exit code as a shell tells it.
#[must_use]
pub fn exit_code(status: WaitStatus) -> i32 {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 255,
    }
}

/// Attaches standard input (with `input`) and output to the terminal whose master is `master`,
/// until nobody has its other side open. `signals` must read at least SIGWINCH, SIGTERM, SIGINT
/// and SIGHUP; each of the last three ends it too.
///
/// # Errors
/// A call that failed.
pub fn attach(master: OwnedFd, input: bool, signals: &OwnedFd) -> Result<()> {
    let mut relay = Relay::new(master, input)?;
    while !relay.hung_up {
        let wake = wait(signals, Some(&relay), None)?;
        relay.step(&wake)?;
        while let Some(signal) = read_signal(signals)? {
            match signal {
                SIGWINCH => relay.follow_size(),
                SIGHUP | SIGINT | SIGTERM => return Ok(()),
                _ => {}
            }
        }
    }
    Ok(())
}

/// The signals that [`attach`] wants, blocked from now on.
///
/// # Errors
/// The call that failed.
pub fn attach_signals() -> Result<OwnedFd> {
    let set = [SIGWINCH, SIGHUP, SIGINT, SIGTERM];
    let set = set.into_iter().fold(SignalSet::empty(), SignalSet::with);
    set_mask(&set)?;
    Ok(signalfd(&set)?)
}

/// What poll(2) reported.
struct Wake {
    signals: bool,
    input: bool,
    notify: bool,
}

/// A terminal between standard input and output here and a program there.
struct Relay {
    master: OwnedFd,
    /// Restores the terminal here when dropped; `None` where there is none.
    terminal: Option<RawTerminal>,
    /// Typed, but not yet taken by the other side.
    pending: Vec<u8>,
    input_open: bool,
    /// Nobody has the other side open at the moment.
    hung_up: bool,
}

impl Relay {
    fn new(master: OwnedFd, input: bool) -> Result<Self> {
        let flags = fcntl_getfl(&master).context("fcntl", || "ptmx, F_GETFL")?;
        fcntl_setfl(&master, flags | OFlags::NONBLOCK).context("fcntl", || "ptmx, O_NONBLOCK")?;
        let relay = Self {
            master,
            terminal: RawTerminal::of_stdio()?,
            pending: Vec::new(),
            input_open: input,
            hung_up: false,
        };
        relay.follow_size();
        Ok(relay)
    }

    /// The master, while there is something to wait for on it.
    fn source(&self) -> Option<PollFd<'_>> {
        // poll(2) reports a hang-up whether asked or not, and would not wait then.
        if self.hung_up {
            return None;
        }
        let mut flags = PollFlags::IN;
        flags.set(PollFlags::OUT, !self.pending.is_empty());
        Some(PollFd::new(&self.master, flags))
    }

    /// Reads no more until what was read has been taken.
    fn wants_input(&self) -> bool {
        self.input_open && self.pending.is_empty()
    }

    fn step(&mut self, wake: &Wake) -> Result<()> {
        if wake.input {
            self.input()?;
        }
        self.flush_input()?;
        self.output()
    }

    fn input(&mut self) -> Result<()> {
        let mut buffer = [0; 4096];
        match rustix::io::read(rustix::stdio::stdin(), &mut buffer) {
            // EIO: this process is in the background of an orphaned session.
            Ok(0) | Err(Errno::IO | Errno::BADF) => self.input_open = false,
            Ok(n) => self.pending.extend_from_slice(&buffer[..n]),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(e) => return Err(sys::Error::new("read", "standard input", e).into()),
        }
        Ok(())
    }

    fn flush_input(&mut self) -> Result<()> {
        while !self.pending.is_empty() {
            match rustix::io::write(&self.master, &self.pending) {
                Ok(n) => drop(self.pending.drain(..n)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN | Errno::IO) => break,
                Err(e) => return Err(sys::Error::new("write", "ptmx", e).into()),
            }
        }
        Ok(())
    }

    /// Copies all output that is there.
    fn output(&mut self) -> Result<()> {
        let mut buffer = [0; 4096];
        loop {
            match rustix::io::read(&self.master, &mut buffer) {
                Ok(n) if n > 0 => {
                    self.hung_up = false;
                    write_out(&buffer[..n])?;
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.hung_up = false;
                    return Ok(());
                }
                Ok(_) | Err(Errno::IO) => {
                    self.hung_up = true;
                    return Ok(());
                }
                Err(e) => return Err(sys::Error::new("read", "ptmx", e).into()),
            }
        }
    }

    fn follow_size(&self) {
        if let Some(terminal) = &self.terminal {
            // A terminal without a size is no reason to stop.
            let _ = terminal.copy_size_to(self.master.as_fd());
        }
    }
}

fn write_out(mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(rustix::stdio::stdout(), bytes) {
            Ok(n) => bytes = bytes.get(n..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let stdout = rustix::stdio::stdout();
                let mut fds = [PollFd::new(&stdout, PollFlags::OUT)];
                // Whatever it reports, the write is tried again.
                let _ = poll(&mut fds, None);
            }
            Err(e) => return Err(sys::Error::new("write", "standard output", e).into()),
        }
    }
    Ok(())
}
