//! How far a transfer is: a bar for each layer on a terminal, lines elsewhere. On the standard
//! error, so that the result on the standard output stays alone.

use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::sync::{Mutex, PoisonError};

use image::document::Descriptor;
use image::progress::Outcome;
use image::store::Event;
use image::{Digest, Progress};
use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

const BAR: &str = "{prefix:12} [{bar:28}] {bytes:>11}/{total_bytes:11} {bytes_per_sec:>13}  {eta}";
const DONE: &str = "{prefix:12} {msg}";

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
                bar.set_style(style.progress_chars("=> "));
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
