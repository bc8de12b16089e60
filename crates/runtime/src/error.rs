//! What can go wrong, in words that callers of OCI runtimes know.

use std::fmt::Write as _;

/// What functions of this crate return.
pub type Result<T> = std::result::Result<T, Error>;

/// An error: one line that names the operation, its arguments and the reason.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error(transparent)]
    Sys(#[from] sys::Error),
    /// The root file system could not be made, or something in it not be reached.
    #[error(transparent)]
    Rootfs(#[from] rootfs::Error),
    /// The configuration cannot be honoured.
    #[error(transparent)]
    Spec(#[from] spec::Error),
    /// The system-call filter cannot be compiled.
    #[error(transparent)]
    Seccomp(#[from] seccomp::Error),
    /// Control groups.
    #[error(transparent)]
    Cgroup(#[from] cgroup::Error),
    /// Another error, and what was being done.
    #[error("{doing}: {source}")]
    While {
        /// A phrase such as `create the cgroup`.
        doing: String,
        /// What went wrong with it.
        source: Box<Self>,
    },
    /// A document, an argument, or a combination of them that cannot be honoured.
    #[error("{0}")]
    Invalid(String),
    /// JSON that cannot be read or written.
    #[error("{what}: {source}")]
    Json {
        /// The document.
        what: String,
        /// The parser's complaint.
        source: serde_json::Error,
    },
    /// Not an id.
    #[error("invalid container ID format: {0:?}")]
    InvalidId(String),
    /// The id is taken. Callers match the first six words.
    #[error("container with given ID already exists: {0}")]
    Exists(String),
    /// No container has this id. Callers match `does not exist`.
    #[error("container {0:?} does not exist")]
    NotFound(String),
    /// The operation needs a live process. Callers match these words.
    #[error("container not running")]
    NotRunning,
    /// The container is in a state that the operation is not for.
    #[error("{0}")]
    WrongState(String),
    /// The user's program cannot be executed. The text contains what callers match:
    /// `executable file not found in $PATH`, `no such file or directory`, `permission denied`.
    #[error("{0}")]
    Program(String),
    /// What a process inside the container reported before it gave up.
    #[error("{message}")]
    Reported {
        /// Its kind over there.
        kind: ErrorKind,
        /// Its text over there.
        message: String,
    },
    /// A hook failed; in runc's words.
    #[error("{0}")]
    Hook(String),
    /// criu could not save or restore the container.
    #[error("{0}")]
    Criu(String),
    /// Teardown went on after errors; these are all of them.
    #[error("{}", joined(.0))]
    Several(Vec<Self>),
}

/// Sorts of errors, for callers that decide by them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ErrorKind {
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
    /// The program to run is missing or not executable.
    Program,
}

impl ErrorKind {
    const ALL: [Self; 6] = [
        Self::Failed,
        Self::Invalid,
        Self::NotFound,
        Self::Exists,
        Self::WrongState,
        Self::Program,
    ];

    /// A byte for the wire between our own processes.
    #[must_use]
    pub const fn to_byte(self) -> u8 {
        self as u8
    }

    /// The kind of such a byte; unknown ones are [`ErrorKind::Failed`].
    #[must_use]
    pub fn from_byte(byte: u8) -> Self {
        let known = Self::ALL.get(usize::from(byte));
        known.copied().unwrap_or(Self::Failed)
    }
}

impl Error {
    /// The sort of this error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Sys(_)
            | Self::Cgroup(_)
            | Self::Rootfs(_)
            | Self::Json { .. }
            | Self::Hook(_)
            | Self::Criu(_) => ErrorKind::Failed,
            Self::While { source, .. } => source.kind(),
            Self::Invalid(_) | Self::InvalidId(_) | Self::Spec(_) | Self::Seccomp(_) => {
                ErrorKind::Invalid
            }
            Self::Exists(_) => ErrorKind::Exists,
            Self::NotFound(_) => ErrorKind::NotFound,
            Self::NotRunning | Self::WrongState(_) => ErrorKind::WrongState,
            Self::Program(_) => ErrorKind::Program,
            Self::Reported { kind, .. } => *kind,
            Self::Several(errors) => errors.first().map_or(ErrorKind::Failed, Self::kind),
        }
    }

    /// One error of many; `None` of none.
    #[must_use]
    pub fn from_several(mut errors: Vec<Self>) -> Option<Self> {
        match errors.len() {
            0 | 1 => errors.pop(),
            _ => Some(Self::Several(errors)),
        }
    }
}

/// Adds what was being done to an error.
pub trait Doing<T> {
    /// `doing` is only evaluated on failure.
    fn doing<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<Error>> Doing<T> for std::result::Result<T, E> {
    fn doing<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|e| Error::While {
            doing: doing().into(),
            source: Box::new(e.into()),
        })
    }
}

fn joined(errors: &[Error]) -> String {
    let mut text = String::new();
    for (i, error) in errors.iter().enumerate() {
        // Writing to a String cannot fail.
        let _ = write!(text, "{}{error}", if i == 0 { "" } else { "; " });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_survive_the_wire() {
        for kind in ErrorKind::ALL {
            assert_eq!(ErrorKind::from_byte(kind.to_byte()), kind);
        }
        assert_eq!(ErrorKind::from_byte(200), ErrorKind::Failed);
    }

    #[test]
    fn says_what_was_done_and_keeps_the_kind() {
        let e = Err::<(), _>(Error::NotRunning).doing(|| "send SIGTERM");
        let e = e.unwrap_err();
        assert_eq!(e.to_string(), "send SIGTERM: container not running");
        assert_eq!(e.kind(), ErrorKind::WrongState);
        let both = Error::from_several(vec![e, Error::NotFound("a".into())]).unwrap();
        assert_eq!(
            both.to_string(),
            "send SIGTERM: container not running; container \"a\" does not exist"
        );
    }
}
