//! What can go wrong with a pod, one line each.

use std::fmt;

/// What kind of failure, for the status code of the caller's protocol.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// The request cannot be honoured by anybody.
    Invalid,
    /// No such pod, container, image or handler.
    NotFound,
    /// Something else has that name.
    Exists,
    /// Not in this state.
    State,
    /// A limit.
    Exhausted,
    /// A deadline.
    Deadline,
    /// Not now: shutting down, or a part of us is not ready.
    Unavailable,
    /// The kernel or a program refused.
    Failed,
}

/// An error that all who joined an operation get.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{text}")]
pub struct Error {
    kind: Kind,
    text: String,
}

/// The crate's result.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of `kind`; `text` names the operation, its arguments and the reason.
    pub fn new(kind: Kind, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { kind, text }
    }

    /// What kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn invalid(text: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, text)
    }

    pub(crate) fn failed(what: impl fmt::Display, reason: impl fmt::Display) -> Self {
        Self::new(Kind::Failed, format!("{what}: {reason}"))
    }

    pub(crate) fn not_found(what: &str, id: &str) -> Self {
        let hint = if id.is_empty() {
            " (an empty id was given)"
        } else {
            ""
        };
        Self::new(Kind::NotFound, format!("{what} {id}: not found{hint}"))
    }

    /// The same with the operation that met it in front.
    #[must_use]
    pub fn within(self, what: impl fmt::Display) -> Self {
        Self::new(self.kind, format!("{what}: {}", self.text))
    }
}

/// Gives a foreign error its operation.
pub(crate) trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: fmt::Display> Doing<T> for std::result::Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e| Error::failed(what(), e))
    }
}
