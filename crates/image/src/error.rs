//! What can go wrong with images.

/// What functions of this crate return.
pub type Result<T> = std::result::Result<T, Error>;

/// An error: one line that names the operation, its arguments and the reason.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a digest.
    #[error("digest {text:?}: {why}")]
    Digest {
        /// As given, cut.
        text: String,
        /// What is wrong.
        why: &'static str,
    },
    /// Not a reference.
    #[error("image reference {text:?}: {why}")]
    Reference {
        /// As given, cut.
        text: String,
        /// What is wrong.
        why: &'static str,
    },
    /// A document that is not what it should be.
    #[error("{what}: {why}")]
    Document {
        /// Which kind of document.
        what: &'static str,
        /// What is wrong.
        why: String,
    },
    /// A layer that no honest tool makes, or a broken one.
    #[error("{what}: {why}")]
    Layer {
        /// The entry or the part of it.
        what: String,
        /// What is wrong.
        why: &'static str,
    },
    /// Something asked for is not there.
    #[error("{what}: not found: {why}")]
    Missing {
        /// What was asked for.
        what: String,
        /// Where it was looked for, or what there is instead.
        why: String,
    },
    /// Something is forbidden, by configuration or by hull's own rules.
    #[error("{what}: refused: {why}")]
    Refused {
        /// What was asked for.
        what: String,
        /// Who forbids it and what to do.
        why: String,
    },
    /// A registry was not reached, or the connection broke.
    #[error("{what}: {why}")]
    Connection {
        /// The request.
        what: String,
        /// What went wrong.
        why: String,
    },
    /// An upload broke off, or was refused for now; its bytes must be read again for another try.
    #[error("{what}: {why}")]
    Interrupted {
        /// The request.
        what: String,
        /// What went wrong.
        why: String,
    },
    /// A registry answered, but not with what was asked for.
    #[error("{what}: {status} {why}")]
    Status {
        /// The request.
        what: String,
        /// Of the answer.
        status: u16,
        /// What the registry says.
        why: String,
    },
    /// Reading or writing failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// The reason.
        source: std::io::Error,
    },
    /// A system call failed.
    #[error(transparent)]
    System(#[from] sys::Error),
    /// Someone else has it, or it is still needed.
    #[error("{what}: in use: {why}")]
    Busy {
        /// The store, image or container.
        what: String,
        /// By whom, and what to do.
        why: String,
    },
    /// The store could not do something.
    #[error("{what}: {why}")]
    Store {
        /// The operation and its arguments.
        what: String,
        /// The reason.
        why: String,
    },
}

impl Error {
    /// Whether there was no space, or no quota, left on the disk.
    #[must_use]
    pub fn is_full_disk(&self) -> bool {
        use rustix::io::Errno;
        let errno = match self {
            Self::System(e) => Some(e.errno),
            Self::Io { source, .. } => Errno::from_io_error(source),
            _ => None,
        };
        matches!(errno, Some(Errno::NOSPC | Errno::DQUOT))
    }

    /// A store's error.
    pub(crate) fn store(what: impl Into<String>, why: impl std::fmt::Display) -> Self {
        Self::Store {
            what: what.into(),
            why: why.to_string(),
        }
    }

    /// Not in the store.
    pub(crate) fn not_stored(what: impl Into<String>) -> Self {
        Self::Missing {
            what: what.into(),
            why: "the store has no such image".to_owned(),
        }
    }

    /// An error of reading or writing.
    pub(crate) fn io(what: impl Into<String>, source: std::io::Error) -> Self {
        Self::Io {
            what: what.into(),
            source,
        }
    }
}

impl Error {
    /// Whether this says that the thing asked for does not exist.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        match self {
            Self::Missing { .. } => true,
            Self::Status { status, .. } => *status == 404,
            Self::Io { source, .. } => source.kind() == std::io::ErrorKind::NotFound,
            _ => false,
        }
    }

    /// Whether the same request may succeed another time.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            // A certificate or a name does not become better by waiting.
            Self::Connection { why, .. } => !why.starts_with("TLS:") && !why.contains("no address"),
            Self::Interrupted { .. } => true,
            Self::Status { status, .. } => crate::registry::is_transient(*status),
            _ => false,
        }
    }
}
