//! One blob: from the source through a check, and perhaps another compression, to the
//! destination.

use std::io::{self, Read};
use std::sync::atomic::Ordering;

use flate2::bufread::MultiGzDecoder;

use super::Job;
use super::convert::{Compression, is_foreign};
use super::image::Task;
use crate::progress::Outcome;
use crate::transport::{Verified, files};
use crate::{Algorithm, Digest, Error, Hasher, Result};

impl Job<'_> {
    /// Copies a blob; its digest and size at the destination.
    pub(super) fn blob(&self, task: &Task) -> Result<(Digest, u64)> {
        let blob = &task.blob;
        let progress = self.options.progress;
        let same = (blob.digest.clone(), blob.size);
        if task.from == task.to {
            if is_foreign(blob) {
                progress.finished(blob, Outcome::Foreign);
                return Ok(same);
            }
            if self.to.has_blob(blob)? {
                progress.finished(blob, Outcome::Present);
                return Ok(same);
            }
            if let Some(origin) = self.origin()
                && self.to.mount_blob(blob, origin)?
            {
                progress.finished(blob, Outcome::Mounted);
                return Ok(same);
            }
        }
        progress.started(blob);
        let restart = || progress.restarted(&blob.digest);
        let written = self.repeat(restart, || self.transfer(task))?;
        progress.finished(blob, Outcome::Copied);
        self.bytes.fetch_add(blob.size, Ordering::Relaxed);
        Ok(written)
    }

    fn transfer(&self, task: &Task) -> Result<(Digest, u64)> {
        let blob = &task.blob;
        let mut source = Verified::new(
            Watched {
                inner: self.source.blob(blob)?,
                job: self,
                digest: &blob.digest,
            },
            blob,
        );
        if task.from == task.to {
            return self.to.put_blob(Some(blob), &mut source);
        }
        let (from, to) = (
            task.from.unwrap_or(Compression::None),
            task.to.unwrap_or(Compression::None),
        );
        let failed = |e: io::Error| Error::Io {
            what: format!("{}: layer {}", self.source.place(), blob.digest),
            source: e,
        };
        let algorithm = task
            .diff_id
            .as_ref()
            .map_or(Algorithm::Sha256, Digest::algorithm);
        let (written, computed) = {
            let mut hashed = Hashed {
                inner: inflate(&mut source, from).map_err(failed)?,
                hasher: Hasher::new(algorithm),
            };
            let written = {
                let mut deflated = deflate(&mut hashed, to, task.level).map_err(failed)?;
                self.to.put_blob(None, &mut deflated)?
            };
            (written, hashed.hasher.finish())
        };
        // What follows the compressed stream belongs to the blob's digest, too.
        io::copy(&mut source, &mut io::sink()).map_err(failed)?;
        match &task.diff_id {
            Some(expected) if *expected != computed => Err(Error::Document {
                what: "layer",
                why: format!(
                    "{}: inflated it is {computed}, the configuration says {expected}",
                    blob.digest
                ),
            }),
            _ => Ok(written),
        }
    }
}

pub(super) fn inflate<'a>(
    source: &'a mut dyn Read,
    from: Compression,
) -> io::Result<Box<dyn Read + 'a>> {
    let buffered = io::BufReader::with_capacity(files::BUFFER, source);
    Ok(match from {
        Compression::None => Box::new(buffered),
        Compression::Gzip => Box::new(MultiGzDecoder::new(buffered)),
        Compression::Zstd => Box::new(zstd::Decoder::with_buffer(buffered)?),
    })
}

fn deflate<'a>(
    source: &'a mut dyn Read,
    to: Compression,
    level: Option<i32>,
) -> io::Result<Box<dyn Read + 'a>> {
    let level_of = |usual: i32| level.unwrap_or(usual);
    Ok(match to {
        Compression::None => Box::new(source),
        Compression::Gzip => {
            let level = u32::try_from(level_of(6)).unwrap_or(6).min(9);
            Box::new(flate2::read::GzEncoder::new(
                source,
                flate2::Compression::new(level),
            ))
        }
        Compression::Zstd => Box::new(zstd::stream::read::Encoder::new(source, level_of(3))?),
    })
}

struct Hashed<R> {
    inner: R,
    hasher: Hasher,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hasher.update(buffer.get(..n).unwrap_or_default());
        Ok(n)
    }
}

/// Tells the progress of what passes.
struct Watched<'a> {
    inner: Box<dyn Read + Send>,
    job: &'a Job<'a>,
    digest: &'a Digest,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.job.options.progress.advanced(self.digest, n as u64);
        Ok(n)
    }
}
