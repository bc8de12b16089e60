//! One error type: the call, its arguments, the reason.

use std::fmt;

use rustix::io::Errno;

/// A failed system call, printed as `openat2(5</run/x>, "etc", RESOLVE_IN_ROOT): permission denied`.
///
/// The reason is written the way callers of OCI runtimes match it: the C library's text with a
/// small first letter (`no such file or directory`).
#[derive(Clone, Debug, thiserror::Error, Eq, PartialEq)]
#[error("{call}({args}): {}", ErrnoText(*errno))]
pub struct Error {
    /// Name of the call.
    pub call: &'static str,
    /// Its arguments, for people.
    pub args: String,
    /// The reason.
    pub errno: Errno,
}

/// What functions of this crate return.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error for a call that failed.
    pub fn new(call: &'static str, args: impl Into<String>, errno: Errno) -> Self {
        Self {
            call,
            args: args.into(),
            errno,
        }
    }
}

/// Adds call and arguments to a bare errno.
pub trait Context<T> {
    /// Names the call that failed; `args` is only evaluated on failure.
    fn context<A: Into<String>>(self, call: &'static str, args: impl FnOnce() -> A) -> Result<T>;
}

impl<T> Context<T> for rustix::io::Result<T> {
    fn context<A: Into<String>>(self, call: &'static str, args: impl FnOnce() -> A) -> Result<T> {
        self.map_err(|errno| Error::new(call, args(), errno))
    }
}

impl<T> Context<T> for std::io::Result<T> {
    fn context<A: Into<String>>(self, call: &'static str, args: impl FnOnce() -> A) -> Result<T> {
        self.map_err(|e| {
            let errno = Errno::from_io_error(&e).unwrap_or(Errno::IO);
            Error::new(call, args(), errno)
        })
    }
}

/// Displays an errno as the C library's text with a small first letter.
#[derive(Clone, Copy, Debug)]
pub struct ErrnoText(pub Errno);

impl fmt::Display for ErrnoText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = std::io::Error::from(self.0).to_string();
        let text = text.split(" (os error").next().unwrap_or(&text);
        let mut chars = text.chars();
        match chars.next() {
            // "RPC error", "I/O error" keep theirs: only a capital before a small letter is one of style.
            Some(first) if chars.clone().next().is_some_and(char::is_lowercase) => {
                write!(f, "{}{}", first.to_lowercase(), chars.as_str())
            }
            _ => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_like_a_line_of_strace() {
        let e = Error::new("openat2", "5, \"etc\"", Errno::NOENT);
        assert_eq!(
            e.to_string(),
            "openat2(5, \"etc\"): no such file or directory"
        );
        assert_eq!(
            ErrnoText(Errno::PERM).to_string(),
            "operation not permitted"
        );
        assert_eq!(ErrnoText(Errno::ACCESS).to_string(), "permission denied");
        assert_eq!(ErrnoText(Errno::NOEXEC).to_string(), "exec format error");
    }
}
