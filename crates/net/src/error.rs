//! What can go wrong.

/// What functions of this crate return.
pub type Result<T> = std::result::Result<T, Error>;

/// An error: one line that names the operation, its arguments and the reason.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed, or the kernel refused a netlink request.
    #[error(transparent)]
    Sys(#[from] sys::Error),
    /// Another error, and what was being done.
    #[error("{doing}: {source}")]
    While {
        /// A phrase such as `make the bridge hull0`.
        doing: String,
        /// What went wrong with it.
        source: Box<Self>,
    },
    /// A configuration or a request that cannot be honoured.
    #[error("{0}")]
    Invalid(String),
    /// A file of ours or an answer of a plugin that is not what it should be.
    #[error("{what}: {source}")]
    Json {
        /// The document.
        what: String,
        /// The parser's complaint.
        source: serde_json::Error,
    },
    /// No address is left, or the one that was asked for is taken.
    #[error("{0}")]
    Exhausted(String),
    /// A host port is taken.
    #[error("{0}")]
    PortTaken(String),
    /// What is in use cannot be changed.
    #[error("{0}")]
    Busy(String),
    /// What there is differs from what there should be.
    #[error("{0}")]
    Drift(String),
    /// A CNI plugin failed, with the code it gave.
    #[error("{message}")]
    Cni {
        /// CNI's error code; 0 where the plugin gave none.
        code: u32,
        /// One line: plugin, command, reason.
        message: String,
    },
    /// Several operations failed; teardown went on after each.
    #[error("{}", joined(.0))]
    Several(Vec<Self>),
}

/// Sorts of errors, for callers that decide by them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ErrorKind {
    /// The kernel or a plugin refused.
    Failed,
    /// The request or the configuration is at fault.
    Invalid,
    /// No address or no port is left: later it may work.
    Exhausted,
    /// The network is not as it should be.
    Drift,
    /// Later it may work (CNI's code 11; what is in use).
    TryAgain,
}

impl Error {
    /// What sort of error it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::While { source, .. } => source.kind(),
            Self::Invalid(_) => ErrorKind::Invalid,
            Self::Exhausted(_) | Self::PortTaken(_) => ErrorKind::Exhausted,
            Self::Drift(_) => ErrorKind::Drift,
            Self::Busy(_) | Self::Cni { code: 11, .. } => ErrorKind::TryAgain,
            Self::Several(list) => list.first().map_or(ErrorKind::Failed, Self::kind),
            Self::Sys(_) | Self::Json { .. } | Self::Cni { .. } => ErrorKind::Failed,
        }
    }

    /// The errno at the bottom, if the kernel gave one.
    #[must_use]
    pub fn errno(&self) -> Option<sys::Errno> {
        match self {
            Self::Sys(error) => Some(error.errno),
            Self::While { source, .. } => source.errno(),
            _ => None,
        }
    }

    /// One error of many; none if there is none.
    #[must_use]
    pub fn from_several(mut errors: Vec<Self>) -> Option<Self> {
        if errors.len() > 1 {
            return Some(Self::Several(errors));
        }
        errors.pop()
    }
}

fn joined(errors: &[Error]) -> String {
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    lines.join("; ")
}

/// Adds what was being done.
pub(crate) trait Doing<T> {
    fn doing<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<Error>> Doing<T> for std::result::Result<T, E> {
    fn doing<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|error| Error::While {
            doing: doing().into(),
            source: Box::new(error.into()),
        })
    }
}

/// Leaves errors of these numbers out: what should go is gone.
pub(crate) fn unless<T: Default>(
    result: std::result::Result<T, sys::Error>,
    gone: &[sys::Errno],
) -> Result<T> {
    match result {
        Err(error) if gone.contains(&error.errno) => Ok(T::default()),
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_are_one_line() {
        let one = || Error::Invalid("a".into());
        assert!(Error::from_several(Vec::new()).is_none());
        assert_eq!(Error::from_several(vec![one()]).unwrap().to_string(), "a");
        let two = Error::from_several(vec![one(), Error::Exhausted("b".into())]).unwrap();
        assert_eq!(
            (two.to_string().as_str(), two.kind()),
            ("a; b", ErrorKind::Invalid)
        );
    }
}
