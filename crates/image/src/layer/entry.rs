//! One entry of a layer, checked.

use std::collections::BTreeMap;
use std::fmt;

use crate::{Error, Result};

/// Longest path of an entry: PATH_MAX of Linux.
const PATH_LIMIT: usize = 4096;
/// Longest component: NAME_MAX of Linux.
const NAME_LIMIT: usize = 255;

/// An entry of a tar stream.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Entry {
    /// Where in the layer.
    pub path: EntryPath,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits with set-id and sticky bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of last modification.
    pub mtime: Timestamp,
    /// Extended attributes by their full names.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What an entry is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum EntryKind {
    /// A regular file.
    File {
        /// Size, holes included.
        size: u64,
        /// Where its data goes; one extent for all of it unless the file is sparse.
        extents: Vec<Extent>,
    },
    /// A directory.
    Directory,
    /// A symbolic link; the target is text and never resolved outside of the root.
    Symlink {
        /// As the layer's author wrote it.
        target: Vec<u8>,
    },
    /// Another name for a file of this or a lower layer.
    Hardlink {
        /// The other name.
        target: EntryPath,
    },
    /// Character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// Block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// Named pipe.
    Fifo,
}

impl Default for EntryKind {
    /// An empty file.
    fn default() -> Self {
        Self::File {
            size: 0,
            extents: Vec::new(),
        }
    }
}

/// A run of data in a sparse file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Extent {
    /// Where it begins in the file.
    pub offset: u64,
    /// Its length.
    pub len: u64,
}

/// Seconds and nanoseconds since 1970.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Timestamp {
    /// Seconds; before 1970 they are negative.
    pub secs: i64,
    /// Nanoseconds, below 1,000,000,000.
    pub nanos: u32,
}

/// A path inside a layer: components that are neither empty nor `.` nor `..`, without slash and
/// NUL. The root is the path without components.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct EntryPath(Vec<Vec<u8>>);

impl EntryPath {
    /// Reads a path of a tar header. A leading slash and `.` components mean nothing and go; a
    /// `..` is refused: no tool that makes layers writes one, only people with a plan do.
    ///
    /// # Errors
    /// A component or the whole that no file system could hold, or `..`.
    pub fn parse(raw: &[u8]) -> Result<Self> {
        let refuse = |why| Error::Layer {
            what: format!("path {}", Shown(raw)),
            why,
        };
        if raw.len() > PATH_LIMIT {
            return Err(refuse("longer than 4096 bytes"));
        }
        let mut components = Vec::new();
        for component in raw.split(|&b| b == b'/') {
            match component {
                b"" | b"." => continue,
                b".." => return Err(refuse("leads outside with ..")),
                name if name.contains(&0) => return Err(refuse("contains a NUL byte")),
                name if name.len() > NAME_LIMIT => {
                    return Err(refuse("a component longer than 255 bytes"));
                }
                name => components.push(name.to_vec()),
            }
        }
        Ok(Self(components))
    }

    /// Takes components that came from checked paths or from a directory.
    pub(crate) fn from_checked(components: Vec<Vec<u8>>) -> Self {
        Self(components)
    }

    /// The components with slashes between; empty for the root.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.join(&b'/')
    }

    /// Whether it is the root itself.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The components, outermost first.
    #[must_use]
    pub fn components(&self) -> &[Vec<u8>] {
        &self.0
    }

    /// The last component; empty for the root.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.0.last().map_or(b"", Vec::as_slice)
    }

    /// The directory it is in; the root's is the root.
    #[must_use]
    pub fn parent(&self) -> Self {
        let len = self.0.len().saturating_sub(1);
        Self(self.0.get(..len).unwrap_or_default().to_vec())
    }

    /// The entry `name` in this directory.
    ///
    /// # Errors
    /// Not one component.
    pub fn join(&self, name: &[u8]) -> Result<Self> {
        let one = Self::parse(name)?;
        if one.0.len() != 1 {
            let what = format!("name {}", Shown(name));
            return Err(Error::Layer {
                what,
                why: "not one component",
            });
        }
        let mut components = self.0.clone();
        components.extend(one.0);
        Ok(Self(components))
    }
}

impl fmt::Display for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("/");
        }
        for component in &self.0 {
            write!(f, "/{}", Shown(component))?;
        }
        Ok(())
    }
}

/// Foreign bytes in a message: escaped, and cut where they would fill the screen.
pub(crate) struct Shown<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cut = self.0.get(..200).unwrap_or(self.0);
        write!(f, "{}", cut.escape_ascii())?;
        if cut.len() < self.0.len() {
            f.write_str("…")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ways_down() {
        for (raw, shown) in [
            ("a/b", "/a/b"),
            ("./a//b/", "/a/b"),
            ("/etc/", "/etc"),
            ("", "/"),
            ("./", "/"),
            (".", "/"),
        ] {
            assert_eq!(EntryPath::parse(raw.as_bytes()).unwrap().to_string(), shown);
        }
        for raw in ["..", "a/../b", "/..", "a\0b"] {
            assert!(EntryPath::parse(raw.as_bytes()).is_err(), "{raw:?}");
        }
        assert!(EntryPath::parse(&[b'a'; 256]).is_err());
        assert!(EntryPath::parse(&b"a/".repeat(3000)).is_err());
    }

    #[test]
    fn parents_and_children() {
        let path = EntryPath::parse(b"a/b").unwrap();
        assert_eq!(path.parent().join(b"b").unwrap(), path);
        assert_eq!(path.name(), b"b");
        assert!(EntryPath::default().parent().is_root());
        assert!(path.join(b"c/d").is_err() && path.join(b".").is_err());
    }
}
