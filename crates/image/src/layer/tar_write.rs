//! Writes tar streams: POSIX pax, with extended headers only where a plain one does not do.

use std::io::{Read, Write};

use super::header::BLOCK;
use super::{Entry, EntryKind, EntryPath, Timestamp};
use crate::{Error, Result};

/// Longest name and link of a plain header.
const NAME: usize = 100;
/// Largest number of eleven octal digits.
const OCTAL_11: u64 = 0o77_777_777_777;
/// Largest number of seven octal digits.
const OCTAL_7: u64 = 0o7_777_777;

/// Writes a tar stream.
#[derive(Debug)]
pub struct TarWriter<W: Write> {
    to: W,
}

fn failed(e: std::io::Error) -> Error {
    Error::io("write a layer", e)
}

impl<W: Write> TarWriter<W> {
    /// Writes to `to`.
    pub fn new(to: W) -> Self {
        Self { to }
    }

    /// Writes an entry; a file's bytes, holes included, come from `data`, which must have as many
    /// as the entry says.
    ///
    /// # Errors
    /// Not written; `data` has fewer bytes.
    pub fn entry(&mut self, entry: &Entry, data: Option<&mut dyn Read>) -> Result<()> {
        let (kind, size, link, device) = match &entry.kind {
            EntryKind::File { size, .. } => (b'0', *size, Vec::new(), (0, 0)),
            EntryKind::Directory => (b'5', 0, Vec::new(), (0, 0)),
            EntryKind::Symlink { target } => (b'2', 0, target.clone(), (0, 0)),
            EntryKind::Hardlink { target } => (b'1', 0, target.to_bytes(), (0, 0)),
            EntryKind::CharDevice { major, minor } => (b'3', 0, Vec::new(), (*major, *minor)),
            EntryKind::BlockDevice { major, minor } => (b'4', 0, Vec::new(), (*major, *minor)),
            EntryKind::Fifo => (b'6', 0, Vec::new(), (0, 0)),
        };
        let mut name = entry.path.to_bytes();
        match kind {
            b'5' if name.is_empty() => name = b"./".to_vec(),
            b'5' => name.push(b'/'),
            _ => {}
        }
        let records = pax_records(entry, &name, &link, size);
        if !records.is_empty() {
            let len = records.len() as u64;
            let pax = Fields {
                kind: b'x',
                size: len,
                ..Fields::of(b"pax", &Entry::default())
            };
            self.header(&pax)?;
            self.padded(&mut records.as_slice(), len)?;
        }
        let fields = Fields {
            kind,
            size,
            link: &link,
            device,
            ..Fields::of(&name, entry)
        };
        self.header(&fields)?;
        match data {
            Some(data) => self.padded(data, size),
            None if size == 0 => Ok(()),
            None => Err(Error::store(entry.path.to_string(), "a file without data")),
        }
    }

    /// Writes the mark that hides `path` in lower layers.
    ///
    /// # Errors
    /// Not written.
    pub fn whiteout(&mut self, path: &EntryPath) -> Result<()> {
        let name = [b".wh.", path.name()].concat();
        self.mark(&path.parent(), &name)
    }

    /// Writes the mark that hides all that lower layers have in `dir`.
    ///
    /// # Errors
    /// Not written.
    pub fn opaque(&mut self, dir: &EntryPath) -> Result<()> {
        self.mark(dir, b".wh..wh..opq")
    }

    fn mark(&mut self, dir: &EntryPath, name: &[u8]) -> Result<()> {
        // A name of 252 bytes and more cannot be hidden: the mark would be too long a name.
        let entry = Entry {
            path: dir.join(name)?,
            ..Entry::default()
        };
        self.entry(&entry, None)
    }

    /// Ends the archive.
    ///
    /// # Errors
    /// Not written.
    pub fn finish(mut self) -> Result<W> {
        self.to.write_all(&[0; 2 * BLOCK]).map_err(failed)?;
        Ok(self.to)
    }

    fn padded(&mut self, data: &mut dyn Read, size: u64) -> Result<()> {
        let copied = std::io::copy(&mut data.take(size), &mut self.to).map_err(failed)?;
        if copied != size {
            return Err(Error::store(
                "layer",
                "a file became shorter while it was read",
            ));
        }
        let pad = size.next_multiple_of(BLOCK as u64) - size;
        let zeros = [0; BLOCK];
        let pad = zeros
            .get(..usize::try_from(pad).unwrap_or(0))
            .unwrap_or_default();
        self.to.write_all(pad).map_err(failed)
    }

    fn header(&mut self, fields: &Fields<'_>) -> Result<()> {
        let mut block = [0u8; BLOCK];
        let mut put = |at: usize, max: usize, bytes: &[u8]| {
            for (to, from) in block.iter_mut().skip(at).zip(bytes.iter().take(max)) {
                *to = *from;
            }
        };
        let octal = |n: u64, digits: usize, max: u64| format!("{:0digits$o}\0", n.min(max));
        put(0, NAME, fields.name);
        put(100, 8, octal(fields.mode.into(), 7, OCTAL_7).as_bytes());
        put(108, 8, octal(fields.uid.into(), 7, OCTAL_7).as_bytes());
        put(116, 8, octal(fields.gid.into(), 7, OCTAL_7).as_bytes());
        put(124, 12, octal(fields.size, 11, OCTAL_11).as_bytes());
        put(136, 12, octal(fields.mtime, 11, OCTAL_11).as_bytes());
        put(148, 8, b"        ");
        put(156, 1, &[fields.kind]);
        put(157, NAME, fields.link);
        put(257, 8, b"ustar\x0000");
        put(329, 8, octal(fields.device.0.into(), 7, OCTAL_7).as_bytes());
        put(337, 8, octal(fields.device.1.into(), 7, OCTAL_7).as_bytes());
        let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
        for (to, from) in block
            .iter_mut()
            .skip(148)
            .zip(format!("{sum:06o}\0 ").bytes())
        {
            *to = from;
        }
        self.to.write_all(&block).map_err(failed)
    }
}

struct Fields<'a> {
    name: &'a [u8],
    kind: u8,
    mode: u32,
    uid: u32,
    gid: u32,
    size: u64,
    mtime: u64,
    link: &'a [u8],
    device: (u32, u32),
}

impl<'a> Fields<'a> {
    fn of(name: &'a [u8], entry: &Entry) -> Self {
        Self {
            name,
            kind: b'0',
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            size: 0,
            mtime: u64::try_from(entry.mtime.secs).unwrap_or(0),
            link: b"",
            device: (0, 0),
        }
    }
}

/// What a plain header cannot say.
fn pax_records(entry: &Entry, name: &[u8], link: &[u8], size: u64) -> Vec<u8> {
    let mut out = Vec::new();
    let mut put = |key: &[u8], value: &[u8]| out.extend(record(key, value));
    if name.len() > NAME || !name.is_ascii() {
        put(b"path", name);
    }
    if link.len() > NAME || !link.is_ascii() {
        put(b"linkpath", link);
    }
    if size > OCTAL_11 {
        put(b"size", size.to_string().as_bytes());
    }
    for (key, id) in [(&b"uid"[..], entry.uid), (b"gid", entry.gid)] {
        if u64::from(id) > OCTAL_7 {
            put(key, id.to_string().as_bytes());
        }
    }
    let Timestamp { secs, nanos } = entry.mtime;
    if nanos != 0 || u64::try_from(secs).map_or(true, |s| s > OCTAL_11) {
        put(b"mtime", decimal_time(secs, nanos).as_bytes());
    }
    for (key, value) in &entry.xattrs {
        put(&[b"SCHILY.xattr.", key.as_slice()].concat(), value);
    }
    out
}

/// `-1.75` is a second and three quarters before 1970.
fn decimal_time(secs: i64, nanos: u32) -> String {
    match (secs < 0, nanos) {
        (_, 0) => secs.to_string(),
        (false, nanos) => format!("{secs}.{nanos:09}"),
        (true, nanos) => format!("-{}.{:09}", -(secs + 1), 1_000_000_000 - nanos),
    }
}

/// A record, whose length counts itself.
fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while len.to_string().len() + rest != len {
        len = len.to_string().len() + rest;
    }
    [format!("{len} ").as_bytes(), key, b"=", value, b"\n"].concat()
}

#[cfg(test)]
mod tests {
    use super::super::tar::Reader;
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let path = |raw: &str| EntryPath::parse(raw.as_bytes()).unwrap();
        let entry = |raw: &str, kind: EntryKind| Entry {
            path: path(raw),
            kind,
            mode: 0o4711,
            uid: 5,
            gid: 3_000_000_000,
            mtime: Timestamp {
                secs: -2,
                nanos: 250_000_000,
            },
            xattrs: [(b"user.x".to_vec(), b"\0=\n".to_vec())].into(),
        };
        let extents = vec![super::super::Extent { offset: 0, len: 5 }];
        let all = [
            entry("", EntryKind::Directory),
            entry(&"d/".repeat(60), EntryKind::Directory),
            entry("f", EntryKind::File { size: 5, extents }),
            entry(
                "s",
                EntryKind::Symlink {
                    target: "ü".repeat(70).into_bytes(),
                },
            ),
            entry("h", EntryKind::Hardlink { target: path("f") }),
            entry("c", EntryKind::CharDevice { major: 1, minor: 3 }),
            entry("p", EntryKind::Fifo),
        ];
        let mut writer = TarWriter::new(Vec::new());
        for e in &all {
            let mut data: &[u8] = b"hello";
            let data: Option<&mut dyn Read> = match e.kind {
                EntryKind::File { .. } => Some(&mut data),
                _ => None,
            };
            writer.entry(e, data).unwrap();
        }
        writer.whiteout(&path("a/gone")).unwrap();
        writer.opaque(&path("b")).unwrap();
        let bytes = writer.finish().unwrap();
        let mut reader = Reader::new(bytes.as_slice());
        for e in &all {
            assert_eq!(reader.next_entry().unwrap().as_ref(), Some(e));
        }
        let mut names = Vec::new();
        while let Some(e) = reader.next_entry().unwrap() {
            names.push(e.path.to_string());
        }
        assert_eq!(names, ["/a/.wh.gone", "/b/.wh..wh..opq"]);
    }
}
