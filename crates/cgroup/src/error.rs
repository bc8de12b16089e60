//! What can go wrong with a control group.

use std::fmt;
use std::path::PathBuf;

use sys::Errno;

/// What functions of this crate return.
pub type Result<T> = std::result::Result<T, Error>;

/// A failure, in one line: what was attempted, on what, and why it failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the kernel, or a system call.
    #[error(transparent)]
    Sys(#[from] sys::Error),
    /// `linux.cgroupsPath` cannot be used.
    #[error("cgroupsPath {path:?}: {reason}")]
    Path {
        /// As it was given.
        path: String,
        /// Why.
        reason: &'static str,
    },
    /// No control-group file system can be used.
    #[error("control groups: {reason}")]
    Unavailable {
        /// Why.
        reason: String,
    },
    /// A limit was asked for and its controller is not there.
    #[error("{limit}: controller {controller} is not available: {reason}")]
    MissingController {
        /// Field of `linux.resources`.
        limit: String,
        /// Controller that would enforce it.
        controller: String,
        /// Where it is missing.
        reason: String,
    },
    /// A value in `linux.resources` cannot be applied.
    #[error("{limit}: {value}: {reason}")]
    Value {
        /// Field of `linux.resources`.
        limit: String,
        /// What was asked for.
        value: String,
        /// Why it cannot be.
        reason: String,
    },
    /// The container's control group exists and somebody is in it.
    #[error("container's cgroup is not empty: {count} process(es) found in {}", path.display())]
    NotEmpty {
        /// Its directory.
        path: PathBuf,
        /// How many processes it has.
        count: usize,
    },
    /// The container's control group exists and is frozen.
    #[error("container's cgroup unexpectedly frozen: {}", path.display())]
    Frozen {
        /// Its directory.
        path: PathBuf,
    },
    /// A control group of the threaded kind, which cannot hold a container.
    #[error("{}: cgroup type is {kind:?}: a container needs a domain cgroup", path.display())]
    Threaded {
        /// Its directory.
        path: PathBuf,
        /// What `cgroup.type` says.
        kind: String,
    },
    /// Something did not happen in time.
    #[error("{operation}: not done after {millis} ms: {reason}")]
    Timeout {
        /// What was waited for.
        operation: String,
        /// How long.
        millis: u64,
        /// The last that is known.
        reason: String,
    },
    /// systemd or the message bus said no.
    #[error("{operation}: {reason}")]
    Bus {
        /// The call and its object.
        operation: String,
        /// The answer.
        reason: String,
    },
    /// systemd or the message bus hung up before it answered: it restarts, or has died.
    #[error("{operation}: {reason}")]
    Lost {
        /// The call and its object.
        operation: String,
        /// What is known.
        reason: String,
    },
    /// Several failures of one teardown.
    #[error("{}", Joined(.0))]
    Many(Vec<Error>),
}

/// Classes of failures, for callers that decide by them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ErrorKind {
    /// The request itself cannot be granted: path, value, missing controller.
    Invalid,
    /// The control group is in the way: not empty, frozen, threaded.
    Occupied,
    /// No right to do it.
    Permission,
    /// The kernel or systemd refused, or did not answer in time.
    Failed,
}

impl Error {
    /// The class of this failure.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Path { .. } | Self::MissingController { .. } | Self::Value { .. } => {
                ErrorKind::Invalid
            }
            Self::NotEmpty { .. } | Self::Frozen { .. } | Self::Threaded { .. } => {
                ErrorKind::Occupied
            }
            Self::Sys(e) if matches!(e.errno, Errno::ACCESS | Errno::PERM | Errno::ROFS) => {
                ErrorKind::Permission
            }
            Self::Sys(_)
            | Self::Unavailable { .. }
            | Self::Timeout { .. }
            | Self::Bus { .. }
            | Self::Lost { .. } => ErrorKind::Failed,
            Self::Many(all) => all.first().map_or(ErrorKind::Failed, Self::kind),
        }
    }

    /// One error for several: `None` for none, itself for one.
    pub(crate) fn join(mut all: Vec<Self>) -> Option<Self> {
        if all.len() > 1 {
            return Some(Self::Many(all));
        }
        all.pop()
    }

    pub(crate) fn value(
        limit: impl Into<String>,
        value: impl fmt::Display,
        reason: impl Into<String>,
    ) -> Self {
        Self::Value {
            limit: limit.into(),
            value: value.to_string(),
            reason: reason.into(),
        }
    }
}

struct Joined<'a>(&'a [Error]);

impl fmt::Display for Joined<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, e) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("; ")?;
            }
            e.fmt(f)?;
        }
        Ok(())
    }
}
