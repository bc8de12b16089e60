//! The audit log: who asked for what, what became of it, and how long it took.
//!
//! One JSON document a line; only what changes something. hulld writes what it is asked for
//! through its socket, `hull` and `hullctl` what they are started for.

mod file;
mod journald;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;

pub use file::Rotated;
pub use journald::Journal;

/// A detail is cut to so many bytes: commands can be long.
const DETAIL: usize = 512;
/// When the programs' own log is renamed, and how many of those are kept.
const MAX_BYTES: u64 = 16 << 20;
const MAX_FILES: u32 = 5;
/// systemd's.
const JOURNAL: &str = "/run/systemd/journal/socket";
/// Names the log of a program; empty: none is to be written.
pub const VARIABLE: &str = "HULL_AUDIT";
/// Where the logs are on a machine.
pub const DIRECTORY: &str = "/var/lib/hull";

/// Who asked.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Caller {
    /// The user.
    pub uid: Option<u32>,
    /// The group.
    pub gid: Option<u32>,
    /// The process, in our pid namespace.
    pub pid: Option<i32>,
    /// Its executable file; its name where that cannot be seen.
    pub program: String,
}

impl Caller {
    /// The executable file of a process; its name where we may not know more, as in a user
    /// namespace.
    #[must_use]
    pub fn program_of(pid: i32) -> String {
        let name = || std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        match std::fs::read_link(format!("/proc/{pid}/exe")) {
            Ok(link) => link.to_string_lossy().into_owned(),
            Err(_) => name().trim_end().to_owned(),
        }
    }

    /// Who started this process: its user, and the process that is its parent.
    #[must_use]
    pub fn of_this() -> Self {
        let parent = rustix::process::getppid().map(|p| p.as_raw_nonzero().get());
        let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
        Self {
            uid: Some(outside("/proc/self/uid_map", uid.as_raw())),
            gid: Some(outside("/proc/self/gid_map", gid.as_raw())),
            pid: parent,
            program: parent.map(Self::program_of).unwrap_or_default(),
        }
    }
}

/// What an id of this user namespace is in the one above.
fn outside(map: &str, id: u32) -> u32 {
    let text = std::fs::read_to_string(map).unwrap_or_default();
    let found = text.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace().map(str::parse::<u32>);
        let (inside, outside) = (fields.next()?.ok()?, fields.next()?.ok()?);
        let at = id.checked_sub(inside)?;
        (at < fields.next()?.ok()?).then(|| outside.checked_add(at))?
    });
    found.unwrap_or(id)
}

impl fmt::Display for Caller {
    /// `crictl (process 4711, user 0)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.program.rsplit('/').next().filter(|n| !n.is_empty());
        f.write_str(name.unwrap_or("somebody"))?;
        match (self.pid, self.uid) {
            (Some(pid), Some(uid)) => write!(f, " (process {pid}, user {uid})"),
            (None, Some(uid)) => write!(f, " (user {uid})"),
            _ => Ok(()),
        }
    }
}

/// What a call is about.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Object {
    /// `pod`, `container`, `image`, `namespace`, `runtime`.
    #[serde(rename = "object")]
    pub kind: &'static str,
    /// Its id; what was asked for where there is no such thing.
    pub id: String,
    /// What people call it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
}

/// One call.
#[derive(Debug, Serialize)]
pub struct Line {
    /// When it ended.
    pub time: String,
    /// Its name: the CRI's, or `hull kill`.
    pub call: String,
    /// Who asked.
    #[serde(flatten)]
    pub caller: Caller,
    /// What for.
    #[serde(flatten)]
    pub object: Object,
    /// What else there is to say of it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// The result, in gRPC's words.
    pub code: String,
    /// Why it failed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The exit code of the program that was waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit: Option<u8>,
    /// How long it took.
    pub ms: f64,
}

impl Line {
    /// One of a call that ends now.
    #[must_use]
    pub fn new(call: &str, caller: Caller, object: Object, took: Duration) -> Self {
        Self {
            time: crate::clock::now_rfc3339(),
            call: call.to_owned(),
            caller,
            object,
            detail: String::new(),
            code: "Ok".to_owned(),
            reason: String::new(),
            exit: None,
            ms: (took.as_secs_f64() * 1e6).round() / 1e3,
        }
    }

    /// As it is written.
    #[must_use]
    pub fn to_json(&self) -> String {
        // A string's serialisation cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// A detail of bearable length.
#[must_use]
pub fn cut(mut text: String) -> String {
    if text.len() > DETAIL {
        let end = (0..=DETAIL).rev().find(|&at| text.is_char_boundary(at));
        text.truncate(end.unwrap_or(0));
        text.push('…');
    }
    text
}

/// The log that `hull` and `hullctl` write of what they are started for.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The file.
    pub file: Rotated,
    /// It is made where it is missing; else its presence is the switch.
    pub is_made: bool,
    journal: PathBuf,
}

impl Programs {
    /// That of program `name`; `None` where the environment switches it off. One that the
    /// environment names is made in any case, the usual one if `always`.
    #[must_use]
    pub fn of(name: &str, rootless: bool, always: bool) -> Option<Self> {
        let named = std::env::var_os(VARIABLE);
        let path = match &named {
            Some(path) if path.is_empty() => return None,
            Some(path) => PathBuf::from(path),
            None => usual_file(name, rootless)?,
        };
        Some(Self {
            file: file_at(path),
            is_made: always || named.is_some(),
            journal: JOURNAL.into(),
        })
    }

    /// Writes a line there, and tells the journal where there is one.
    ///
    /// # Errors
    /// Those of [`Rotated::append`].
    pub fn tell(&self, program: &str, line: &Line) -> std::io::Result<()> {
        let text = line.to_json();
        if let Some(journal) = Journal::new(self.journal.clone(), &format!("{program}-audit")) {
            journal.tell(&text);
        }
        self.file.append(&text)
    }

    /// A call begins, of which a line is to be written: `None` where there is no log.
    #[must_use]
    pub fn begin(self) -> Option<Asked> {
        let is_there = self.file.path.exists() || (self.is_made && self.file.make().is_ok());
        is_there.then(|| Asked {
            log: self,
            caller: Caller::of_this(),
            since: Instant::now(),
        })
    }
}

/// A program's log, with the limits that it has.
#[must_use]
pub const fn file_at(path: PathBuf) -> Rotated {
    Rotated {
        path,
        max_bytes: MAX_BYTES,
        max_files: MAX_FILES,
    }
}

/// Where program `name` has its log; none for a user without a home.
#[must_use]
pub fn usual_file(name: &str, rootless: bool) -> Option<PathBuf> {
    Some(directory(rootless)?.join(format!("audit-{name}.log")))
}

/// A user's own directory for what is to outlive a session, or the machine's.
fn directory(rootless: bool) -> Option<PathBuf> {
    if !rootless {
        return Some(Path::new(DIRECTORY).to_owned());
    }
    let of = |name: &str| std::env::var_os(name).filter(|d| !d.is_empty());
    let state = of("XDG_STATE_HOME").map(PathBuf::from);
    let state = state.or_else(|| Some(PathBuf::from(of("HOME")?).join(".local/state")))?;
    Some(state.join("hull"))
}

/// A call of a program that runs.
#[derive(Debug)]
pub struct Asked {
    log: Programs,
    caller: Caller,
    since: Instant,
}

impl Asked {
    /// It has ended so; `change` fills in what there is to say.
    ///
    /// # Errors
    /// Those of [`Rotated::append`], in one line.
    pub fn done(
        &self,
        program: &str,
        command: &str,
        object: Object,
        change: impl FnOnce(&mut Line),
    ) -> Result<(), String> {
        let call = format!("{program} {command}");
        let mut line = Line::new(&call, self.caller.clone(), object, self.since.elapsed());
        change(&mut line);
        let told = self.log.tell(program, &line);
        told.map_err(|e| format!("audit log {}: {e}", self.log.file.path.display()))
    }
}

/// gRPC's word for a sort of error, which hulld's lines have too.
#[must_use]
pub const fn code_of(kind: crate::ErrorKind) -> &'static str {
    use crate::ErrorKind as K;
    match kind {
        K::Failed | K::Program => "Internal",
        K::Invalid => "InvalidArgument",
        K::Exists => "AlreadyExists",
        K::NotFound => "NotFound",
        K::WrongState => "FailedPrecondition",
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn a_program_writes_a_file_and_tells_the_journal() {
        let dir = std::env::temp_dir().join(format!("hull-audit-log.{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let journal = UnixDatagram::bind(dir.join("journal")).unwrap();
        let mut log = Programs {
            file: file_at(dir.join("log")),
            is_made: false,
            journal: dir.join("journal"),
        };
        assert!(
            log.clone().begin().is_none(),
            "where there is none, none is made"
        );
        log.is_made = true;
        let asked = log.begin().unwrap();
        let object = Object {
            kind: "container",
            id: "web".to_owned(),
            name: String::new(),
        };
        asked
            .done("hull", "kill", object, |line| {
                "KILL".clone_into(&mut line.detail)
            })
            .unwrap();
        let text = std::fs::read_to_string(dir.join("log")).unwrap();
        let mut message = vec![0; 4096];
        let length = journal.recv(&mut message).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&line["call"], &line["id"]),
            (&"hull kill".into(), &"web".into())
        );
        assert_eq!(
            (&line["detail"], &line["code"]),
            (&"KILL".into(), &"Ok".into())
        );
        assert_eq!(line["pid"], std::os::unix::process::parent_id());
        let told = String::from_utf8_lossy(&message[..length]).into_owned();
        assert!(told.contains("\nSYSLOG_IDENTIFIER=hull-audit\n"), "{told}");
        assert!(told.contains("\nHULL_CALL=hull kill\n"), "{told}");
    }

    #[test]
    fn long_details_are_cut_between_letters() {
        assert_eq!(cut("short".to_owned()), "short");
        let long = cut("é".repeat(400));
        assert_eq!(
            (long.len(), long.ends_with("é…")),
            (DETAIL + "…".len(), true)
        );
    }
}
