//! Who owns what is unpacked.

use std::collections::BTreeMap;

use crate::{Error, Result};

/// Where an unprivileged unpack keeps the owner that it cannot give (umoci, rootlesscontaine.rs).
pub const ROOTLESS_XATTR: &[u8] = b"user.rootlesscontainers";

/// A range of ids: those from `container` on are `host` and following.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct IdMap {
    /// First id inside.
    pub container: u32,
    /// First id outside.
    pub host: u32,
    /// How many.
    pub count: u32,
}

impl IdMap {
    /// The id outside of `id`.
    #[must_use]
    pub fn to_host(maps: &[Self], id: u32) -> Option<u32> {
        maps.iter().find_map(|m| {
            let at = id.checked_sub(m.container)?;
            (at < m.count).then(|| m.host.checked_add(at)).flatten()
        })
    }

    /// The id inside of `id`.
    #[must_use]
    pub fn to_container(maps: &[Self], id: u32) -> Option<u32> {
        maps.iter().find_map(|m| {
            let at = id.checked_sub(m.host)?;
            (at < m.count)
                .then(|| m.container.checked_add(at))
                .flatten()
        })
    }
}

/// How the owners written in an image become owners on disk.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Ownership {
    /// As they are.
    #[default]
    AsWritten,
    /// Through maps; an owner outside of them is an error.
    Mapped {
        /// Users.
        uids: Vec<IdMap>,
        /// Groups.
        gids: Vec<IdMap>,
    },
    /// As they are, in a user namespace that has them: devices become empty files, and what only
    /// the machine's root may set is left out.
    Subordinate,
    /// All belongs to whoever unpacks; another owner is kept in [`ROOTLESS_XATTR`], devices
    /// become empty files.
    Rootless,
}

impl Ownership {
    /// The owner on disk of what the image says belongs to `uid` and `gid`; `None` for whoever
    /// makes the file.
    ///
    /// # Errors
    /// Not in the maps.
    pub fn on_disk(&self, uid: u32, gid: u32) -> Result<Option<(u32, u32)>> {
        match self {
            Self::AsWritten | Self::Subordinate => Ok(Some((uid, gid))),
            Self::Rootless => Ok(None),
            Self::Mapped { uids, gids } => {
                let map = |maps: &[IdMap], id: u32, what: &str| {
                    IdMap::to_host(maps, id).ok_or_else(|| {
                        Error::store(
                            "unpack",
                            format!("{what} {id} of the image is not in the map: map more ids"),
                        )
                    })
                };
                Ok(Some((map(uids, uid, "user")?, map(gids, gid, "group")?)))
            }
        }
    }

    /// The owner in the image of what belongs to `uid` and `gid` on disk.
    ///
    /// # Errors
    /// Not in the maps.
    pub fn in_image(
        &self,
        uid: u32,
        gid: u32,
        xattrs: &BTreeMap<Vec<u8>, Vec<u8>>,
    ) -> Result<(u32, u32)> {
        let outside =
            |what: &str, id: u32| Error::store("repack", format!("{what} {id} is not in the map"));
        match self {
            Self::AsWritten | Self::Subordinate => Ok((uid, gid)),
            Self::Rootless => Ok(xattrs
                .get(ROOTLESS_XATTR)
                .and_then(|v| decode(v))
                .unwrap_or((0, 0))),
            Self::Mapped { uids, gids } => Ok((
                IdMap::to_container(uids, uid).ok_or_else(|| outside("user", uid))?,
                IdMap::to_container(gids, gid).ok_or_else(|| outside("group", gid))?,
            )),
        }
    }

    /// Whether foreign owners can only be pretended.
    #[must_use]
    pub fn is_rootless(&self) -> bool {
        matches!(self, Self::Rootless)
    }

    /// Whether devices, and some attributes, cannot be made.
    #[must_use]
    pub fn is_unprivileged(&self) -> bool {
        matches!(self, Self::Rootless | Self::Subordinate)
    }
}

/// The value of [`ROOTLESS_XATTR`]: a protocol buffer, `uint32 uid = 1; uint32 gid = 2`, without
/// the fields that are 0.
#[must_use]
pub fn encode(uid: u32, gid: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(12);
    for (key, id) in [(0x08u8, uid), (0x10, gid)] {
        if id != 0 {
            out.push(key);
            let mut rest = id;
            while rest >= 0x80 {
                out.push(rest.to_le_bytes()[0] | 0x80);
                rest >>= 7;
            }
            out.push(rest.to_le_bytes()[0]);
        }
    }
    out
}

/// Reads what [`encode`] wrote.
#[must_use]
pub fn decode(value: &[u8]) -> Option<(u32, u32)> {
    let (mut uid, mut gid) = (0, 0);
    let mut bytes = value.iter();
    while let Some(key) = bytes.next() {
        let mut id = 0u32;
        let mut shift = 0;
        loop {
            let b = *bytes.next()?;
            id |= u32::from(b & 0x7f).checked_shl(shift)?;
            shift += 7;
            if b & 0x80 == 0 {
                break;
            }
        }
        match key {
            0x08 => uid = id,
            0x10 => gid = id,
            _ => return None,
        }
    }
    Some((uid, gid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps() {
        let maps = [
            IdMap {
                container: 0,
                host: 1000,
                count: 1,
            },
            IdMap {
                container: 1,
                host: 100_000,
                count: 65_535,
            },
        ];
        assert_eq!(IdMap::to_host(&maps, 0), Some(1000));
        assert_eq!(IdMap::to_host(&maps, 65_535), Some(165_534));
        assert_eq!(IdMap::to_host(&maps, 65_536), None);
        assert_eq!(IdMap::to_container(&maps, 100_001), Some(2));
        assert_eq!(IdMap::to_container(&maps, 0), None);
    }

    #[test]
    fn rootless_owner() {
        assert_eq!(encode(0, 0), b"");
        assert_eq!(encode(1, 0), b"\x08\x01");
        assert_eq!(encode(0, 300), b"\x10\xac\x02");
        for (uid, gid) in [(0, 0), (65_534, 65_534), (u32::MAX - 1, 1)] {
            assert_eq!(decode(&encode(uid, gid)), Some((uid, gid)));
        }
        assert_eq!(decode(b"\x08"), None);
        assert_eq!(decode(b"\x08\xff\xff\xff\xff\xff\xff"), None);
    }
}
