//! The one error type of this crate, and the JSON paths in its messages.

use std::fmt;

/// Why a document was refused. Every message is one line that begins with the field's place in
/// the document: `linux.namespaces[2].type "foo": unknown namespace kind; known: …`.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Error {
    /// The document is larger than hull reads.
    #[error("document of {size} bytes: at most {limit} are read")]
    TooLarge {
        /// Its size.
        size: usize,
        /// The largest size read.
        limit: usize,
    },
    /// Not JSON, or a value of the wrong JSON type.
    #[error("{}{reason} at line {line}, column {column}", Prefix(field))]
    Json {
        /// JSON path; empty where the text itself is broken.
        field: String,
        /// What is wrong.
        reason: String,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// A field that must be there is not.
    #[error("{field}: {reason}")]
    Missing {
        /// JSON path.
        field: String,
        /// Why it must be there.
        reason: String,
    },
    /// A value that the specification does not allow.
    #[error("{field} {value}: {reason}")]
    Invalid {
        /// JSON path.
        field: String,
        /// The value, quoted.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Two fields that cannot both hold.
    #[error("{field}: {reason}")]
    Conflict {
        /// JSON path.
        field: String,
        /// With what it conflicts.
        reason: String,
    },
    /// A valid request that hull does not fulfil.
    #[error("{field}: {reason}")]
    Unsupported {
        /// JSON path.
        field: String,
        /// What is not supported.
        reason: String,
    },
}

/// The kinds of [`Error`].
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ErrorKind {
    /// [`Error::TooLarge`].
    TooLarge,
    /// [`Error::Json`].
    Json,
    /// [`Error::Missing`].
    Missing,
    /// [`Error::Invalid`].
    Invalid,
    /// [`Error::Conflict`].
    Conflict,
    /// [`Error::Unsupported`].
    Unsupported,
}

/// What functions of this crate return.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The kind, for callers that decide by it.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::TooLarge { .. } => ErrorKind::TooLarge,
            Self::Json { .. } => ErrorKind::Json,
            Self::Missing { .. } => ErrorKind::Missing,
            Self::Invalid { .. } => ErrorKind::Invalid,
            Self::Conflict { .. } => ErrorKind::Conflict,
            Self::Unsupported { .. } => ErrorKind::Unsupported,
        }
    }

    /// The JSON path, empty where there is none.
    #[must_use]
    pub fn field(&self) -> &str {
        match self {
            Self::TooLarge { .. } => "",
            Self::Json { field, .. }
            | Self::Missing { field, .. }
            | Self::Invalid { field, .. }
            | Self::Conflict { field, .. }
            | Self::Unsupported { field, .. } => field,
        }
    }
}

/// `path: `, or nothing for the document itself.
struct Prefix<'a>(&'a str);

impl fmt::Display for Prefix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        write!(f, "{}: ", self.0)
    }
}

/// A place in the document, for messages. It is a chain of borrowed steps: nothing is
/// allocated unless an error is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At<'a> {
    parent: Option<&'a At<'a>>,
    step: Step<'a>,
}

/// One step of a path.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step<'a> {
    /// `.name`
    Field(&'a str),
    /// `[3]`
    Index(usize),
    /// `["any text"]`
    Key(&'a str),
}

impl<'a> At<'a> {
    /// A field of the document itself.
    pub(crate) const fn top(name: &'a str) -> Self {
        Self {
            parent: None,
            step: Step::Field(name),
        }
    }

    /// A field below.
    pub(crate) const fn field<'b>(&'b self, name: &'b str) -> At<'b> {
        At {
            parent: Some(self),
            step: Step::Field(name),
        }
    }

    /// An element of this array.
    pub(crate) const fn index(&self, index: usize) -> At<'_> {
        At {
            parent: Some(self),
            step: Step::Index(index),
        }
    }

    /// A key of this map.
    pub(crate) const fn key<'b>(&'b self, key: &'b str) -> At<'b> {
        At {
            parent: Some(self),
            step: Step::Key(key),
        }
    }

    /// The field must be there.
    pub(crate) fn missing(&self, reason: impl Into<String>) -> Error {
        Error::Missing {
            field: self.to_string(),
            reason: reason.into(),
        }
    }

    /// The value is not allowed.
    pub(crate) fn invalid(&self, value: impl fmt::Debug, reason: impl Into<String>) -> Error {
        Error::Invalid {
            field: self.to_string(),
            value: quoted(value),
            reason: reason.into(),
        }
    }

    /// The field contradicts another.
    pub(crate) fn conflict(&self, reason: impl Into<String>) -> Error {
        Error::Conflict {
            field: self.to_string(),
            reason: reason.into(),
        }
    }

    /// The request is not fulfilled.
    pub(crate) fn unsupported(&self, reason: impl Into<String>) -> Error {
        Error::Unsupported {
            field: self.to_string(),
            reason: reason.into(),
        }
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
            return self.step.fmt(f);
        }
        match self.step {
            Step::Field(name) => f.write_str(name),
            step => step.fmt(f),
        }
    }
}

impl fmt::Display for Step<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Index(index) => write!(f, "[{index}]"),
            Self::Key(key) => write!(f, "[{}]", quoted(key)),
        }
    }
}

/// Longest quotation in a message, in characters.
const QUOTE_MAX: usize = 120;

/// A value as Rust would write it: control characters are escaped, so it stays on one line.
pub(crate) fn quoted(value: impl fmt::Debug) -> String {
    let text = format!("{value:?}");
    match text.char_indices().nth(QUOTE_MAX) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_begins_with_the_json_path() {
        let linux = At::top("linux");
        let e = linux
            .field("namespaces")
            .index(2)
            .field("type")
            .invalid("foo", "unknown namespace kind");
        assert_eq!(
            e.to_string(),
            "linux.namespaces[2].type \"foo\": unknown namespace kind"
        );
        assert_eq!(e.kind(), ErrorKind::Invalid);
        assert_eq!(e.field(), "linux.namespaces[2].type");
        let e = linux.field("sysctl").key("a\nb").conflict("no");
        assert_eq!(e.to_string(), "linux.sysctl[\"a\\nb\"]: no");
    }

    #[test]
    fn long_values_are_cut() {
        let e = At::top("hostname").invalid("é".repeat(10_000), "too long");
        assert!(e.to_string().chars().count() < QUOTE_MAX + 40);
    }
}
