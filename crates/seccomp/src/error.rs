//! What can be wrong with a profile.

use std::path::PathBuf;

/// A profile that cannot be compiled, or a cache that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An `architectures` word is not in the specification.
    #[error("seccomp: unknown architecture {0:?}")]
    UnknownArchitecture(String),
    /// An action word is not in the specification.
    #[error("seccomp: unknown action {0:?}")]
    UnknownAction(String),
    /// An operator word is not in the specification.
    #[error("seccomp: unknown operator {0:?}")]
    UnknownOperator(String),
    /// A flag word is not in the specification.
    #[error("seccomp: unknown flag {0:?}")]
    UnknownFlag(String),
    /// A name that no architecture's table has, where that was to be refused.
    #[error("seccomp: unknown system call {0:?}")]
    UnknownSyscall(String),
    /// An empty name.
    #[error("seccomp: a system call's name is empty")]
    EmptyName,
    /// `errnoRet` beside an action that returns none.
    #[error("seccomp: errnoRet {value} given for {action}, which takes none")]
    ErrnoUnused {
        /// The action's word.
        action: String,
        /// What was given.
        value: u32,
    },
    /// `errnoRet` that the kernel cannot return.
    #[error("seccomp: errnoRet {value} of {action} is above {max}")]
    ErrnoRange {
        /// The action's word.
        action: String,
        /// What was given.
        value: u32,
        /// The largest possible.
        max: u32,
    },
    /// A condition on a seventh argument.
    #[error("seccomp: {name}: argument index {index} is above 5")]
    ArgumentIndex {
        /// First name of the rule.
        name: String,
        /// What was given.
        index: u32,
    },
    /// SCMP_ACT_NOTIFY where it would stop the container's start for good.
    #[error("seccomp: SCMP_ACT_NOTIFY cannot be used {0}")]
    Notify(&'static str),
    /// The kernel takes 4096 instructions.
    #[error("seccomp: the filter has {0} instructions, the kernel takes 4096")]
    TooLong(usize),
    /// A cache directory that others may write to.
    #[error("seccomp: cache {}: owner {uid}, mode {mode:04o}; must be {owner}, 0700", path.display())]
    Untrusted {
        /// The directory.
        path: PathBuf,
        /// Who owns it.
        uid: u32,
        /// Its permission bits.
        mode: u32,
        /// Who should own it.
        owner: u32,
    },
    /// A cache directory that cannot be made.
    #[error("seccomp: cache: {0}")]
    Cache(#[from] sys::Error),
}

/// What sort of failure an [`Error`] is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ErrorKind {
    /// The profile contradicts the specification.
    Invalid,
    /// The profile is right, but more than the kernel takes.
    TooLong,
    /// The cache's directory cannot be used; compiling without it can go on.
    Cache,
}

impl Error {
    /// What sort of failure this is.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::TooLong(_) => ErrorKind::TooLong,
            Self::Untrusted { .. } | Self::Cache(_) => ErrorKind::Cache,
            _ => ErrorKind::Invalid,
        }
    }
}
