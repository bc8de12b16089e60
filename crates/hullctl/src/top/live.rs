//! The table that renews itself.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use runtime::foreground::RawTerminal;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::row::Sort;
use super::sample::Sample;
use super::{Report, View, report, text};
use crate::table::terminal_width;

const KEYS: &str =
    "q ends  v view  sort: c cpu  m memory  t network  i io  p pressure  d stuck  n name";
/// Of the terminal: another screen without a cursor, and back.
const BEGIN: &str = "\x1b[?1049h\x1b[?25l";
const END: &str = "\x1b[?25h\x1b[?1049l";

/// The other screen, for as long as it is held.
struct Screen(Option<RawTerminal>);

impl Screen {
    fn begin() -> Result<Self> {
        let raw = RawTerminal::of_stdio()?;
        write(BEGIN)?;
        Ok(Self(raw))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that has gone needs no restoring.
        let _ = write(END);
        drop(self.0.take());
    }
}

/// Shows until `q`.
pub fn run(mut view: View) -> Result<ExitCode> {
    let _screen = Screen::begin()?;
    let mut before = Sample::take(&view.root)?;
    let mut since: BTreeMap<i32, Instant> = BTreeMap::new();
    // The first numbers soon, the next ones in peace.
    let mut wait = Duration::from_millis(300);
    loop {
        let end = Instant::now() + wait;
        while let Some(key) = key_until(end)? {
            match key {
                // q, Ctrl-C, Ctrl-D
                b'q' | 3 | 4 => return Ok(ExitCode::SUCCESS),
                b'v' => view.io = !view.io,
                key => view.sort = Sort::of_key(key).unwrap_or(view.sort),
            }
        }
        let now = Sample::take(&view.root)?;
        let mut shown = report(&view, &before, &now);
        remember(&mut since, &mut shown, now.at);
        show(&view, &shown)?;
        before = now;
        wait = view.interval;
    }
}

/// How long each task has been stuck since it was first seen so.
fn remember(since: &mut BTreeMap<i32, Instant>, shown: &mut Report, now: Instant) {
    let mut still = BTreeMap::new();
    for row in &mut shown.containers {
        for task in &mut row.stuck {
            let first = since.get(&task.tid).copied().unwrap_or(now);
            task.seen_seconds = now.duration_since(first).as_secs_f64();
            still.insert(task.tid, first);
        }
    }
    *since = still;
}

fn show(view: &View, shown: &Report) -> Result<()> {
    let size = rustix::termios::tcgetwinsize(rustix::stdio::stdout()).ok();
    let rows = size.map_or(24, |s| usize::from(s.ws_row)).max(2);
    let text = text(view, shown, terminal_width());
    // Each line clears what was behind it: no flicker.
    let mut screen = String::from("\x1b[H");
    for line in text.lines().take(rows - 1) {
        screen.push_str(line);
        screen.push_str("\x1b[K\r\n");
    }
    screen.push_str(KEYS);
    screen.push_str("\x1b[K\x1b[J");
    write(&screen)
}

fn write(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .context("write(terminal)")
}

/// A key, or `None` when it is time.
fn key_until(end: Instant) -> Result<Option<u8>> {
    let left = end.saturating_duration_since(Instant::now());
    let stdin = rustix::stdio::stdin();
    let mut fds = [PollFd::new(&stdin, PollFlags::IN)];
    let timeout = Timespec::try_from(left).context("interval")?;
    match poll(&mut fds, Some(&timeout)) {
        Ok(0) | Err(Errno::INTR) => return Ok(None),
        Ok(_) => {}
        Err(e) => return Err(e).context("poll(standard input)"),
    }
    let mut key = [0];
    match rustix::io::read(stdin, &mut key) {
        // The terminal has gone.
        Ok(0) => Ok(Some(b'q')),
        Ok(_) => Ok(Some(key[0])),
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(e) => Err(e).context("read(standard input)"),
    }
}
