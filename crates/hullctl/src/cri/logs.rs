//! `logs`: a container's log file, as the runtime writes it for the kubelet.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use clap::{Arg, ArgMatches, Command};
use cri_api::v1;

use super::args::{flag, integer, number, option, parse_duration, text};
use super::client::Cri;
use super::lifecycle;
use super::output::{now, parse_rfc3339};

/// How often `--follow` looks for more.
const POLL: Duration = Duration::from_millis(100);
/// Read at once when looking for the last lines.
const BLOCK: u64 = 64 << 10;
/// The longest line taken: runtimes cut theirs at 16 KiB.
const LONGEST: u64 = 1 << 20;

/// The definition.
pub fn commands() -> Vec<Command> {
    let command = Command::new("logs")
        .about("Show a container's log")
        .arg(Arg::new("id").value_name("CONTAINER").required(true))
        .arg(flag("follow", "Until the container ends").short('f'))
        .arg(flag("previous", "Of the attempt before").short('p'))
        .arg(
            flag(
                "reopen",
                "Let the runtime open the file again, after it was moved",
            )
            .short('r'),
        )
        .arg(number("tail", "Only the last N lines; -1 is all").default_value("-1"))
        .arg(number("limit-bytes", "Only so many bytes"))
        .arg(option(
            "since",
            "TIME",
            "Only what is newer: 2024-01-02T15:04:05Z, or 10m ago",
        ))
        .arg(flag("timestamps", "With times").short('t'))
        .arg(
            option("stream", "NAME", "Only stdout or stderr")
                .short('s')
                .value_parser(["all", "stdout", "stderr"])
                .default_value("all"),
        )
        .after_help(
            "Examples:\n  hullctl logs -f abc\n  hullctl logs --since 10m --tail 20 -t abc",
        );
    vec![command]
}

/// What of the log is wanted.
struct Wanted {
    since: Option<i64>,
    times: bool,
    stream: Option<String>,
    left: Option<usize>,
}

impl Wanted {
    fn of(m: &ArgMatches) -> Result<Self> {
        Ok(Wanted {
            since: text(m, "since").map(|s| since(&s)).transpose()?,
            times: m.get_flag("timestamps"),
            stream: text(m, "stream").filter(|s| s != "all"),
            left: integer(m, "limit-bytes")
                .and_then(|n| usize::try_from(n).ok())
                .filter(|n| *n > 0),
        })
    }

    /// Writes one line of the file to where it belongs; false when there is enough.
    fn write(&mut self, raw: &[u8]) -> Result<bool> {
        let Some(entry) = Entry::parse(raw) else {
            return Ok(true);
        };
        let wrong_stream = self.stream.as_ref().is_some_and(|s| s != entry.stream);
        let old = self
            .since
            .is_some_and(|s| parse_rfc3339(entry.time).is_none_or(|t| t < s));
        if wrong_stream || old {
            return Ok(true);
        }
        let mut line = Vec::new();
        if self.times {
            line.extend_from_slice(entry.time.as_bytes());
            line.push(b' ');
        }
        line.extend_from_slice(entry.content);
        if !entry.partial {
            line.push(b'\n');
        }
        if let Some(left) = &mut self.left {
            line.truncate(*left);
            *left -= line.len();
        }
        let written = match entry.stream {
            "stderr" => std::io::stderr().write_all(&line),
            _ => std::io::stdout().write_all(&line),
        };
        match written {
            // Whoever reads has enough.
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
            result => result
                .context("write the log")
                .map(|()| self.left != Some(0)),
        }
    }
}

/// A line of the file.
struct Entry<'l> {
    time: &'l str,
    stream: &'l str,
    partial: bool,
    content: &'l [u8],
}

impl<'l> Entry<'l> {
    fn parse(line: &'l [u8]) -> Option<Self> {
        let mut parts = line.splitn(4, |b| *b == b' ');
        let mut word = || std::str::from_utf8(parts.next()?).ok();
        let (time, stream, tags) = (word()?, word()?, word()?);
        Some(Entry {
            time,
            stream,
            // Tags are set apart by colons.
            partial: tags.split(':').any(|tag| tag == "P"),
            content: parts.next().unwrap_or_default(),
        })
    }
}

fn since(text: &str) -> Result<i64> {
    if let Some(time) = parse_rfc3339(text) {
        return Ok(time);
    }
    let ago = parse_duration(text)
        .map_err(|_| anyhow!("--since {text}: write 2024-01-02T15:04:05Z or 10m"))?;
    Ok(now() - i64::try_from(ago.as_nanos()).unwrap_or(i64::MAX))
}

/// `logs`.
pub async fn run(cri: &Cri, m: &ArgMatches) -> Result<()> {
    let mut id = text(m, "id").unwrap_or_default();
    if m.get_flag("reopen") {
        let request = v1::ReopenContainerLogRequest {
            container_id: id.clone(),
        };
        let what = format!("reopen the log of container {id}");
        act!(cri, &what, runtime.reopen_container_log(request))?;
        return Ok(());
    }
    if m.get_flag("previous") {
        id = previous(cri, &id).await?;
    }
    let status = lifecycle::status(cri, &id, false)
        .await?
        .status
        .unwrap_or_default();
    if status.log_path.is_empty() {
        bail!("logs of container {id}: it has none: its configuration names no log_path");
    }
    let tail = integer(m, "tail").and_then(|n| usize::try_from(n).ok());
    let path = Path::new(&status.log_path);
    let mut log = Log::open(path, tail)?;
    let mut wanted = Wanted::of(m)?;
    let follow = m.get_flag("follow");
    loop {
        // Asked before reading: what is written before the end is read after it.
        let ended = follow && !is_running(cri, &id).await;
        if !log.drain(&mut wanted)? || ended || !follow {
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
        log.follow_rotation(path);
    }
}

/// A container that is gone runs no more.
async fn is_running(cri: &Cri, id: &str) -> bool {
    let status = lifecycle::status(cri, id, false).await;
    let status = status.ok().and_then(|s| s.status);
    status.is_some_and(|s| {
        matches!(
            s.state(),
            v1::ContainerState::ContainerRunning | v1::ContainerState::ContainerCreated
        )
    })
}

/// The container of the same name and pod that came before this one.
async fn previous(cri: &Cri, id: &str) -> Result<String> {
    let request = v1::ListContainersRequest::default();
    let answer = look!(cri, "list containers", runtime.list_containers(request))?;
    let all = answer.containers;
    let this = all.iter().find(|c| c.id.starts_with(id));
    let this = this.ok_or_else(|| anyhow!("container {id}: there is no such container"))?;
    let metadata = this.metadata.clone().unwrap_or_default();
    let before = all
        .iter()
        .filter(|c| c.pod_sandbox_id == this.pod_sandbox_id)
        .filter(|c| {
            let other = c.metadata.clone().unwrap_or_default();
            other.name == metadata.name && other.attempt < metadata.attempt
        })
        .max_by_key(|c| c.metadata.as_ref().map_or(0, |m| m.attempt));
    before.map(|c| c.id.clone()).ok_or_else(|| {
        anyhow!(
            "container {id}: there is no attempt before {}",
            metadata.attempt
        )
    })
}

/// An open log file.
struct Log {
    file: BufReader<File>,
    /// A line that has not ended yet.
    rest: Vec<u8>,
}

impl Log {
    fn open(path: &Path, tail: Option<usize>) -> Result<Self> {
        let wrong = || format!("read {}", path.display());
        let mut file = File::open(path).with_context(wrong)?;
        if let Some(lines) = tail {
            let from = last_lines(&mut file, lines).with_context(wrong)?;
            file.seek(SeekFrom::Start(from)).with_context(wrong)?;
        }
        Ok(Log {
            file: BufReader::new(file),
            rest: Vec::new(),
        })
    }

    /// Writes all lines that are there; false when there is enough.
    fn drain(&mut self, wanted: &mut Wanted) -> Result<bool> {
        loop {
            let room = LONGEST.saturating_sub(u64::try_from(self.rest.len()).unwrap_or(LONGEST));
            let mut limited = (&mut self.file).take(room.max(1));
            limited
                .read_until(b'\n', &mut self.rest)
                .context("read the log")?;
            let whole = self.rest.last() == Some(&b'\n');
            if !whole && u64::try_from(self.rest.len()).unwrap_or(LONGEST) < LONGEST {
                return Ok(true);
            }
            let line = std::mem::take(&mut self.rest);
            let line = line.strip_suffix(b"\n").unwrap_or(&line);
            if !wanted.write(line)? {
                return Ok(false);
            }
        }
    }

    /// Goes on with the new file when the old one was moved away.
    fn follow_rotation(&mut self, path: &Path) {
        // Between moving and making there is no file: the next look finds it.
        let (Ok(new), Ok(old)) = (std::fs::metadata(path), self.file.get_ref().metadata()) else {
            return;
        };
        if (new.dev(), new.ino()) == (old.dev(), old.ino()) {
            return;
        }
        if let Ok(log) = Log::open(path, None) {
            *self = log;
        }
    }
}

/// Where the last lines of a file begin.
fn last_lines(file: &mut File, lines: usize) -> std::io::Result<u64> {
    let end = file.metadata()?.len();
    let (mut from, mut found) = (end, 0);
    let mut block = Vec::new();
    while from > 0 {
        let start = from.saturating_sub(BLOCK);
        file.seek(SeekFrom::Start(start))?;
        block.clear();
        (&mut *file).take(from - start).read_to_end(&mut block)?;
        for (i, byte) in block.iter().enumerate().rev() {
            let at = start + u64::try_from(i).unwrap_or(0);
            // The end of the last line begins none.
            if *byte == b'\n' && at + 1 < end {
                found += 1;
            }
            if *byte == b'\n' && at + 1 < end && found == lines {
                return Ok(at + 1);
            }
        }
        from = start;
    }
    Ok(if lines == 0 { end } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_the_last_lines_begin() {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(b"one\ntwo\nthree\n").expect("written");
        for (lines, from) in [(0, 14), (1, 8), (2, 4), (3, 0), (9, 0)] {
            assert_eq!(last_lines(&mut file, lines).expect("read"), from, "{lines}");
        }
        let mut long = tempfile::tempfile().expect("a file");
        let line = [b"x".repeat(99), b"\n".to_vec()].concat();
        long.write_all(&line.repeat(2000)).expect("written");
        assert_eq!(last_lines(&mut long, 1500).expect("read"), 50_000);
    }

    #[test]
    fn lines_of_the_file() {
        let entry = Entry::parse(b"2024-01-01T00:00:00Z stdout P a b  c").expect("an entry");
        assert_eq!(
            (entry.stream, entry.partial, entry.content),
            ("stdout", true, &b"a b  c"[..])
        );
        let entry = Entry::parse(b"2024-01-01T00:00:00Z stderr F ").expect("an entry");
        assert_eq!(
            (entry.stream, entry.partial, entry.content),
            ("stderr", false, &b""[..])
        );
        assert!(Entry::parse(b"rubbish").is_none());
    }
}
