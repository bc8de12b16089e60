//! What can go wrong.

use crate::protocol::{Failure, Kind};

/// What functions of this crate return.
pub type Result<T> = std::result::Result<T, Error>;

/// An error: one line that names the operation, its arguments and the reason.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error(transparent)]
    Sys(#[from] sys::Error),
    /// The runtime could not do it.
    #[error(transparent)]
    Runtime(#[from] runtime::Error),
    /// JSON that cannot be read or written.
    #[error("{what}: {source}")]
    Json {
        /// The document.
        what: String,
        /// The parser's complaint.
        source: serde_json::Error,
    },
    /// The request cannot be honoured.
    #[error("{0}")]
    Invalid(String),
    /// The supervisor says so.
    #[error("{}", .0.message)]
    Failed(Failure),
    /// The other side has gone.
    #[error("the supervisor at {0} has gone")]
    Gone(String),
}

impl Error {
    /// The sort of this error.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Sys(_) | Self::Json { .. } | Self::Gone(_) => Kind::Failed,
            Self::Runtime(e) => kind_of(e.kind()),
            Self::Invalid(_) => Kind::Invalid,
            Self::Failed(failure) => failure.kind,
        }
    }

    /// As it is sent.
    #[must_use]
    pub fn to_failure(&self) -> Failure {
        Failure {
            kind: self.kind(),
            message: self.to_string(),
        }
    }

    pub(crate) fn of_kind(kind: Kind, message: impl Into<String>) -> Self {
        let message = message.into();
        Self::Failed(Failure { kind, message })
    }
}

/// The runtime's kinds in our words.
pub(crate) fn kind_of(kind: runtime::ErrorKind) -> Kind {
    use runtime::ErrorKind as K;
    match kind {
        K::Failed => Kind::Failed,
        K::Invalid => Kind::Invalid,
        K::NotFound => Kind::NotFound,
        K::Exists => Kind::Exists,
        K::WrongState => Kind::WrongState,
        K::Program => Kind::Program,
    }
}
