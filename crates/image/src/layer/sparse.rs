//! Sparse files: where the stored bytes go (GNU tar manual, "Storing Sparse Files").

use super::Extent;
use super::header::Header;
use super::pax::{Pax, decimal};
use crate::{Error, Result};

/// Most extents of one file. A map is read into memory before the data, so without a limit a
/// small archive could fill it (CVE-2025-58183).
const LIMIT: usize = 1 << 16;

/// A sparse file's real size and its runs of data.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Map {
    /// Size, holes included.
    pub size: u64,
    /// Ascending, apart, within `size`.
    pub extents: Vec<Extent>,
}

fn refuse(why: &'static str) -> Error {
    Error::Layer {
        what: "sparse file".to_owned(),
        why,
    }
}

impl Map {
    fn push(&mut self, offset: u64, len: u64) -> Result<()> {
        if self.extents.len() >= LIMIT {
            return Err(refuse("more than 65536 runs of data"));
        }
        self.extents.push(Extent { offset, len });
        Ok(())
    }

    /// Checks the map against the bytes stored, and drops empty runs.
    pub fn checked(mut self, stored: u64) -> Result<Self> {
        let mut end = 0u64;
        let mut total = 0u64;
        for extent in &self.extents {
            if extent.offset < end {
                return Err(refuse("runs of data overlap or go backwards"));
            }
            end = extent
                .offset
                .checked_add(extent.len)
                .ok_or_else(|| refuse("run too long"))?;
            total = total.saturating_add(extent.len);
        }
        if end > self.size {
            return Err(refuse("data beyond the file's size"));
        }
        if total != stored {
            return Err(refuse("the map does not fit the bytes stored"));
        }
        self.extents.retain(|e| e.len > 0);
        Ok(self)
    }
}

/// GNU tar's first format: four runs in the header, more in blocks that `next_block` reads.
pub fn from_gnu_header(
    header: &Header,
    mut next_block: impl FnMut() -> Result<[u8; super::header::BLOCK]>,
) -> Result<Map> {
    let mut map = Map {
        size: header.gnu_field(483..495)?,
        ..Map::default()
    };
    for i in 0..4 {
        let at = 386 + 24 * i;
        let (offset, len) = (
            header.gnu_field(at..at + 12)?,
            header.gnu_field(at + 12..at + 24)?,
        );
        if (offset, len) != (0, 0) {
            map.push(offset, len)?;
        }
    }
    let mut more = header.byte(482) != 0;
    while more {
        let block = next_block()?;
        let number = |range: std::ops::Range<usize>| {
            super::header::parse_number(&block[range])
                .and_then(|n| u64::try_from(n).ok())
                .ok_or_else(|| refuse("not a number in its map"))
        };
        for i in 0..21 {
            let at = 24 * i;
            let (offset, len) = (number(at..at + 12)?, number(at + 12..at + 24)?);
            if (offset, len) != (0, 0) {
                map.push(offset, len)?;
            }
        }
        more = block[504] != 0;
    }
    Ok(map)
}

/// How an extended header describes a sparse file.
#[derive(Debug)]
pub enum Described {
    /// It does not: the file is plain.
    Not,
    /// Versions 0.0 and 0.1: the map is in the header. The name may be too.
    Here(Map, Option<Vec<u8>>),
    /// Version 1.0: the map stands before the data; the size and the name are known.
    InData(u64, Option<Vec<u8>>),
}

/// Reads the `GNU.sparse.…` records.
pub fn from_pax(pax: &Pax) -> Result<Described> {
    if pax.sparse.is_empty() {
        return Ok(Described::Not);
    }
    let number = |v: &[u8]| decimal(v).ok_or_else(|| refuse("not a number in its map"));
    let value = |key: &[u8]| {
        pax.sparse
            .iter()
            .rev()
            .find(|(k, _)| k == key)
            .map(|(_, v)| v)
    };
    let name = value(b"name").cloned();
    if value(b"major").is_some_and(|v| v == b"1") {
        let size = value(b"realsize").ok_or_else(|| refuse("no real size"))?;
        return Ok(Described::InData(number(size)?, name));
    }
    let size = value(b"size").ok_or_else(|| refuse("no real size"))?;
    let mut map = Map {
        size: number(size)?,
        ..Map::default()
    };
    if let Some(list) = value(b"map") {
        let mut numbers = list.split(|&b| b == b',').map(number);
        while let Some(offset) = numbers.next() {
            let len = numbers
                .next()
                .ok_or_else(|| refuse("half a run in its map"))?;
            map.push(offset?, len?)?;
        }
    } else {
        let mut offset = None;
        for (key, v) in &pax.sparse {
            match (key.as_slice(), offset) {
                (b"offset", _) => offset = Some(number(v)?),
                (b"numbytes", Some(o)) => {
                    map.push(o, number(v)?)?;
                    offset = None;
                }
                _ => {}
            }
        }
    }
    Ok(Described::Here(map, name))
}

/// Version 1.0's map: decimal numbers, one a line, the count first. `next_byte` reads the data
/// stream; the caller skips to the next block afterwards.
pub fn from_data(size: u64, mut next_byte: impl FnMut() -> Result<u8>) -> Result<Map> {
    let mut line = || -> Result<u64> {
        let mut digits = Vec::with_capacity(20);
        loop {
            match next_byte()? {
                b'\n' => break,
                b if digits.len() < 20 => digits.push(b),
                _ => return Err(refuse("not a number in its map")),
            }
        }
        decimal(&digits).ok_or_else(|| refuse("not a number in its map"))
    };
    let mut map = Map {
        size,
        ..Map::default()
    };
    for _ in 0..line()? {
        map.push(line()?, line()?)?;
    }
    Ok(map)
}
