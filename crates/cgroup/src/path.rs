//! `linux.cgroupsPath`: which directory a container's control group gets.
//!
//! The rules, which are runc's unless said otherwise:
//! - absolute: below the mount point of each hierarchy;
//! - relative: below the control group that this process is in, in each version 1 hierarchy (and
//!   in the unified tree beside them). On a pure version 2 machine below the *parent* of our
//!   own group, because a group that has processes cannot hand controllers to children;
//! - empty: as the relative path made of the container's id;
//! - with the systemd driver: `slice:prefix:name` (see [`crate::systemd`]).
//!
//! Unlike runc, which resolves `..` away, `..` is refused; so is a path that names the top.

use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::layout::{Hierarchy, Mode};

/// A checked `cgroupsPath` of the cgroupfs form; both hold clean relative paths.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum CgroupPath {
    /// Below the mount point.
    Absolute(String),
    /// Below our own control group.
    Relative(String),
}

impl CgroupPath {
    /// Checks what the configuration says; `id` is the container's.
    pub(crate) fn parse(path: Option<&str>, id: &str) -> Result<Self> {
        let given = path.unwrap_or_default();
        let refuse = |reason| Error::Path {
            path: given.to_owned(),
            reason,
        };
        let wanted = if given.is_empty() { id } else { given };
        if wanted.contains(['\0', '\n']) {
            return Err(refuse("holds a control character"));
        }
        let mut parts = Vec::new();
        for part in wanted.split('/') {
            match part {
                "" | "." => {}
                ".." => return Err(refuse("\"..\" is not allowed")),
                part => parts.push(part),
            }
        }
        if parts.is_empty() {
            return Err(refuse("names the top of the hierarchy"));
        }
        let clean = parts.join("/");
        Ok(if given.starts_with('/') {
            Self::Absolute(clean)
        } else {
            Self::Relative(clean)
        })
    }

    /// The directory in one hierarchy.
    pub(crate) fn resolve(&self, hierarchy: &Hierarchy, mode: Mode) -> PathBuf {
        match self {
            Self::Absolute(path) => hierarchy.mountpoint.join(path),
            Self::Relative(path) => {
                let mut dir = hierarchy.own_dir();
                if mode == Mode::V2 && dir != hierarchy.mountpoint {
                    dir.pop();
                }
                dir.join(path)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    fn hierarchy(own: &str) -> Hierarchy {
        Hierarchy {
            controllers: vec!["memory".into()],
            mountpoint: "/m".into(),
            root: "/".into(),
            own: own.into(),
        }
    }

    #[test]
    fn rules() {
        let cases = [
            (Some("/a//b/./c/"), "/own", Mode::V1, "/m/a/b/c"),
            (Some("a/b"), "/own", Mode::V1, "/m/own/a/b"),
            (Some("a/b"), "/", Mode::Hybrid, "/m/a/b"),
            (Some("a/b"), "/x/own", Mode::V2, "/m/x/a/b"),
            (Some("a/b"), "/", Mode::V2, "/m/a/b"),
            (None, "/own", Mode::V1, "/m/own/id1"),
            (Some(""), "/x/own", Mode::V2, "/m/x/id1"),
        ];
        for (path, own, mode, want) in cases {
            let got = CgroupPath::parse(path, "id1").unwrap();
            let got = got.resolve(&hierarchy(own), mode);
            assert_eq!(got, Path::new(want), "{path:?} {own} {mode:?}");
        }
    }

    #[test]
    fn refused() {
        for path in ["/", "/.", ".", "..", "/a/../b", "a/..", "/..", "a\nb"] {
            let e = CgroupPath::parse(Some(path), "id1").unwrap_err();
            assert!(e.to_string().starts_with("cgroupsPath"), "{path:?}: {e}");
        }
    }

    proptest! {
        #[test]
        fn never_leaves_the_mount(path in "[a./]{0,12}", own in "(/[ab]){0,3}") {
            if let Ok(parsed) = CgroupPath::parse(Some(&path), "id1") {
                for mode in [Mode::V1, Mode::Hybrid, Mode::V2] {
                    let dir = parsed.resolve(&hierarchy(&own), mode);
                    prop_assert!(dir.starts_with("/m") && dir != Path::new("/m"));
                    prop_assert!(!dir.to_string_lossy().contains("/../"));
                }
            }
        }
    }
}
