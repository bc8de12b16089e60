//! A second process that stays where we were: it writes id maps with the rights of before, and
//! binds new namespaces to files that others can see.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, anyhow, bail};
use rustix::process::{Pid, WaitOptions, waitpid};
use spec::plan::NamespaceKind;

use super::super::keep;
use super::super::waiting::{Side, fork};
use super::maps::{Range, lines};

/// The other process.
#[derive(Debug)]
pub struct Helper {
    pid: Pid,
    line: UnixStream,
}

/// What it will be asked to do.
#[derive(Clone, Debug, Default)]
pub struct Work {
    /// For uid_map.
    pub users: Vec<Range>,
    /// For gid_map.
    pub groups: Vec<Range>,
    /// Write `deny` to setgroups first.
    pub deny_setgroups: bool,
    /// Files to bind namespaces to.
    pub files: Vec<(NamespaceKind, PathBuf)>,
}

const MAPS: u8 = b'm';
const FILES: u8 = b'f';

impl Helper {
    /// Starts it; must come before anything is unshared.
    pub fn start(work: &Work) -> Result<Self> {
        let (line, theirs) = UnixStream::pair().context("socketpair(helper)")?;
        let parent = rustix::process::getpid();
        match fork()? {
            Side::Parent(pid) => Ok(Self { pid, line }),
            Side::Child => {
                drop(line);
                serve(theirs, work, parent.as_raw_nonzero().get());
                sys::process::exit_now(0)
            }
        }
    }

    /// The id maps of this process's new user namespace.
    pub fn write_maps(&mut self) -> Result<()> {
        self.ask(MAPS)
    }

    /// The bindings of this process's new namespaces.
    pub fn bind_files(&mut self) -> Result<()> {
        self.ask(FILES)
    }

    fn ask(&mut self, what: u8) -> Result<()> {
        self.line.write_all(&[what]).context("write(helper)")?;
        let mut length = [0; 4];
        self.line.read_exact(&mut length).context("read(helper)")?;
        let mut text = vec![0; usize::try_from(u32::from_ne_bytes(length))?];
        self.line.read_exact(&mut text).context("read(helper)")?;
        if text.is_empty() {
            return Ok(());
        }
        Err(anyhow!("{}", String::from_utf8_lossy(&text)))
    }

    /// Lets it go: whatever is executed here must not inherit a zombie.
    pub fn dismiss(self) -> Result<()> {
        drop(self.line);
        waitpid(Some(self.pid), WaitOptions::empty()).context("waitpid(helper)")?;
        Ok(())
    }
}

fn serve(mut line: UnixStream, work: &Work, parent: i32) {
    let mut what = [0];
    while matches!(line.read(&mut what), Ok(1)) {
        let done = match what[0] {
            MAPS => write_maps(work, parent),
            _ => bind_files(&work.files, parent),
        };
        let text = done.err().map_or_else(String::new, |e| format!("{e:#}"));
        let length = u32::try_from(text.len()).unwrap_or(0).to_ne_bytes();
        let answer = [length.as_slice(), text.as_bytes()].concat();
        if line.write_all(&answer).is_err() {
            return;
        }
    }
}

/// Writes the maps of process `pid`, by the programs of uidmap where we may not.
pub fn write_maps(work: &Work, pid: i32) -> Result<()> {
    let dir = PathBuf::from(format!("/proc/{pid}"));
    if work.deny_setgroups {
        let path = dir.join("setgroups");
        std::fs::write(&path, "deny")
            .with_context(|| format!("write({}, deny)", path.display()))?;
    }
    write_map(&dir, "gid_map", "newgidmap", &work.groups, pid)?;
    write_map(&dir, "uid_map", "newuidmap", &work.users, pid)
}

fn write_map(dir: &Path, file: &str, program: &str, map: &[Range], pid: i32) -> Result<()> {
    if map.is_empty() {
        return Ok(());
    }
    let path = dir.join(file);
    let text = lines(map);
    let refused = match std::fs::write(&path, &text) {
        Ok(()) => return Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied && pid != own_pid() => e,
        Err(e) => {
            return Err(e).with_context(|| format!("write({}, {text:?})", path.display()));
        }
    };
    let numbers = map.iter().flat_map(|r| [r.inner, r.outer, r.count]);
    let out = Command::new(program)
        .arg(pid.to_string())
        .args(numbers.map(|n| n.to_string()))
        .output()
        .with_context(|| {
            format!(
                "write({}): {refused}; and {program} cannot be started: install Debian's uidmap",
                path.display()
            )
        })?;
    if !out.status.success() {
        let said = String::from_utf8_lossy(&out.stderr);
        bail!("{}", said.lines().next().unwrap_or("newuidmap failed"));
    }
    Ok(())
}

fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

fn bind_files(files: &[(NamespaceKind, PathBuf)], pid: i32) -> Result<()> {
    files.iter().try_for_each(|(kind, file)| {
        let name = match kind {
            // What the children get is what was unshared.
            NamespaceKind::Pid => "pid_for_children",
            NamespaceKind::Time => "time_for_children",
            other => other.proc_name(),
        };
        keep::bind(&format!("/proc/{pid}/ns/{name}"), file)
    })
}
