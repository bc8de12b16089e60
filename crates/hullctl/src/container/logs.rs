//! `hullctl container logs`: what a container in the background has written.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ArgMatches;

use super::commands::{Found, find};

/// How often a log is looked at with `--follow`.
const TICK: Duration = Duration::from_millis(100);

/// Prints it.
pub fn logs(m: &ArgMatches) -> Result<ExitCode> {
    let found = find(m)?;
    if !found.record.detached {
        bail!(
            "logs {}: it was run in the foreground: its output went to whoever ran it",
            found.record.id
        );
    }
    let path = found.place.log();
    let file = File::open(&path).with_context(|| format!("open({})", path.display()))?;
    let mut reader = BufReader::new(file);
    let show = Show {
        timestamps: m.get_flag("timestamps"),
    };
    let mut lines = Vec::new();
    read_lines(&mut reader, &mut lines)?;
    let tail = m.get_one::<usize>("tail").copied().unwrap_or(usize::MAX);
    // A line of the program may be several of the log's.
    let whole = |l: &&Vec<u8>| !is_partial(l);
    let skip = lines.iter().filter(whole).count().saturating_sub(tail);
    let mut passed = 0;
    for line in &lines {
        if passed >= skip {
            show.line(line)?;
        }
        passed += usize::from(!is_partial(line));
    }
    if m.get_flag("follow") {
        follow(&mut reader, &found, &show)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints what comes, until the container has ended.
fn follow(reader: &mut BufReader<File>, found: &Found, show: &Show) -> Result<()> {
    loop {
        // In this order: what was written before the end is there after it.
        let running = found.is_running()?;
        let mut lines = Vec::new();
        read_lines(reader, &mut lines)?;
        for line in &lines {
            show.line(line)?;
        }
        if !running {
            return Ok(());
        }
        std::thread::sleep(TICK);
    }
}

/// Complete lines; what is being written is left for the next time.
fn read_lines(reader: &mut BufReader<File>, lines: &mut Vec<Vec<u8>>) -> Result<()> {
    loop {
        let mut line = Vec::new();
        let n = reader
            .read_until(b'\n', &mut line)
            .context("read the log")?;
        if n == 0 {
            return Ok(());
        }
        if line.last() != Some(&b'\n') {
            let back = i64::try_from(n).unwrap_or(0);
            return reader.seek_relative(-back).context("lseek(log)");
        }
        lines.push(line);
    }
}

/// `TIME STREAM TAG CONTENT`: the kubelet's format.
struct Line<'a> {
    time: &'a [u8],
    stream: &'a [u8],
    tag: &'a [u8],
    content: &'a [u8],
}

fn fields(line: &[u8]) -> Option<Line<'_>> {
    let mut parts = line.splitn(4, |&b| b == b' ');
    Some(Line {
        time: parts.next()?,
        stream: parts.next()?,
        tag: parts.next()?,
        content: parts.next()?,
    })
}

fn is_partial(line: &[u8]) -> bool {
    fields(line).is_some_and(|line| line.tag.starts_with(b"P"))
}

struct Show {
    timestamps: bool,
}

impl Show {
    /// Prints one line to the output that the program wrote it to.
    fn line(&self, line: &[u8]) -> Result<()> {
        let Some(Line {
            time,
            stream,
            tag,
            content,
        }) = fields(line)
        else {
            return Ok(());
        };
        let content = if tag.starts_with(b"P") {
            content.strip_suffix(b"\n").unwrap_or(content)
        } else {
            content
        };
        let mut text = Vec::with_capacity(line.len());
        if self.timestamps {
            text.extend_from_slice(time);
            text.push(b' ');
        }
        text.extend_from_slice(content);
        let written = if stream == b"stderr" {
            std::io::stderr().write_all(&text)
        } else {
            std::io::stdout().write_all(&text)
        };
        written.context("write the log's lines")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_format() {
        let line = b"2026-01-01T00:00:00.000000000Z stdout P one two\n";
        assert!(is_partial(line));
        assert_eq!(fields(line).unwrap().content, b"one two\n");
        assert!(!is_partial(b"2026-01-01T00:00:00Z stderr F \n"));
        assert!(fields(b"nonsense\n").is_none());
    }
}
