//! The log of a container, in the format that the kubelet reads:
//! `2026-11-25T18:00:00.000000000Z stdout F text`.
//!
//! A line that is longer than 16 KiB, or that its writer has not finished, is written in parts
//! marked `P`; the last part is marked `F`, also where the writer ends without a newline.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::fs::{CWD, Mode, OFlags, openat};
use sys::Context as _;

use crate::Result;
use crate::protocol::LogOptions;

/// Longest part of a line.
const MAX_PART: usize = 16 * 1024;
/// What is gathered before it is written.
const MAX_GATHERED: usize = 32 * 1024;
/// Names of the streams.
const STREAMS: [&str; 2] = ["stdout", "stderr"];

/// A log that is open.
#[derive(Debug)]
pub(super) struct Log {
    options: LogOptions,
    file: OwnedFd,
    size: u64,
    /// Whether the last part of a stream was not the last of its line.
    open: [bool; 2],
    /// What was begun could not be written to its end.
    torn: bool,
    bucket: Bucket,
    /// Bytes that were dropped and not announced yet; why.
    dropped: u64,
    /// Bytes that were dropped, ever.
    pub lost: u64,
    /// Why the last write failed.
    pub trouble: Option<String>,
}

/// How much may be written at once, and how fast it becomes more.
#[derive(Debug)]
struct Bucket {
    rate: u64,
    level: u64,
    filled: Instant,
}

impl Bucket {
    fn new(rate: u64) -> Self {
        Self {
            rate,
            level: rate,
            filled: Instant::now(),
        }
    }

    /// Takes so much if it is there.
    fn take(&mut self, bytes: u64) -> bool {
        if self.rate == 0 {
            return true;
        }
        let millis = u64::try_from(self.filled.elapsed().as_millis()).unwrap_or(u64::MAX);
        if millis > 0 {
            let more = self.rate.saturating_mul(millis) / 1000;
            self.level = self.level.saturating_add(more).min(self.rate);
            self.filled = Instant::now();
        }
        let enough = self.level >= bytes;
        if enough {
            self.level -= bytes;
        }
        enough
    }
}

impl Log {
    /// Opens it; with `resume`, lines that another writer has left open are gone on with.
    pub fn open(options: LogOptions, resume: bool) -> Result<Self> {
        let (file, size) = open(&options.path)?;
        let open = if resume {
            open_lines(&options.path, size)
        } else {
            [false; 2]
        };
        Ok(Self {
            bucket: Bucket::new(options.rate.unwrap_or(0)),
            options,
            file,
            size,
            open,
            torn: false,
            dropped: 0,
            lost: 0,
            trouble: None,
        })
    }

    /// Opens the path again.
    pub fn reopen(&mut self) -> Result<()> {
        let (file, size) = open(&self.options.path)?;
        self.file = file;
        self.size = size;
        self.torn = false;
        Ok(())
    }

    /// Takes output of a stream; how much of it was taken. The beginning of a line is left where
    /// there are whole ones before it: the rest may be there at the next look. Nothing is left
    /// of `all`.
    pub fn write(&mut self, stream: usize, data: &[u8], all: bool) -> usize {
        let mut gathered = Vec::new();
        let time = runtime::clock::now_rfc3339();
        let mut taken = 0;
        while let Some(rest) = data.get(taken..).filter(|rest| !rest.is_empty()) {
            let window = rest.get(..MAX_PART + 1).unwrap_or(rest);
            match memchr::memchr(b'\n', window) {
                Some(end) => {
                    self.part(&mut gathered, &time, stream, &rest[..end], true);
                    taken += end + 1;
                }
                None if rest.len() >= MAX_PART => {
                    self.part(&mut gathered, &time, stream, &rest[..MAX_PART], false);
                    taken += MAX_PART;
                }
                None if taken > 0 && !all => break,
                None => {
                    self.part(&mut gathered, &time, stream, rest, false);
                    taken += rest.len();
                }
            }
        }
        self.flush(&mut gathered);
        taken
    }

    /// The stream has ended: so does its last line.
    pub fn end(&mut self, stream: usize) {
        let mut gathered = Vec::new();
        let time = runtime::clock::now_rfc3339();
        if self.open.get(stream).copied().unwrap_or(false) {
            self.part(&mut gathered, &time, stream, b"", true);
        }
        self.announce(&mut gathered, &time);
        self.flush(&mut gathered);
    }

    fn part(&mut self, gathered: &mut Vec<u8>, time: &str, stream: usize, text: &[u8], end: bool) {
        let name = STREAMS.get(stream).copied().unwrap_or_default();
        let length = time.len() + name.len() + text.len() + 5;
        if !self.bucket.take(length as u64) {
            // The end of a line that was begun is still written: a part without its end would
            // break readers.
            if end && self.open.get(stream).copied().unwrap_or(false) {
                self.append(gathered, time, stream, b"", true);
            }
            self.drop_bytes(text.len() as u64);
            return;
        }
        if self.dropped > 0 && !self.open.contains(&true) {
            self.announce(gathered, time);
        }
        self.append(gathered, time, stream, text, end);
    }

    fn append(
        &mut self,
        gathered: &mut Vec<u8>,
        time: &str,
        stream: usize,
        text: &[u8],
        end: bool,
    ) {
        let name = STREAMS.get(stream).copied().unwrap_or_default();
        let length = (time.len() + name.len() + text.len() + 5) as u64;
        self.make_room(gathered, length);
        gathered.extend_from_slice(time.as_bytes());
        gathered.push(b' ');
        gathered.extend_from_slice(name.as_bytes());
        gathered.extend_from_slice(if end { b" F " } else { b" P " });
        gathered.extend_from_slice(text);
        gathered.push(b'\n');
        if let Some(open) = self.open.get_mut(stream) {
            *open = !end;
        }
        if gathered.len() >= MAX_GATHERED {
            self.flush(gathered);
        }
    }

    /// Says how much was dropped, in a line of its own.
    fn announce(&mut self, gathered: &mut Vec<u8>, time: &str) {
        if self.dropped == 0 || self.trouble.is_some() {
            return;
        }
        let bytes = std::mem::take(&mut self.dropped);
        let text = format!("{time} stderr F hull: {bytes} bytes of output were dropped here\n");
        self.make_room(gathered, text.len() as u64);
        gathered.extend_from_slice(text.as_bytes());
    }

    fn drop_bytes(&mut self, bytes: u64) {
        self.dropped = self.dropped.saturating_add(bytes);
        self.lost = self.lost.saturating_add(bytes);
    }

    /// Renames the file where it would become too long; between lines, unless a line is as long
    /// as a whole file.
    fn make_room(&mut self, gathered: &mut Vec<u8>, more: u64) {
        let Some(max) = self.options.max_bytes.filter(|max| *max > 0) else {
            return;
        };
        let size = self.size + gathered.len() as u64 + more;
        let between = !self.open.contains(&true);
        if size <= max || !(between || size > max.saturating_mul(2)) {
            return;
        }
        self.flush(gathered);
        if self.size > 0
            && let Err(e) = self.rotate()
        {
            self.trouble = Some(e.to_string());
        }
    }

    fn rotate(&mut self) -> Result<()> {
        let path = self.options.path.clone();
        let args = || path.display().to_string();
        // As the kubelet names those that it renames, which makes it sweep these too.
        let now = runtime::clock::now_rfc3339();
        let stamp: String = now
            .chars()
            .filter(|c| c.is_ascii_digit() || matches!(c, 'T' | '.'))
            .map(|c| if c == 'T' { '-' } else { c })
            .collect();
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{stamp}"));
        std::fs::rename(&path, PathBuf::from(name)).context("rename", args)?;
        self.reopen()?;
        self.sweep();
        Ok(())
    }

    /// Removes the oldest of those that were renamed.
    fn sweep(&self) {
        let (Some(parent), Some(name)) =
            (self.options.path.parent(), self.options.path.file_name())
        else {
            return;
        };
        let mut prefix = name.to_string_lossy().into_owned();
        prefix.push('.');
        let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
        let mut old: Vec<String> = entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|entry| entry.starts_with(&prefix))
            .collect();
        old.sort_unstable();
        let keep = self.options.max_files.unwrap_or(1).max(1) as usize;
        let surplus = old.len().saturating_sub(keep);
        for name in old.iter().take(surplus) {
            // One that cannot be removed now is tried again at the next turn.
            let _ = std::fs::remove_file(parent.join(name));
        }
    }

    /// Writes what was gathered. What cannot be written is lost, counted, and announced when it
    /// can be: a full disk must not stop the program.
    fn flush(&mut self, gathered: &mut Vec<u8>) {
        if gathered.is_empty() {
            return;
        }
        if self.torn {
            gathered.insert(0, b'\n');
        }
        let mut written = 0;
        let failed = loop {
            let Some(rest) = gathered.get(written..).filter(|rest| !rest.is_empty()) else {
                break None;
            };
            match rustix::io::retry_on_intr(|| rustix::io::write(&self.file, rest)) {
                Ok(0) => break Some(sys::Errno::IO),
                Ok(n) => written += n,
                Err(e) => break Some(e),
            }
        };
        self.size += written as u64;
        let whole = written == 0 || gathered.get(written - 1) == Some(&b'\n');
        self.torn = if written == 0 { self.torn } else { !whole };
        let left = gathered.len().saturating_sub(written) as u64;
        gathered.clear();
        match failed {
            Some(errno) => {
                self.drop_bytes(left);
                let path = self.options.path.display().to_string();
                self.trouble = Some(sys::Error::new("write", path, errno).to_string());
            }
            None => self.trouble = None,
        }
    }
}

fn open(path: &Path) -> Result<(OwnedFd, u64)> {
    let args = || path.display().to_string();
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP;
    // Whoever made a fifo of it must not make us wait for its reader.
    let file = openat(CWD, path, flags | OFlags::NONBLOCK | OFlags::NOCTTY, mode);
    let file = file.context("open", args)?;
    let stat = rustix::fs::fstat(&file).context("fstat", args)?;
    Ok((file, u64::try_from(stat.st_size).unwrap_or(0)))
}

/// Which streams end in the middle of a line, from the end of the file.
fn open_lines(path: &Path, size: u64) -> [bool; 2] {
    use std::io::{Read as _, Seek as _, SeekFrom};
    const TAIL: u64 = 64 * 1024;
    let tail = std::fs::File::open(path).and_then(|mut file| {
        file.seek(SeekFrom::Start(size.saturating_sub(TAIL)))?;
        let mut bytes = Vec::new();
        file.take(TAIL).read_to_end(&mut bytes)?;
        Ok(bytes)
    });
    let tail = tail.unwrap_or_default();
    let mut open = [false; 2];
    for line in tail.split(|&b| b == b'\n') {
        let mut words = line.splitn(4, |&b| b == b' ').skip(1);
        let (Some(name), Some(tag)) = (words.next(), words.next()) else {
            continue;
        };
        for (stream, known) in STREAMS.iter().enumerate() {
            if name == known.as_bytes() {
                open[stream] = tag == b"P";
            }
        }
    }
    open
}

#[cfg(test)]
mod tests;
