//! Reads a layer's tar stream: POSIX pax and ustar, GNU tar, star's attributes, sparse files.
//!
//! The reader holds one header at a time and trusts nothing: names become [`EntryPath`]s, sizes
//! and maps are checked before anyone acts on them, and what comes before an entry (long names,
//! extended headers, sparse maps) has a limit.

use std::io::{BufRead, Read};

use super::header::{BLOCK, Dialect, Header};
use super::pax::{self, Pax};
use super::sparse::{self, Described, Map};
use super::write::Data;
use super::{Entry, EntryKind, EntryPath, Extent, Timestamp};
use crate::{Error, Result};

/// Most headers that describe one entry, its own included.
const EXTENSIONS: usize = 16;

/// A tar stream.
#[derive(Debug)]
pub struct Reader<R> {
    from: R,
    /// Data of the present entry that has not been read.
    left: u64,
    /// Zeros that follow it.
    padding: u64,
    globals: Pax,
    /// Bytes of headers that made them.
    global_size: u64,
    /// What was read and is no file's data, where that is kept.
    raw: Option<Vec<u8>>,
}

impl<R: Read> Reader<R> {
    /// Reads from `from`, from its present position.
    pub fn new(from: R) -> Self {
        Self {
            from,
            left: 0,
            padding: 0,
            globals: Pax::default(),
            global_size: 0,
            raw: None,
        }
    }

    /// The same, and keeps what is no file's data for [`Reader::raw`].
    pub fn keeping_raw(from: R) -> Self {
        Self {
            raw: Some(Vec::new()),
            ..Self::new(from)
        }
    }

    /// What was read since [`Reader::clear_raw`] and is no file's data: headers and padding.
    pub fn raw(&self) -> &[u8] {
        self.raw.as_deref().unwrap_or_default()
    }

    /// Forgets [`Reader::raw`].
    pub fn clear_raw(&mut self) {
        if let Some(raw) = &mut self.raw {
            raw.clear();
        }
    }

    fn note(&mut self, bytes: &[u8]) {
        if let Some(raw) = &mut self.raw {
            raw.extend_from_slice(bytes);
        }
    }

    /// After the last entry: reads what writers pad archives with. `false` at the end of the
    /// stream.
    ///
    /// # Errors
    /// The stream's.
    pub fn trailer(&mut self) -> Result<bool> {
        let mut sink = [0u8; 4096];
        let n = read(&mut self.from, &mut sink)?;
        self.note(sink.get(..n).unwrap_or_default());
        Ok(n > 0)
    }

    /// The next entry; `None` at the end of the archive. Data that was not read is skipped.
    ///
    /// # Errors
    /// A broken archive, or an entry that no honest tool makes.
    pub fn next_entry(&mut self) -> Result<Option<Entry>> {
        self.skip_data()?;
        let mut extended = self.globals.clone();
        let mut long_name = None;
        let mut long_link = None;
        for _ in 0..EXTENSIONS {
            let Some(block) = self.block_or_end()? else {
                return Ok(None);
            };
            let Some(header) = Header::new(block)? else {
                return Ok(None);
            };
            match header.kind() {
                b'x' => extended.add(&self.small(&header)?)?,
                b'g' => {
                    let data = self.small(&header)?;
                    self.global_size += data.len() as u64;
                    if self.global_size > pax::LIMIT {
                        break;
                    }
                    self.globals.add(&data)?;
                    extended.add(&data)?;
                }
                b'L' => long_name = Some(without_nul(self.small(&header)?)),
                b'K' => long_link = Some(without_nul(self.small(&header)?)),
                // A volume's label: not an entry.
                b'V' => {
                    self.small(&header)?;
                }
                _ => {
                    extended.path = extended.path.or(long_name);
                    extended.link = extended.link.or(long_link);
                    return self.entry(&header, extended).map(Some);
                }
            }
        }
        Err(Error::Layer {
            what: "tar extended headers".to_owned(),
            why: "more than any entry needs",
        })
    }

    /// Reads data of the present entry, as stored: a sparse file's runs one after the other.
    /// 0 is the end of it.
    ///
    /// # Errors
    /// The stream's, or its early end.
    pub fn read_data(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let want = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        if want == 0 {
            return Ok(0);
        }
        let n = read(&mut self.from, &mut buffer[..want])?;
        if n == 0 {
            return Err(early_end());
        }
        self.left -= n as u64;
        Ok(n)
    }

    /// The stream, past what has been read: whoever checks a digest must read it to its end,
    /// for writers pad archives.
    pub fn into_inner(self) -> R {
        self.from
    }

    fn entry(&mut self, header: &Header, pax: Pax) -> Result<Entry> {
        let stored = match pax.size {
            Some(size) => size,
            None => header.size()?,
        };
        self.set_data(stored);
        let raw = pax.path.clone().unwrap_or_else(|| header.path());
        let is_directory_name = raw.ends_with(b"/");
        let (kind, name) = self.kind(header, &pax, stored, is_directory_name)?;
        let path = EntryPath::parse(&name.unwrap_or(raw))?;
        let id = |from_pax: Option<u64>, from_header: Result<u64>, what: &str| {
            let id = from_pax.map_or(from_header, Ok)?;
            // The last id means "no change" to chown(2).
            u32::try_from(id)
                .ok()
                .filter(|&id| id != u32::MAX)
                .ok_or_else(|| Error::Layer {
                    what: format!("{path}: {what} {id}"),
                    why: "not an id",
                })
        };
        let mtime = match pax.mtime {
            Some(time) => time,
            None => Timestamp {
                secs: header.mtime()?,
                nanos: 0,
            },
        };
        Ok(Entry {
            kind,
            mode: header.mode()?,
            uid: id(pax.uid, header.uid(), "uid")?,
            gid: id(pax.gid, header.gid(), "gid")?,
            mtime,
            xattrs: pax.xattrs,
            path,
        })
    }

    /// The kind, and the name where it is a sparse file's own.
    fn kind(
        &mut self,
        header: &Header,
        pax: &Pax,
        stored: u64,
        is_directory_name: bool,
    ) -> Result<(EntryKind, Option<Vec<u8>>)> {
        let link = || pax.link.clone().unwrap_or_else(|| header.link().to_vec());
        let kind = match header.kind() {
            b'0' | 0 | b'7' if is_directory_name && header.dialect() == Dialect::V7 => {
                EntryKind::Directory
            }
            b'0' | 0 | b'7' => return self.file(pax, stored),
            b'S' => {
                let map = sparse::from_gnu_header(header, || self.block())?;
                self.set_data(stored);
                return Ok((sparse_file(map.checked(stored)?), None));
            }
            b'1' => EntryKind::Hardlink {
                target: EntryPath::parse(&link())?,
            },
            b'2' => EntryKind::Symlink {
                target: link_target(link())?,
            },
            b'3' => {
                let (major, minor) = header.device()?;
                EntryKind::CharDevice { major, minor }
            }
            b'4' => {
                let (major, minor) = header.device()?;
                EntryKind::BlockDevice { major, minor }
            }
            b'5' if stored > pax::LIMIT => {
                return Err(Error::Layer {
                    what: "directory".to_owned(),
                    why: "has data, more than 1 MiB of it",
                });
            }
            b'5' => EntryKind::Directory,
            b'6' => EntryKind::Fifo,
            other => {
                let what = format!("tar entry of type {:?}", char::from(other));
                return Err(Error::Layer {
                    what,
                    why: "unknown",
                });
            }
        };
        // Some writers give a size to entries that have no data; then none follows.
        self.set_data(if matches!(kind, EntryKind::Directory) {
            stored
        } else {
            0
        });
        Ok((kind, None))
    }

    fn file(&mut self, pax: &Pax, stored: u64) -> Result<(EntryKind, Option<Vec<u8>>)> {
        match sparse::from_pax(pax)? {
            Described::Not => {
                let extents = if stored > 0 {
                    vec![Extent {
                        offset: 0,
                        len: stored,
                    }]
                } else {
                    vec![]
                };
                Ok((
                    EntryKind::File {
                        size: stored,
                        extents,
                    },
                    None,
                ))
            }
            Described::Here(map, name) => Ok((sparse_file(map.checked(stored)?), name)),
            Described::InData(size, name) => {
                let map = sparse::from_data(size, || {
                    let mut byte = [0u8; 1];
                    match self.read_data(&mut byte)? {
                        0 => Err(early_end()),
                        _ => {
                            self.note(&byte);
                            Ok(byte[0])
                        }
                    }
                })?;
                // The map is padded to a block, and counts as stored data.
                let used = stored - self.left;
                let pad = used.next_multiple_of(BLOCK as u64) - used;
                let pad = pad.min(self.left);
                self.left -= pad;
                self.discard_bytes(pad)?;
                let map = map.checked(self.left)?;
                Ok((sparse_file(map), name))
            }
        }
    }

    fn set_data(&mut self, stored: u64) {
        self.left = stored;
        let unit = BLOCK as u64;
        self.padding = (unit - stored % unit) % unit;
    }

    fn skip_data(&mut self) -> Result<()> {
        let rest = self.left.checked_add(self.padding).ok_or_else(early_end)?;
        (self.left, self.padding) = (0, 0);
        self.discard_bytes(rest)
    }

    fn discard_bytes(&mut self, mut count: u64) -> Result<()> {
        let mut sink = [0u8; 4096];
        while count > 0 {
            let want = usize::try_from(count).unwrap_or(usize::MAX).min(sink.len());
            match read(&mut self.from, &mut sink[..want])? {
                0 => return Err(early_end()),
                n => {
                    self.note(&sink[..n]);
                    count -= n as u64;
                }
            }
        }
        Ok(())
    }

    /// The data of a header that describes the next one.
    fn small(&mut self, header: &Header) -> Result<Vec<u8>> {
        let size = header.size()?;
        if size > pax::LIMIT {
            let what = "tar extended header".to_owned();
            return Err(Error::Layer {
                what,
                why: "larger than 1 MiB",
            });
        }
        self.set_data(size);
        let mut data = vec![0u8; usize::try_from(size).unwrap_or(0)];
        let mut filled = 0;
        while filled < data.len() {
            filled += self.read_data(&mut data[filled..])?;
        }
        self.note(&data);
        self.skip_data()?;
        Ok(data)
    }

    fn block(&mut self) -> Result<[u8; BLOCK]> {
        self.block_or_end()?.ok_or_else(early_end)
    }

    /// A block; `None` if the stream has ended where a block could begin.
    fn block_or_end(&mut self) -> Result<Option<[u8; BLOCK]>> {
        let mut block = [0u8; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match read(&mut self.from, &mut block[filled..])? {
                0 if filled == 0 => return Ok(None),
                0 => return Err(early_end()),
                n => filled += n,
            }
        }
        self.note(&block);
        Ok(Some(block))
    }
}

impl<R: BufRead> Data for Reader<R> {
    fn chunk(&mut self) -> Result<&[u8]> {
        if self.left == 0 {
            return Ok(&[]);
        }
        let bytes = loop {
            match self.from.fill_buf() {
                // Asked again: the borrow checker cannot return the first answer.
                Ok(_) => break self.from.fill_buf(),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::io("read a layer", e)),
            }
        };
        let bytes = bytes.map_err(|e| Error::io("read a layer", e))?;
        if bytes.is_empty() {
            return Err(early_end());
        }
        let want = usize::try_from(self.left).unwrap_or(usize::MAX);
        Ok(bytes.get(..want).unwrap_or(bytes))
    }

    fn consume(&mut self, n: usize) {
        self.from.consume(n);
        self.left = self.left.saturating_sub(n as u64);
    }
}

fn sparse_file(map: Map) -> EntryKind {
    EntryKind::File {
        size: map.size,
        extents: map.extents,
    }
}

fn link_target(target: Vec<u8>) -> Result<Vec<u8>> {
    if target.is_empty() || target.len() >= 4096 || target.contains(&0) {
        let what = "symbolic link's target".to_owned();
        return Err(Error::Layer {
            what,
            why: "empty, longer than 4095 bytes, or with a NUL byte",
        });
    }
    Ok(target)
}

fn without_nul(mut name: Vec<u8>) -> Vec<u8> {
    while name.last() == Some(&0) {
        name.pop();
    }
    name
}

fn early_end() -> Error {
    Error::Layer {
        what: "tar stream".to_owned(),
        why: "ends early",
    }
}

fn read(from: &mut impl Read, buffer: &mut [u8]) -> Result<usize> {
    loop {
        match from.read(buffer) {
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            other => {
                return other.map_err(|source| Error::Io {
                    what: "read a layer".to_owned(),
                    source,
                });
            }
        }
    }
}

#[cfg(test)]
#[path = "tar_tests.rs"]
mod tests;
