//! Extended headers: records of `LENGTH KEY=VALUE\n` (POSIX.1-2017, pax).

use std::collections::BTreeMap;

use super::Timestamp;
use super::entry::Shown;
use crate::{Error, Result};

/// Most bytes of one extended header: a long path, a long link and generous attributes.
pub const LIMIT: u64 = 1 << 20;
/// Where star and GNU tar keep extended attributes.
const XATTR: &[u8] = b"SCHILY.xattr.";

/// What an extended header says of the next entry.
#[derive(Clone, Debug, Default)]
pub struct Pax {
    /// `path`.
    pub path: Option<Vec<u8>>,
    /// `linkpath`.
    pub link: Option<Vec<u8>>,
    /// `size`.
    pub size: Option<u64>,
    /// `uid`.
    pub uid: Option<u64>,
    /// `gid`.
    pub gid: Option<u64>,
    /// `mtime`.
    pub mtime: Option<Timestamp>,
    /// Extended attributes.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// `GNU.sparse.…`, in order; keys repeat in version 0.0.
    pub sparse: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Pax {
    /// Adds the records of a header; later ones win.
    pub fn add(&mut self, mut data: &[u8]) -> Result<()> {
        while !data.is_empty() {
            let (record, rest) = split_record(data)?;
            data = rest;
            let at = record
                .iter()
                .position(|&b| b == b'=')
                .ok_or_else(|| bad(record))?;
            let (key, value) = (&record[..at], &record[at + 1..]);
            self.record(key, value).ok_or_else(|| bad(record))?;
        }
        Ok(())
    }

    /// `None` for a value that cannot be.
    fn record(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => self.size = Some(decimal(value)?),
            b"uid" => self.uid = Some(decimal(value)?),
            b"gid" => self.gid = Some(decimal(value)?),
            b"mtime" => self.mtime = Some(timestamp(value)?),
            _ => {
                if let Some(name) = key.strip_prefix(XATTR) {
                    if name.is_empty() || name.len() > 255 || name.contains(&0) {
                        return None;
                    }
                    self.xattrs.insert(name.to_vec(), value.to_vec());
                } else if let Some(name) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.push((name.to_vec(), value.to_vec()));
                }
            }
        }
        Some(())
    }
}

fn bad(record: &[u8]) -> Error {
    let what = format!("tar extended header record {}", Shown(record));
    Error::Layer {
        what,
        why: "malformed",
    }
}

/// The record's `KEY=VALUE` and what follows it.
fn split_record(data: &[u8]) -> Result<(&[u8], &[u8])> {
    let whole = || {
        let space = data.iter().take(20).position(|&b| b == b' ')?;
        let len = usize::try_from(decimal(&data[..space])?).ok()?;
        let record = data.get(space + 1..len)?;
        Some((record.strip_suffix(b"\n")?, data.get(len..)?))
    };
    whole().ok_or_else(|| bad(data))
}

/// A number without a sign.
pub fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// `SECONDS[.FRACTION]`, with a minus before 1970.
fn timestamp(text: &[u8]) -> Option<Timestamp> {
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let mut parts = digits.splitn(2, |&b| b == b'.');
    let secs = i64::try_from(decimal(parts.next()?)?).ok()?;
    let nanos = match parts.next() {
        None | Some(b"") => 0,
        Some(fraction) => {
            decimal(fraction.get(..fraction.len().min(18))?)?;
            let mut nine = [b'0'; 9];
            for (to, from) in nine.iter_mut().zip(fraction) {
                *to = *from;
            }
            u32::try_from(decimal(&nine)?).ok()?
        }
    };
    Some(match (negative, nanos) {
        (false, nanos) => Timestamp { secs, nanos },
        (true, 0) => Timestamp {
            secs: -secs,
            nanos: 0,
        },
        (true, nanos) => Timestamp {
            secs: -secs - 1,
            nanos: 1_000_000_000 - nanos,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str, value: &[u8]) -> Vec<u8> {
        let body = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
        let digits = if body.len() + 2 < 100 { 2 } else { 3 };
        let len = (body.len() + digits).to_string();
        [format!("{len:0>digits$}").as_bytes(), &body].concat()
    }

    #[test]
    fn records() {
        let mut pax = Pax::default();
        let two = [record("path", b"a/b"), record("mtime", b"-1.250000")].concat();
        pax.add(&two).unwrap();
        assert_eq!(pax.path.as_deref(), Some(&b"a/b"[..]));
        let before = Timestamp {
            secs: -2,
            nanos: 750_000_000,
        };
        assert_eq!(pax.mtime, Some(before));
        pax.add(&record("mtime", b"1700000000.5")).unwrap();
        let after = Timestamp {
            secs: 1_700_000_000,
            nanos: 500_000_000,
        };
        assert_eq!(pax.mtime, Some(after));
        for broken in [
            &b"5 a\n"[..],
            b"99 path=x\n",
            b"path=x\n",
            b"9 size=x\n",
            b"6 a=b",
            b"0 \n",
        ] {
            assert!(
                Pax::default().add(broken).is_err(),
                "{}",
                broken.escape_ascii()
            );
        }
    }

    #[test]
    fn attributes_hold_any_byte() {
        let mut pax = Pax::default();
        let value = b"\x01\0\n=\x02";
        pax.add(&record("SCHILY.xattr.security.capability", value))
            .unwrap();
        assert_eq!(pax.xattrs[&b"security.capability"[..]], value);
        pax.add(&record("size", b"18446744073709551615")).unwrap();
        assert_eq!(pax.size, Some(u64::MAX));
        assert!(pax.add(&record("SCHILY.xattr.", b"x")).is_err());
    }
}
