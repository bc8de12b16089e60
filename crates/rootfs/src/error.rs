//! What can go wrong, in one line.

use std::fmt::Display;

use sys::Errno;

/// A failed step of making the root file system.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused a call.
    #[error("{step}: {source}")]
    System {
        /// What was being done: `mount tmpfs on "/dev"`.
        step: String,
        /// The call that failed.
        #[source]
        source: sys::Error,
    },
    /// It would be unsafe or contradicts what is there.
    #[error("{step}: {why}")]
    Refused {
        /// What was asked for.
        step: String,
        /// Why not.
        why: String,
    },
}

/// Classes of [`Error`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ErrorKind {
    /// A call failed for this reason.
    System(Errno),
    /// Refused by policy.
    Refused,
}

/// What functions of this crate return.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The class.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::System { source, .. } => ErrorKind::System(source.errno),
            Self::Refused { .. } => ErrorKind::Refused,
        }
    }

    pub(crate) fn refused(step: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Refused {
            step: step.into(),
            why: why.into(),
        }
    }
}

/// Names the step that a failed call belonged to.
pub(crate) trait Step<T> {
    /// `step` is only evaluated on failure.
    fn step<D: Display>(self, step: impl FnOnce() -> D) -> Result<T>;
}

impl<T> Step<T> for sys::Result<T> {
    fn step<D: Display>(self, step: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|source| Error::System {
            step: step().to_string(),
            source,
        })
    }
}
