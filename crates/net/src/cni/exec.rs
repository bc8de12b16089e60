//! Runs a plugin: bounded in time and in output, whatever it does.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd, OwnedFd};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group};
use sys::Context as _;

use crate::{Error, Result};

/// What a plugin may print.
const LARGEST_OUTPUT: usize = 1 << 20;
/// How much of what it logs is kept for an error.
const LARGEST_LOG: usize = 64 << 10;
/// Between two looks where the kernel cannot tell that a process ended.
const PATIENCE: Duration = Duration::from_millis(10);

/// What a plugin did.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) status: ExitStatus,
    pub(super) out: Vec<u8>,
    pub(super) log: Vec<u8>,
}

/// Runs a program with this text on its standard input.
pub(super) fn run(
    program: &Path,
    environment: &[(&str, OsString)],
    input: &[u8],
    limit: Duration,
) -> Result<Output> {
    let name = || program.display().to_string();
    let mut child = Command::new(program)
        .envs(environment.iter().map(|(k, v)| (k, v)))
        .stdin(file_of(input)?)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .context("execve", name)?;
    let result = attend(&mut child, limit);
    if result.is_err() {
        end(&mut child);
    }
    result.map_err(|reason| Error::Cni {
        code: 0,
        message: format!("CNI plugin {}: {reason}", program.display()),
    })
}

/// A file in memory: a plugin that does not read its input blocks no one.
fn file_of(input: &[u8]) -> Result<File> {
    let memory = memfd_create("cni", MemfdFlags::CLOEXEC).context("memfd_create", || "cni")?;
    let mut file = File::from(memory);
    file.write_all(input).context("write", || "memfd")?;
    file.rewind().context("lseek", || "memfd")?;
    Ok(file)
}

/// Ends a plugin and all that it started.
fn end(child: &mut Child) {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(pid, Signal::KILL);
    }
    let _ = child.kill();
    let _ = child.wait();
}

fn attend(child: &mut Child, limit: Duration) -> std::result::Result<Output, String> {
    let deadline = Instant::now() + limit;
    let mut out = Stream::new(child.stdout.take(), LARGEST_OUTPUT)?;
    let mut log = Stream::new(child.stderr.take(), LARGEST_LOG)?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pidfd = pid.and_then(|pid| sys::pidfd::open(pid).ok());
    loop {
        let rest = deadline.saturating_duration_since(Instant::now());
        if rest.is_zero() {
            return Err(format!("no answer after {} seconds", limit.as_secs()));
        }
        wait(pidfd.as_ref(), &[&out, &log], rest)?;
        // Looked at before the streams: what it printed before its end is in them.
        let status = child.try_wait().map_err(|error| error.to_string())?;
        if out.read()? {
            return Err(format!("more than {LARGEST_OUTPUT} bytes of output"));
        }
        // A log that is too long is cut, its end is of no use.
        log.read()?;
        if let Some(status) = status {
            return Ok(Output {
                status,
                out: out.bytes,
                log: log.bytes,
            });
        }
    }
}

/// Waits until the process ended, or printed, or the time is over.
fn wait(
    pidfd: Option<&OwnedFd>,
    streams: &[&Stream],
    rest: Duration,
) -> std::result::Result<(), String> {
    let rest = if pidfd.is_some() {
        rest
    } else {
        rest.min(PATIENCE)
    };
    let limit = Timespec::try_from(rest).map_err(|_| "the time limit is too large")?;
    let mut list: Vec<PollFd<'_>> = Vec::new();
    list.extend(pidfd.map(|fd| PollFd::new(fd, PollFlags::IN)));
    let open = streams.iter().filter_map(|stream| stream.file.as_ref());
    list.extend(open.map(|file| PollFd::from_borrowed_fd(file.as_fd(), PollFlags::IN)));
    match poll(&mut list, Some(&limit)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(format!("poll: {errno}")),
    }
}

/// A stream that is read without waiting, up to a limit.
#[derive(Debug)]
struct Stream {
    /// None after its end.
    file: Option<File>,
    bytes: Vec<u8>,
    limit: usize,
}

impl Stream {
    fn new(
        pipe: Option<impl Into<OwnedFd> + AsRawFd>,
        limit: usize,
    ) -> std::result::Result<Self, String> {
        let file = pipe.map(|pipe| File::from(pipe.into()));
        if let Some(file) = &file {
            rustix::io::ioctl_fionbio(file, true).map_err(|errno| errno.to_string())?;
        }
        Ok(Self {
            file,
            bytes: Vec::new(),
            limit,
        })
    }

    /// Reads what is there. True if there was more than the limit; the rest is thrown away.
    fn read(&mut self) -> std::result::Result<bool, String> {
        let mut buffer = [0; 16 << 10];
        let mut too_much = false;
        // In turns: who prints without end does not keep us here.
        for _ in 0..64 {
            let Some(file) = &mut self.file else { break };
            match file.read(&mut buffer) {
                Ok(0) => self.file = None,
                Ok(n) => {
                    let room = self.limit.saturating_sub(self.bytes.len());
                    too_much |= n > room;
                    self.bytes.extend(&buffer[..n.min(room)]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("read its output: {error}")),
            }
        }
        Ok(too_much)
    }
}

impl Output {
    /// How it ended, for people.
    pub(super) fn ending(&self) -> String {
        match (self.status.code(), self.status.signal()) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("killed by signal {signal}"),
            (None, None) => "an unknown end".into(),
        }
    }
}
