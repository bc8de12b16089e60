//! Measures hulld beside Debian's containerd over the CRI socket: the same requests, in turn, in
//! one network namespace, with the same image.

mod client;
mod measure;
mod memory;
mod runtime;
#[path = "../../stats.rs"]
mod stats;
mod table;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use cri_suite::{Daemon, Options as Stage};

use crate::client::Client;
use crate::measure::Figures;
use crate::runtime::{Containerd, Runtime};

const USAGE: &str = "usage: bench-cri [--rounds N] [--only PART]... [--no-peer] [--check]
  --rounds N   measure N pods' lives, after one that is thrown away (20)
  --only PART  life, throughput, probes, memory or lists; may be given again (all)
  --no-peer    without containerd
  --check      exit with 1 when a target is missed
The programs are those in the directory HULL_PROGRAMS (target/HOST/release).";

/// Bursts of pods, in turn.
const BURSTS: usize = 5;

struct Options {
    rounds: usize,
    only: Vec<String>,
    peer: bool,
    check: bool,
}

impl Options {
    fn from_args() -> Result<Option<Self>> {
        let mut options = Self {
            rounds: 20,
            only: Vec::new(),
            peer: true,
            check: false,
        };
        let mut words = bench::Words::new(USAGE);
        while let Some(word) = words.next() {
            match word.as_str() {
                "--rounds" => options.rounds = words.number(&word)?,
                "--only" => options.only.push(words.value(&word)?),
                "--no-peer" => options.peer = false,
                "--check" => options.check = true,
                "--help" => {
                    println!("{USAGE}");
                    return Ok(None);
                }
                _ => return Err(words.unknown(&word)),
            }
        }
        Ok(Some(options))
    }

    fn asks_for(&self, part: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == part)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let done = match Options::from_args() {
        Ok(Some(options)) => run(&options).await,
        Ok(None) => Ok(ExitCode::SUCCESS),
        Err(e) => Err(e),
    };
    done.unwrap_or_else(|e| {
        eprintln!("bench-cri: {e:#}");
        ExitCode::FAILURE
    })
}

/// A runtime and what is known of it.
struct Measured {
    runtime: Runtime,
    client: Client,
    figures: Figures,
}

impl Measured {
    fn new(runtime: Runtime) -> Result<Self> {
        Ok(Self {
            client: Client::new(&runtime)?,
            runtime,
            figures: Figures::new(),
        })
    }
}

async fn run(options: &Options) -> Result<ExitCode> {
    ensure!(rustix::process::geteuid().is_root(), "must be run as root");
    let stage = Stage {
        log: Some("warn".to_owned()),
        tmpfs: true,
        ..Stage::default()
    };
    let stage = Daemon::start(stage).await;
    let mut all = vec![Measured::new(Runtime::hulld(&stage)?)?];
    let mut peer = None;
    if options.peer {
        let (daemon, runtime) = Containerd::start(&stage).await?;
        peer = Some(daemon);
        all.push(Measured::new(runtime)?);
    }
    measure(options, &stage, &mut all).await?;
    let none = Figures::new();
    let theirs = all.get(1).map_or(&none, |m| &m.figures);
    let ours = all.first().map_or(&none, |m| &m.figures);
    let (text, missed) = table::table(ours, theirs);
    print!("{text}");
    let place = "bench/results/cri.json";
    std::fs::create_dir_all("bench/results")?;
    let json = serde_json::to_string_pretty(&table::json(ours, theirs))?;
    std::fs::write(place, json + "\n").context(place)?;
    println!("written to {place}");
    drop(all);
    drop(peer);
    let failed = options.check && missed > 0;
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

async fn measure(options: &Options, stage: &Daemon, all: &mut [Measured]) -> Result<()> {
    if options.asks_for("life") {
        for round in 0..=options.rounds {
            for one in all.iter_mut() {
                let mut figures = Figures::new();
                // The first one finds cold caches.
                let figures = if round == 0 {
                    &mut figures
                } else {
                    &mut one.figures
                };
                measure::life(&mut one.client, &format!("life{round}"), figures).await?;
            }
        }
    }
    if options.asks_for("throughput") {
        for _ in 0..BURSTS {
            for one in all.iter_mut() {
                measure::throughput(&one.client, 50, &mut one.figures).await?;
            }
        }
    }
    for one in all.iter_mut() {
        let (runtime, client, figures) = (&one.runtime, &mut one.client, &mut one.figures);
        if options.asks_for("probes") {
            measure::probes(runtime, client, Duration::from_secs(10), figures).await?;
        }
        // A hundred of containerd's pods take minutes, and its memory is no target.
        if runtime.name == "hulld" && options.asks_for("memory") {
            let keepers = || measure::keepers(runtime, stage);
            measure::memory(runtime, client, &keepers, 100, figures).await?;
        }
        if runtime.name == "hulld" && options.asks_for("lists") {
            measure::lists(client, figures).await?;
        }
    }
    Ok(())
}
