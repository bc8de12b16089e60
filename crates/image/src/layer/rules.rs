//! What the image specification says of names and attributes (layer.md).

use std::collections::BTreeMap;

use super::EntryPath;
use crate::{Error, Result};

/// Prefix of a name that hides the rest of it in the layers below.
const WHITEOUT: &[u8] = b".wh.";
/// Prefix of names that union file systems used for themselves.
const META: &[u8] = b".wh..wh.";
/// Hides all that the layers below have in its directory.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What a name in a layer means.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Meaning {
    /// An entry of its own.
    Entry,
    /// The entry of this path is hidden in the layers below.
    Whiteout(EntryPath),
    /// All entries of this directory are hidden in the layers below.
    Opaque(EntryPath),
    /// A union file system's own record: not part of the tree.
    Nothing,
}

/// What `path` means.
///
/// # Errors
/// A whiteout of nothing, or a whiteout used as a directory.
pub fn meaning(path: &EntryPath) -> Result<Meaning> {
    let refuse = |why| Error::Layer {
        what: path.to_string(),
        why,
    };
    let parents = path.components().len().saturating_sub(1);
    let is_whiteout = |c: &Vec<u8>| c.starts_with(WHITEOUT);
    if path.components().iter().take(parents).any(is_whiteout) {
        if path.components().iter().any(|c| c.starts_with(META)) {
            return Ok(Meaning::Nothing);
        }
        return Err(refuse("a whiteout used as a directory"));
    }
    let name = path.name();
    if name == OPAQUE {
        return Ok(Meaning::Opaque(path.parent()));
    }
    if name.starts_with(META) {
        return Ok(Meaning::Nothing);
    }
    match name.strip_prefix(WHITEOUT) {
        None => Ok(Meaning::Entry),
        Some(b"" | b"." | b"..") => Err(refuse("a whiteout of nothing")),
        Some(hidden) => path.parent().join(hidden).map(Meaning::Whiteout),
    }
}

/// Where attributes go, which decides what becomes of the overlay file system's own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum XattrUse {
    /// A tree that is used as it is.
    Plain,
    /// A layer below an overlay: its own attributes have meaning there, so those of the image
    /// are stored under escaped names, as the overlay itself would store them (Linux 6.7).
    Overlay,
}

/// The prefixes that overlayfs keeps for itself, with and without `userxattr`.
const OVERLAY: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];
/// Of the machine where the image was made; no use elsewhere.
const FOREIGN: [&[u8]; 2] = [b"security.selinux", b"system.nfs4_acl"];
/// Most bytes of all attributes of an entry, names included.
const XATTR_LIMIT: usize = 64 << 10;

/// The attributes that an entry gets.
///
/// # Errors
/// More than 64 KiB of them.
pub fn xattrs(
    given: BTreeMap<Vec<u8>, Vec<u8>>,
    to: XattrUse,
) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let total: usize = given.iter().map(|(k, v)| k.len() + v.len() + 8).sum();
    if total > XATTR_LIMIT {
        return Err(Error::Layer {
            what: "extended attributes".to_owned(),
            why: "more than 64 KiB for one entry",
        });
    }
    let plain = to == XattrUse::Plain || !given.keys().any(|k| overlay_prefix(k).is_some());
    let mut kept = given;
    kept.retain(|k, _| !FOREIGN.contains(&k.as_slice()));
    if plain {
        return Ok(kept);
    }
    Ok(kept
        .into_iter()
        .map(|(k, v)| match overlay_prefix(&k) {
            Some(prefix) => {
                let rest = k.get(prefix.len()..).unwrap_or_default();
                ([prefix, b"overlay.", rest].concat(), v)
            }
            None => (k, v),
        })
        .collect())
}

fn overlay_prefix(name: &[u8]) -> Option<&'static [u8]> {
    OVERLAY.into_iter().find(|p| name.starts_with(p))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(raw: &str) -> EntryPath {
        EntryPath::parse(raw.as_bytes()).unwrap()
    }

    #[test]
    fn names() {
        for (raw, wanted) in [
            ("a/b", Meaning::Entry),
            ("", Meaning::Entry),
            ("a/.wh.b", Meaning::Whiteout(path("a/b"))),
            (".wh.b", Meaning::Whiteout(path("b"))),
            ("a/.wh..wh..opq", Meaning::Opaque(path("a"))),
            (".wh..wh..opq", Meaning::Opaque(path(""))),
            (".wh..wh.plnk", Meaning::Nothing),
            (".wh..wh.plnk/1.2", Meaning::Nothing),
            ("a/.whx", Meaning::Entry),
        ] {
            assert_eq!(meaning(&path(raw)).unwrap(), wanted, "{raw}");
        }
        for raw in ["a/.wh.", ".wh..", ".wh...", ".wh.a/b"] {
            assert!(meaning(&path(raw)).is_err(), "{raw}");
        }
    }

    #[test]
    fn attributes() {
        let all = |names: &[&str]| -> BTreeMap<Vec<u8>, Vec<u8>> {
            names
                .iter()
                .map(|n| (n.as_bytes().to_vec(), vec![1]))
                .collect()
        };
        let given = all(&[
            "security.selinux",
            "system.nfs4_acl",
            "security.capability",
            "trusted.overlay.opaque",
            "user.overlay.whiteout",
            "user.x",
        ]);
        let plain = xattrs(given.clone(), XattrUse::Plain).unwrap();
        let kept = all(&[
            "security.capability",
            "trusted.overlay.opaque",
            "user.overlay.whiteout",
            "user.x",
        ]);
        assert_eq!(plain, kept);
        let escaped = xattrs(given, XattrUse::Overlay).unwrap();
        let kept = all(&[
            "security.capability",
            "trusted.overlay.overlay.opaque",
            "user.overlay.overlay.whiteout",
            "user.x",
        ]);
        assert_eq!(escaped, kept);
        let huge = [(b"user.x".to_vec(), vec![0; XATTR_LIMIT])].into();
        assert!(xattrs(huge, XattrUse::Plain).is_err());
    }
}
