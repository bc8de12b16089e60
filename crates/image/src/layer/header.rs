//! The 512-byte header of tar (POSIX.1-2017 pax, ustar; GNU tar's variant).

use super::entry::Shown;
use crate::{Error, Result};

/// Size of a header and of the unit that data is padded to.
pub const BLOCK: usize = 512;

/// One raw header block.
#[derive(Clone)]
pub struct Header([u8; BLOCK]);

/// Which dialect a header is of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Dialect {
    /// Before POSIX: no magic.
    V7,
    /// POSIX.
    Ustar,
    /// GNU tar.
    Gnu,
}

impl Header {
    /// Takes a block; `None` for the zero block that ends an archive.
    ///
    /// # Errors
    /// Its checksum is wrong: this is not tar.
    pub fn new(block: [u8; BLOCK]) -> Result<Option<Self>> {
        if block.iter().all(|&b| b == 0) {
            return Ok(None);
        }
        let header = Self(block);
        let stored = header.number(148..156, "checksum")?;
        // The checksum field itself counts as spaces. Some old writers summed signed bytes.
        let byte = |i: usize, b: u8| if (148..156).contains(&i) { b' ' } else { b };
        let bytes = || header.0.iter().enumerate().map(|(i, &b)| byte(i, b));
        let unsigned: u64 = bytes().map(u64::from).sum();
        let signed: i64 = bytes().map(|b| i64::from(b.cast_signed())).sum();
        if stored == unsigned || i64::try_from(stored) == Ok(signed) {
            Ok(Some(header))
        } else {
            Err(Error::Layer {
                what: "tar header".to_owned(),
                why: "wrong checksum: not a tar stream",
            })
        }
    }

    /// The dialect, by magic.
    pub fn dialect(&self) -> Dialect {
        match &self.0[257..265] {
            b"ustar  \0" => Dialect::Gnu,
            magic if magic.starts_with(b"ustar") => Dialect::Ustar,
            _ => Dialect::V7,
        }
    }

    /// The path: the prefix belongs to it in ustar only.
    pub fn path(&self) -> Vec<u8> {
        let name = text(&self.0[..100]);
        let prefix = text(&self.0[345..500]);
        if self.dialect() == Dialect::Ustar && !prefix.is_empty() {
            [prefix, b"/", name].concat()
        } else {
            name.to_vec()
        }
    }

    /// The target of a link.
    pub fn link(&self) -> &[u8] {
        text(&self.0[157..257])
    }

    /// The type letter.
    pub fn kind(&self) -> u8 {
        self.0[156]
    }

    /// Permission bits.
    pub fn mode(&self) -> Result<u32> {
        // The upper bits repeat the type in some writers; the lower twelve are the mode.
        let mode = self.number(100..108, "mode")? & 0o7777;
        u32::try_from(mode).map_err(|_| bad("mode"))
    }

    /// Owner.
    pub fn uid(&self) -> Result<u64> {
        self.number(108..116, "uid")
    }

    /// Group.
    pub fn gid(&self) -> Result<u64> {
        self.number(116..124, "gid")
    }

    /// Bytes of data that follow.
    pub fn size(&self) -> Result<u64> {
        self.number(124..136, "size")
    }

    /// Seconds since 1970.
    pub fn mtime(&self) -> Result<i64> {
        self.signed(136..148, "mtime")
    }

    /// Device numbers, of devices only.
    pub fn device(&self) -> Result<(u32, u32)> {
        let part = |range| {
            let n = self.number(range, "device number")?;
            u32::try_from(n).map_err(|_| bad("device number"))
        };
        Ok((part(329..337)?, part(337..345)?))
    }

    /// A field of GNU tar's own.
    pub fn gnu_field(&self, range: std::ops::Range<usize>) -> Result<u64> {
        self.number(range, "sparse map")
    }

    /// A byte of GNU tar's own.
    pub fn byte(&self, at: usize) -> u8 {
        self.0.get(at).copied().unwrap_or(0)
    }

    fn number(&self, range: std::ops::Range<usize>, what: &'static str) -> Result<u64> {
        u64::try_from(self.signed(range, what)?).map_err(|_| bad(what))
    }

    fn signed(&self, range: std::ops::Range<usize>, what: &'static str) -> Result<i64> {
        parse_number(self.0.get(range).unwrap_or_default()).ok_or_else(|| bad(what))
    }
}

fn bad(what: &'static str) -> Error {
    Error::Layer {
        what: format!("tar header: {what}"),
        why: "not a number in range",
    }
}

/// Up to the first NUL.
fn text(field: &[u8]) -> &[u8] {
    field.split(|&b| b == 0).next().unwrap_or_default()
}

/// Octal digits between blanks and NULs; or, with the top bit of the first byte set, a
/// big-endian two's-complement number (GNU tar, star).
pub fn parse_number(field: &[u8]) -> Option<i64> {
    match field.first() {
        Some(first) if first & 0x80 != 0 => {
            let negative = first & 0x40 != 0;
            let head = if negative {
                i128::from(first | 0x80) - 256
            } else {
                i128::from(first & 0x7f)
            };
            let mut value = head;
            for &b in field.get(1..)? {
                value = value.checked_mul(256)?.checked_add(i128::from(b))?;
            }
            i64::try_from(value).ok()
        }
        _ => {
            let blank = |b: &u8| *b == b' ' || *b == 0;
            let start = field.iter().position(|b| !blank(b)).unwrap_or(field.len());
            let digits = field.get(start..)?;
            let end = digits.iter().position(blank).unwrap_or(digits.len());
            if !digits.get(end..)?.iter().all(blank) && digits.get(end) != Some(&0) {
                return None;
            }
            digits.get(..end)?.iter().try_fold(0i64, |n, &b| match b {
                b'0'..=b'7' => n.checked_mul(8)?.checked_add(i64::from(b - b'0')),
                _ => None,
            })
        }
    }
}

impl std::fmt::Debug for Header {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Header({})", Shown(&self.path()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (field, value) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0", Some(0)),
            (b"", Some(0)),
            (b"77777777777\0", Some(0o77_777_777_777)),
            (b"\x80\0\0\0\0\0\0\x01\0\0\0\0", Some(1 << 32)),
            (
                b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
                Some(-1),
            ),
            (b"\x80\x7f\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
            (b"9", None),
            (b"-1", None),
            (b"12 34", None),
        ] {
            assert_eq!(parse_number(field), value, "{}", field.escape_ascii());
        }
    }

    #[test]
    fn zeros_end_and_noise_is_refused() {
        assert!(Header::new([0; BLOCK]).unwrap().is_none());
        assert!(Header::new([b'x'; BLOCK]).is_err());
    }
}
