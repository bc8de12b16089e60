//! From a tar stream to a writer of layers.

use std::io::BufRead;

use super::limits::Meter;
use super::rules::{Meaning, meaning};
use super::tar::Reader;
use super::{Entry, EntryKind, EntryPath, Limits};
use crate::Result;

/// The bytes of an entry, as stored: a sparse file's runs one after the other.
pub trait Data {
    /// The next bytes; empty at the end.
    ///
    /// # Errors
    /// The stream's.
    fn chunk(&mut self) -> Result<&[u8]>;

    /// Takes `n` bytes of the last chunk.
    fn consume(&mut self, n: usize);
}

/// No bytes.
#[derive(Debug)]
pub(crate) struct NoData;

impl Data for NoData {
    fn chunk(&mut self) -> Result<&[u8]> {
        Ok(&[])
    }

    fn consume(&mut self, _n: usize) {}
}

/// Bytes of a plain reader, through a buffer of its own.
pub(crate) struct ReadData<R> {
    from: R,
    buffer: Vec<u8>,
    at: usize,
    end: usize,
}

impl<R: std::io::Read> ReadData<R> {
    pub(crate) fn new(from: R) -> Self {
        Self {
            from,
            buffer: vec![0; 64 << 10],
            at: 0,
            end: 0,
        }
    }
}

impl<R: std::io::Read> Data for ReadData<R> {
    fn chunk(&mut self) -> Result<&[u8]> {
        if self.at == self.end {
            let n = self.from.read(&mut self.buffer);
            self.end = n.map_err(|e| crate::Error::io("read a file of a layer", e))?;
            self.at = 0;
        }
        Ok(self.buffer.get(self.at..self.end).unwrap_or_default())
    }

    fn consume(&mut self, n: usize) {
        self.at = (self.at + n).min(self.end);
    }
}

/// Where a writer has put the bytes of a file, for [`split`](crate::store).
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Place {
    /// In these runs of the layer's image: where, and how long, in the order of the data.
    At(Vec<(u64, u64)>),
    /// In the file of this path, links resolved.
    Path(EntryPath),
}

/// Something found in lower layers.
pub struct Found {
    /// Its attributes; owners as in the image.
    pub entry: Entry,
    /// A file's bytes, holes included.
    pub data: Option<Box<dyn std::io::Read>>,
}

impl std::fmt::Debug for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Found")
            .field("entry", &self.entry)
            .finish_non_exhaustive()
    }
}

/// The layers below the one that is written, as one tree.
pub trait Lower {
    /// What is at `path`, of which no component is followed; `None` also where a component is
    /// not a directory.
    ///
    /// # Errors
    /// Not readable.
    fn find(&self, path: &EntryPath) -> Result<Option<Found>>;
}

/// There is nothing below.
#[derive(Debug)]
pub struct NoLower;

impl Lower for NoLower {
    fn find(&self, _path: &EntryPath) -> Result<Option<Found>> {
        Ok(None)
    }
}

/// Writes one layer, entry by entry.
pub trait LayerWriter: Send {
    /// Takes an entry that is no whiteout. Returns where a file's bytes went.
    ///
    /// # Errors
    /// Refused, or not written.
    fn entry(&mut self, entry: Entry, data: &mut dyn Data) -> Result<Option<Place>>;

    /// Hides what lower layers have at `path`.
    ///
    /// # Errors
    /// Not written.
    fn whiteout(&mut self, path: &EntryPath) -> Result<()>;

    /// Hides all that lower layers have in `dir`.
    ///
    /// # Errors
    /// Not written.
    fn opaque(&mut self, dir: &EntryPath) -> Result<()>;

    /// Completes the layer with what depends on the layers below: attributes of directories
    /// that it only passes through, links to files below.
    ///
    /// # Errors
    /// Refused, or not written.
    fn finish(&mut self, lower: &dyn Lower) -> Result<()>;
}

/// Notes how a tar stream can be put together again.
pub trait Recorder {
    /// Bytes that are not a file's.
    ///
    /// # Errors
    /// Not written.
    fn raw(&mut self, bytes: &[u8]) -> Result<()>;

    /// A file's bytes: where they are, and which runs of it.
    ///
    /// # Errors
    /// Not written.
    fn file(&mut self, place: &Place, extents: &[super::Extent]) -> Result<()>;
}

/// Reads a layer to the end of its stream and gives all entries to `writer`.
///
/// # Errors
/// A broken or hostile layer, or what the writer says.
pub fn write_layer<R: BufRead>(
    reader: &mut Reader<R>,
    writer: &mut dyn LayerWriter,
    limits: Limits,
    mut recorder: Option<&mut dyn Recorder>,
) -> Result<u64> {
    let mut meter = Meter::new(limits);
    let mut entries = 0;
    while let Some(entry) = reader.next_entry()? {
        entries += 1;
        meter.entry(size_of_entry(&entry))?;
        if let Some(recorder) = recorder.as_deref_mut() {
            recorder.raw(reader.raw())?;
            reader.clear_raw();
        }
        let meaning = meaning(&entry.path)?;
        if meaning != Meaning::Entry {
            skip(reader, recorder.as_deref_mut())?;
        }
        match meaning {
            Meaning::Nothing => {}
            Meaning::Whiteout(path) => writer.whiteout(&path)?,
            Meaning::Opaque(dir) => writer.opaque(&dir)?,
            Meaning::Entry => {
                let extents = match (&entry.kind, recorder.is_some()) {
                    (EntryKind::File { extents, .. }, true) => extents.clone(),
                    _ => Vec::new(),
                };
                let place = writer.entry(entry, reader)?;
                if let (Some(recorder), Some(place)) = (recorder.as_deref_mut(), place) {
                    recorder.file(&place, &extents)?;
                }
                skip(reader, recorder.as_deref_mut())?;
            }
        }
    }
    loop {
        let more = reader.trailer()?;
        if let Some(recorder) = recorder.as_deref_mut() {
            recorder.raw(reader.raw())?;
        }
        reader.clear_raw();
        if !more {
            return Ok(entries);
        }
    }
}

/// Data that nobody wants, whatever its size.
fn skip(data: &mut dyn Data, mut recorder: Option<&mut (dyn Recorder + '_)>) -> Result<()> {
    loop {
        let chunk = data.chunk()?;
        let n = chunk.len();
        if n == 0 {
            return Ok(());
        }
        if let Some(recorder) = recorder.as_deref_mut() {
            recorder.raw(chunk)?;
        }
        data.consume(n);
    }
}

fn size_of_entry(entry: &Entry) -> u64 {
    match &entry.kind {
        EntryKind::File { size, .. } => *size,
        _ => 0,
    }
}
