//! How far a transfer is: a bar for each layer on a terminal, lines elsewhere. On the standard
//! error, so that the result on the standard output stays alone.

use std::collections::HashMap;
use std::fmt::Write;
use std::io::IsTerminal as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use image::document::Descriptor;
use image::progress::Outcome;
use image::store::Event;
use image::{Digest, Progress};
use indicatif::{
    HumanBytes, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle,
};
use rustix::termios::tcgetwinsize;

const BAR: &str = "{prefix:12} {rest}";
const DONE: &str = "{prefix:12} {wide_msg}";
/// How often a bar is drawn anew while nothing arrives: its rate falls, its window may change.
const TICK: Duration = Duration::from_millis(200);

/// Shows how far a transfer is.
pub struct Show {
    how: How,
    layers: Mutex<Vec<Descriptor>>,
}

enum How {
    Quiet,
    Lines,
    Bars(MultiProgress, Mutex<HashMap<Digest, ProgressBar>>),
}

impl Show {
    /// On a terminal bars, elsewhere lines; nothing if `quiet`.
    pub fn new(quiet: bool) -> Self {
        let how = if quiet {
            How::Quiet
        } else if std::io::stderr().is_terminal() {
            let target = ProgressDrawTarget::stderr_with_hz(10);
            How::Bars(MultiProgress::with_draw_target(target), Mutex::default())
        } else {
            How::Lines
        };
        Self {
            how,
            layers: Mutex::default(),
        }
    }

    /// The bar of a blob, made if it has none.
    fn bar(&self, digest: &Digest, size: u64) -> Option<ProgressBar> {
        let How::Bars(all, bars) = &self.how else {
            return None;
        };
        let mut bars = bars.lock().unwrap_or_else(PoisonError::into_inner);
        let bar = bars.entry(digest.clone()).or_insert_with(|| {
            let bar = all.add(ProgressBar::new(size));
            if let Ok(style) = ProgressStyle::with_template(BAR) {
                bar.set_style(style.with_key("rest", rest));
            }
            bar.set_prefix(digest.short().to_owned());
            bar
        });
        Some(bar.clone())
    }

    fn line(&self, text: &str) {
        if matches!(self.how, How::Lines) {
            eprintln!("{text}");
        }
    }

    fn end(&self, blob: &Descriptor, word: &str) {
        let size = HumanBytes(blob.size);
        self.line(&format!("{} {word} {size}", blob.digest.short()));
        if let Some(bar) = self.bar(&blob.digest, blob.size) {
            if let Ok(style) = ProgressStyle::with_template(DONE) {
                bar.set_style(style);
            }
            bar.finish_with_message(format!("{word} {size}"));
        }
    }

    /// Takes the store's events.
    pub fn event(&self, event: &Event<'_>) {
        let layer = |n: usize| {
            let layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
            layers.get(n).cloned()
        };
        match event {
            Event::Resolved { layers, .. } => {
                let mut known = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
                known.clear();
                known.extend_from_slice(layers);
                for blob in *layers {
                    self.bar(&blob.digest, blob.size);
                }
            }
            Event::Present { layer: n } => {
                if let Some(blob) = layer(*n) {
                    self.finished(&blob, Outcome::Present);
                }
            }
            Event::Bytes { layer: n, count } => {
                if let Some(blob) = layer(*n) {
                    self.advanced(&blob.digest, *count);
                }
            }
            Event::Complete { layer: n } => {
                if let Some(blob) = layer(*n) {
                    self.finished(&blob, Outcome::Copied);
                }
            }
            Event::Committing => self.line("making it durable"),
        }
    }
}

impl Progress for Show {
    fn expected(&self, blobs: &[Descriptor]) {
        for blob in blobs {
            self.bar(&blob.digest, blob.size);
        }
    }

    fn started(&self, blob: &Descriptor) {
        self.line(&format!(
            "{} copying {}",
            blob.digest.short(),
            HumanBytes(blob.size)
        ));
    }

    fn advanced(&self, blob: &Digest, bytes: u64) {
        if let Some(bar) = self.bar(blob, bytes) {
            if bar.position() == 0 {
                bar.enable_steady_tick(TICK);
            }
            bar.inc(bytes);
        }
    }

    fn restarted(&self, blob: &Digest) {
        self.line(&format!("{} begins anew", blob.short()));
        if let Some(bar) = self.bar(blob, 0) {
            bar.reset();
        }
    }

    fn finished(&self, blob: &Descriptor, outcome: Outcome) {
        self.end(
            blob,
            match outcome {
                Outcome::Copied => "done",
                Outcome::Present => "already there",
                Outcome::Mounted => "mounted from its repository",
                Outcome::Foreign => "left where its maker put it",
            },
        );
    }
}

/// What follows the name of a layer: bar, bytes, rate and time left, as far as the window has
/// room for them.
fn rest(state: &ProgressState, to: &mut dyn Write) {
    let columns = tcgetwinsize(std::io::stderr()).map_or(80, |size| usize::from(size.ws_col));
    // The last column stays free: a terminal may begin a new line after it.
    let room = columns.saturating_sub(PREFIX + 1);
    let (at, len) = (state.pos(), state.len().unwrap_or(0));
    let (have, all) = (HumanBytes(at).to_string(), HumanBytes(len).to_string());
    let bytes = format!("{have:>11}/{all:<10}");
    let (rate, left) = (rate(state.per_sec()), left(state.eta()));
    let tail = format!("{bytes} {rate:>13} {left:>4}");
    let short = format!("{bytes} {left:>4}");
    let percent = (at * 100).checked_div(len).unwrap_or(100);
    let tight = format!("{percent:>3}% {rate:>11} {left:>4}");
    let bar = room.saturating_sub(tail.len() + 3);
    // Into a line of text: it does not fail.
    let _ = if bar >= 6 {
        write!(to, "[{}] {tail}", filled(bar, at, len))
    } else if room >= short.len() {
        write!(to, "{short}")
    } else if room >= tight.len() {
        write!(to, "{tight}")
    } else {
        write!(to, "{percent:>3}%")
    };
}

/// Columns of a layer's name with the space behind it.
const PREFIX: usize = 13;

fn filled(width: usize, at: u64, len: u64) -> String {
    let done = (width as u64 * at).checked_div(len).unwrap_or(0);
    let done = usize::try_from(done).unwrap_or(width).min(width);
    format!("{:<width$}", "=".repeat(done))
}

fn rate(mut bytes: f64) -> String {
    let mut units = ["B", "KiB", "MiB", "GiB"].iter();
    while bytes >= 1024.0 && units.len() > 1 {
        bytes /= 1024.0;
        units.next();
    }
    format!("{bytes:.1} {}/s", units.next().unwrap_or(&"B"))
}

/// One number and its unit.
fn left(time: Duration) -> String {
    match time.as_secs() {
        s @ 0..120 => format!("{s}s"),
        s @ 120..7200 => format!("{}m", s / 60),
        s @ 7200..172_800 => format!("{}h", s / 3600),
        s => format!("{}d", (s / 86400).min(999)),
    }
}
