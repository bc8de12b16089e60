//! Container ids.

use std::fmt;

use crate::{Error, Result};

/// Longest id: a file name's limit, less what the files beside it add.
const MAX: usize = 200;

/// A checked container id: ASCII letters, digits, and `_ + , - .`, as runc accepts them.
///
/// Such an id is one component of a path, never `.` or `..`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ContainerId(String);

impl ContainerId {
    /// Checks `id`.
    ///
    /// # Errors
    /// [`Error::InvalidId`].
    pub fn new(id: &str) -> Result<Self> {
        let ok =
            !id.is_empty() && id.len() <= MAX && id.bytes().all(allowed) && id != "." && id != "..";
        if ok {
            Ok(Self(id.to_owned()))
        } else {
            Err(Error::InvalidId(id.to_owned()))
        }
    }

    /// The id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// runc's pattern `[\w+-\.]`: the hyphen makes a range from `+` to `.`, so a comma is in it.
const fn allowed(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'+' | b',' | b'-' | b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_runc_takes() {
        for good in [
            "a",
            "A_b-c.d+e",
            "...",
            ".x",
            "0",
            "a,b",
            "-x",
            &"x".repeat(200),
        ] {
            assert_eq!(ContainerId::new(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "../a",
            "a b",
            "ä",
            "a\0",
            "a@b",
            &"x".repeat(201),
        ] {
            let e = ContainerId::new(bad).unwrap_err();
            assert!(e.to_string().starts_with("invalid container ID format"));
        }
    }
}
