//! A blob becomes a layer while it arrives.
//!
//! Two threads and a few buffers between them: one reads, checks the blob's digest and inflates;
//! the other computes the digest of the tar stream, reads it and writes the layer. Neither holds
//! more than its buffers, whatever the layer's size.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use crate::document::Descriptor;
use crate::layer::{LayerWriter, Limits, Recorder, tar, write_layer};
use crate::transport::{Source, Verified};
use crate::{Algorithm, Digest, Error, Hasher, Result};

/// Bytes of a buffer between the threads.
const CHUNK: usize = 256 << 10;
/// Buffers between the threads.
const CHUNKS: usize = 4;
/// Bytes read from a blob at once.
const INPUT: usize = 128 << 10;
/// Largest window of zstd, as a power of two: what `zstd -d` takes by default.
const ZSTD_WINDOW: u32 = 27;

/// What a layer turned out to be.
#[derive(Debug)]
pub(crate) struct Streamed {
    pub tar_size: u64,
    pub entries: u64,
}

/// Watches a transfer.
pub(crate) struct Watch<'a> {
    pub taken: &'a (dyn Fn(u64) + Sync),
    pub cancelled: &'a (dyn Fn() -> bool + Sync),
}

/// Streams `blob` into `writer`; its digest and `diff_id` are checked before this returns well.
pub(crate) fn stream(
    source: &dyn Source,
    blob: &Descriptor,
    diff_id: &Digest,
    limits: Limits,
    watch: &Watch<'_>,
    writer: &mut dyn LayerWriter,
    recorder: Option<&mut dyn Recorder>,
) -> Result<Streamed> {
    let input = source.blob(blob)?;
    std::thread::scope(|scope| {
        let (full, from) = sync_channel(CHUNKS);
        let (back, empty) = channel();
        for _ in 0..CHUNKS {
            let _ = back.send(Vec::with_capacity(CHUNK));
        }
        let inflating = scope.spawn(move || {
            let end = inflate(input, blob, limits, watch, &full, &empty);
            if let Err(e) = end {
                let _ = full.send(Err(e));
            }
        });
        let chunks = Chunks::new(from, back, diff_id.algorithm());
        let result = consume(chunks, diff_id, limits, writer, recorder);
        let _ = inflating.join();
        result
    })
}

fn consume(
    chunks: Chunks,
    diff_id: &Digest,
    limits: Limits,
    writer: &mut dyn LayerWriter,
    recorder: Option<&mut dyn Recorder>,
) -> Result<Streamed> {
    let mut reader = match recorder {
        Some(_) => tar::Reader::keeping_raw(chunks),
        None => tar::Reader::new(chunks),
    };
    let written = write_layer(&mut reader, writer, limits, recorder);
    let mut chunks = reader.into_inner();
    // The inflating thread's own error says more than "ends early".
    let entries = match (written, chunks.failure.take()) {
        (_, Some(e)) => return Err(e),
        (written, None) => written?,
    };
    let (digest, tar_size) = chunks.finish();
    if digest != *diff_id {
        return Err(Error::store(
            format!("layer {diff_id}"),
            format!("its tar stream has the digest {digest}: the image is broken or forged"),
        ));
    }
    Ok(Streamed { tar_size, entries })
}

type Chunk = Result<Vec<u8>>;

fn inflate(
    input: Box<dyn Read + Send>,
    blob: &Descriptor,
    limits: Limits,
    watch: &Watch<'_>,
    full: &SyncSender<Chunk>,
    empty: &Receiver<Vec<u8>>,
) -> Result<()> {
    let failed = |e: io::Error| Error::io(format!("layer {}", blob.digest), e);
    let counted = Counted {
        inner: Verified::new(input, blob),
        watch,
        taken: 0,
    };
    let mut input = BufReader::with_capacity(INPUT, counted);
    let mut given = 0u64;
    let mut pump = |from: &mut dyn Read| -> Result<bool> {
        loop {
            // The other end is gone where it has failed; its error is the one to show.
            let Ok(mut chunk) = empty.recv() else {
                return Ok(false);
            };
            chunk.resize(CHUNK, 0);
            let n = fill(from, &mut chunk).map_err(failed)?;
            chunk.truncate(n);
            given += n as u64;
            limits.inflated(blob.size, given)?;
            if n == 0 {
                return Ok(true);
            }
            if full.send(Ok(chunk)).is_err() {
                return Ok(false);
            }
        }
    };
    let whole = match compression(input.fill_buf().map_err(failed)?) {
        Compression::None => pump(&mut input)?,
        Compression::Gzip => {
            let mut decoder = flate2::bufread::MultiGzDecoder::new(&mut input);
            pump(&mut decoder)?
        }
        Compression::Zstd => {
            let decoder = zstd::stream::read::Decoder::with_buffer(&mut input);
            let mut decoder = decoder.map_err(failed)?;
            decoder.window_log_max(ZSTD_WINDOW).map_err(failed)?;
            pump(&mut decoder)?
        }
    };
    if !whole {
        return Ok(());
    }
    // What follows the compressed stream belongs to the blob and to its digest.
    io::copy(&mut input, &mut io::sink()).map_err(failed)?;
    Ok(())
}

fn fill(from: &mut dyn Read, chunk: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = chunk.get_mut(filled..).filter(|r| !r.is_empty()) {
        match from.read(rest) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Compression {
    None,
    Gzip,
    Zstd,
}

/// By the first bytes: media types have been wrong too often.
fn compression(head: &[u8]) -> Compression {
    match head {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
        // A skippable frame comes first in zstd:chunked's and pzstd's files.
        [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
        _ => Compression::None,
    }
}

/// Tells what has been taken, and ends when it is told to.
struct Counted<'a, R> {
    inner: R,
    watch: &'a Watch<'a>,
    taken: u64,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if (self.watch.cancelled)() {
            return Err(io::Error::other("cancelled"));
        }
        let n = self.inner.read(buffer)?;
        self.taken += n as u64;
        (self.watch.taken)(n as u64);
        Ok(n)
    }
}

/// The tar stream as it comes from the other thread; its digest is computed on the way.
struct Chunks {
    from: Receiver<Chunk>,
    back: Sender<Vec<u8>>,
    current: Vec<u8>,
    at: usize,
    hasher: Hasher,
    total: u64,
    failure: Option<Error>,
}

impl Chunks {
    fn new(from: Receiver<Chunk>, back: Sender<Vec<u8>>, algorithm: Algorithm) -> Self {
        Self {
            from,
            back,
            current: Vec::new(),
            at: 0,
            hasher: Hasher::new(algorithm),
            total: 0,
            failure: None,
        }
    }

    fn finish(self) -> (Digest, u64) {
        (self.hasher.finish(), self.total)
    }

    fn next(&mut self) {
        let used = std::mem::take(&mut self.current);
        if used.capacity() > 0 {
            let _ = self.back.send(used);
        }
        self.at = 0;
        match self.from.recv() {
            Ok(Ok(chunk)) => {
                self.hasher.update(&chunk);
                self.total += chunk.len() as u64;
                self.current = chunk;
            }
            Ok(Err(e)) => self.failure = Some(e),
            Err(_) => {}
        }
    }
}

impl BufRead for Chunks {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.current.len() {
            self.next();
        }
        Ok(self.current.get(self.at..).unwrap_or_default())
    }

    fn consume(&mut self, n: usize) {
        self.at = (self.at + n).min(self.current.len());
    }
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut from = self.fill_buf()?;
        let n = from.read(buffer)?;
        self.consume(n);
        Ok(n)
    }
}
