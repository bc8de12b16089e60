//! How a layer's tar stream was: all that is no file's data, and where the data is.
//!
//! With it the stream can be put together again from the layer, byte for byte: that is the proof
//! that a layer on disk is what its digest says, and how it is pushed and saved. Records follow
//! each other in a zstd stream: a letter, a length, and for a file where it is.

use std::io::{BufReader, Read, Write};

use crate::layer::{EntryPath, Extent, Place, Recorder};
use crate::{Error, Result};

/// Fast: headers shrink to a fiftieth at the lowest level already.
const LEVEL: i32 = 1;
/// Longest path and largest piece of raw bytes that is read back.
const PIECE: u64 = 32 << 20;

/// Writes the records of a layer.
pub(crate) struct SplitWriter<W: Write> {
    to: zstd::stream::write::Encoder<'static, W>,
}

fn failed(e: std::io::Error) -> Error {
    Error::io("write a layer's split", e)
}

fn broken() -> Error {
    Error::store("layer's split", "not what was written: damaged on disk")
}

impl<W: Write> SplitWriter<W> {
    pub fn new(to: W) -> Result<Self> {
        let to = zstd::stream::write::Encoder::new(to, LEVEL).map_err(failed)?;
        Ok(Self { to })
    }

    fn put(&mut self, kind: u8, numbers: &[u64], bytes: &[u8]) -> Result<()> {
        let mut head = vec![kind];
        for n in numbers {
            head.extend(n.to_le_bytes());
        }
        self.to.write_all(&head).map_err(failed)?;
        self.to.write_all(bytes).map_err(failed)
    }

    /// Bytes of the layer's image that are no file's, which its record has a digest of.
    pub fn metadata(&mut self, runs: &[(u64, u64)]) -> Result<()> {
        runs.iter()
            .try_for_each(|(at, len)| self.put(b'm', &[*at, *len], b""))
    }

    pub fn finish(self) -> Result<W> {
        self.to.finish().map_err(failed)
    }
}

impl<W: Write> Recorder for SplitWriter<W> {
    fn raw(&mut self, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.put(b'r', &[bytes.len() as u64], bytes)
    }

    fn file(&mut self, place: &Place, extents: &[Extent]) -> Result<()> {
        match place {
            Place::At(runs) => {
                for (at, len) in runs {
                    self.put(b'd', &[*at, *len], b"")?;
                }
            }
            Place::Path(path) => {
                let bytes = path.to_bytes();
                self.put(b'p', &[bytes.len() as u64], &bytes)?;
                for extent in extents {
                    self.put(b'd', &[extent.offset, extent.len], b"")?;
                }
            }
        }
        Ok(())
    }
}

/// One record.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Piece {
    /// Bytes of the stream.
    Raw(Vec<u8>),
    /// The data that follows is in this file.
    File(EntryPath),
    /// Data: where, and how much.
    Data { at: u64, len: u64 },
    /// Bytes of the image that are no file's.
    Metadata { at: u64, len: u64 },
}

/// Reads records.
pub(crate) struct SplitReader<R: Read> {
    from: zstd::stream::read::Decoder<'static, BufReader<R>>,
}

impl<R: Read> SplitReader<R> {
    pub fn new(from: R) -> Result<Self> {
        let from = zstd::stream::read::Decoder::new(from).map_err(failed)?;
        Ok(Self { from })
    }

    fn number(&mut self) -> Result<u64> {
        let mut bytes = [0; 8];
        self.from.read_exact(&mut bytes).map_err(|_| broken())?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn bytes(&mut self) -> Result<Vec<u8>> {
        let len = self.number()?;
        if len > PIECE {
            return Err(broken());
        }
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
        self.from.read_exact(&mut bytes).map_err(|_| broken())?;
        Ok(bytes)
    }

    /// The next record; `None` at the end.
    pub fn next(&mut self) -> Result<Option<Piece>> {
        let mut kind = [0];
        if self.from.read(&mut kind).map_err(|_| broken())? == 0 {
            return Ok(None);
        }
        Ok(Some(match kind[0] {
            b'r' => Piece::Raw(self.bytes()?),
            b'p' => Piece::File(EntryPath::parse(&self.bytes()?)?),
            b'd' => Piece::Data {
                at: self.number()?,
                len: self.number()?,
            },
            b'm' => Piece::Metadata {
                at: self.number()?,
                len: self.number()?,
            },
            _ => return Err(broken()),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let mut writer = SplitWriter::new(Vec::new()).unwrap();
        writer.raw(b"header").unwrap();
        let path = EntryPath::parse(b"a/b").unwrap();
        let runs = [Extent { offset: 0, len: 3 }, Extent { offset: 9, len: 1 }];
        writer.file(&Place::Path(path.clone()), &runs).unwrap();
        writer.raw(b"").unwrap();
        writer.file(&Place::At(vec![(4105, 1)]), &[]).unwrap();
        let bytes = writer.finish().unwrap();
        let mut reader = SplitReader::new(bytes.as_slice()).unwrap();
        let mut all = Vec::new();
        while let Some(piece) = reader.next().unwrap() {
            all.push(piece);
        }
        let wanted = [
            Piece::Raw(b"header".to_vec()),
            Piece::File(path),
            Piece::Data { at: 0, len: 3 },
            Piece::Data { at: 9, len: 1 },
            Piece::Data { at: 4105, len: 1 },
        ];
        assert_eq!(all, wanted);
        let mut cut = SplitReader::new(&bytes[..bytes.len() - 4]).unwrap();
        assert!(std::iter::from_fn(|| cut.next().transpose()).any(|p| p.is_err()));
    }
}
