//! Measures hull beside crun, runc and youki: whole cycle, each step, memory, size, and the
//! kernel's own part of it.
//!
//! All run the same configuration in turn, round by round, in one mount namespace where the
//! cgroup v2 tree of a hybrid machine is not mounted, because crun refuses to work beside it.
//! hull is then measured once more on the machine's full tree.

mod child;
mod config;
mod cycle;
mod floor;
mod limit;
mod peers;
mod report;
mod stage;
mod stats;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::config::Bundles;
use crate::cycle::{Measured, Round};
use crate::peers::Peer;

const USAGE: &str = "usage: bench [--rounds N] [--hull PROGRAM] [--check]
  --rounds N       measure N rounds (100)
  --hull PROGRAM   the hull to measure (the one beside this program)
  --check          exit with 1 when a target is missed";

/// What the command line asks for.
#[derive(Debug)]
struct Options {
    rounds: usize,
    hull: PathBuf,
    check: bool,
    /// Set in the process that measures: `plain` or `full`, and its directory.
    inside: Option<(String, PathBuf)>,
}

fn main() -> ExitCode {
    let done = options().and_then(|o| match &o.inside {
        Some((tree, work)) => measure(&o, tree == "plain", work).map(|()| ExitCode::SUCCESS),
        None => orchestrate(&o),
    });
    done.unwrap_or_else(|e| {
        eprintln!("bench: {e:#}");
        ExitCode::FAILURE
    })
}

fn options() -> Result<Options> {
    let own = std::env::current_exe()?;
    let mut options = Options {
        rounds: 100,
        hull: own.with_file_name("hull"),
        check: false,
        inside: None,
    };
    let mut words = bench::Words::new(USAGE);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--rounds" => options.rounds = words.number(&word)?,
            "--hull" => options.hull = words.value(&word)?.into(),
            "--check" => options.check = true,
            "--inside" => options.inside = Some((words.value(&word)?, words.value(&word)?.into())),
            _ => return Err(words.unknown(&word)),
        }
    }
    Ok(options)
}

/// Starts the measuring processes one after the other, puts their results together, cleans up.
fn orchestrate(options: &Options) -> Result<ExitCode> {
    ensure!(rustix::process::geteuid().is_root(), "must be run as root");
    let mut results = inside(options, "plain")?;
    if stage::unified().is_some() && options.hull.exists() {
        let full = inside(options, "full")?;
        let programs = full["programs"].as_array().into_iter().flatten();
        let more = programs.cloned().map(|mut program| {
            program["name"] = json!("hull, hybrid tree");
            program
        });
        if let Some(all) = results["programs"].as_array_mut() {
            all.extend(more);
        }
    }
    let (verdicts, missed) = report::verdicts(&results);
    println!(
        "medians of {} rounds; in brackets the ratio to crun\n",
        options.rounds
    );
    print!("{}\n{verdicts}", report::table(&results));
    for note in results["notes"].as_array().into_iter().flatten() {
        println!("note: {}", note.as_str().unwrap_or_default());
    }
    println!("written to {}", save(&results)?.display());
    let failed = options.check && missed > 0;
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Runs one measuring process; whatever it leaves is removed, even when it fails.
fn inside(options: &Options, tree: &str) -> Result<Value> {
    let name = format!("hullbench-{}-{tree}", std::process::id());
    let work = std::env::temp_dir().join(&name);
    fs::create_dir(&work)?;
    let status = std::process::Command::new(std::env::current_exe()?)
        .args(["--rounds", &options.rounds.to_string(), "--hull"])
        .arg(&options.hull)
        .args(["--inside", tree])
        .arg(&work)
        .status();
    let text = fs::read(work.join("results.json"));
    stage::sweep(&name);
    fs::remove_dir_all(&work)?;
    let status = status?;
    ensure!(status.success(), "measuring failed: {status}");
    Ok(serde_json::from_slice(&text?)?)
}

/// The measuring process. Plain: all programs and the floor, in turn. Else: hull alone.
fn measure(options: &Options, plain: bool, work: &Path) -> Result<()> {
    let parent = format!(
        "/{}",
        work.file_name().unwrap_or_default().to_string_lossy()
    );
    stage::enter(plain)?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let meter = stage::Meter::join(&parent)?;
    let bundles = Bundles::new(work, &parent)?;
    let complaints = File::create(work.join("complaints"))?;
    // Copied, as it would be installed: what a linker has written lies in the page cache in single
    // pages, and what was copied or read, like the peers, in larger pieces.
    let hull = work.join("hull");
    if options.hull.exists() {
        fs::copy(&options.hull, &hull)?;
    }
    let (mut peers, missing) = peers::find(&hull, &stage::memory(work)?);
    if !plain {
        peers.retain(|p| p.name == "hull");
    }
    let round = Round {
        bundles: &bundles,
        meter: &meter,
        complaints: &complaints,
        work,
    };
    let mut measured: Vec<Measured> = peers.iter().map(|_| Measured::default()).collect();
    let mut ground = Measured::default();
    // The first round fills caches and is thrown away.
    for n in 0..=options.rounds {
        if n == 1 {
            measured.iter_mut().for_each(|m| *m = Measured::default());
            ground = Measured::default();
        }
        for at in turns(peers.len())? {
            round.of(&peers[at], &mut measured[at]);
        }
        ground.time("run", &meter, || floor::run(&bundles.root()))?;
    }
    let mut programs = Vec::new();
    for (peer, measured) in peers.iter().zip(&measured) {
        let limit = limit::smallest(peer, &bundles, &complaints)?;
        programs.push(describe(peer, measured, limit)?);
    }
    if plain {
        let mut program = ground.to_json();
        program["name"] = json!("kernel floor");
        programs.insert(0, program);
    }
    let results = json!({
        "rounds": options.rounds,
        "kernel": fs::read_to_string("/proc/sys/kernel/osrelease")?.trim(),
        "programs": programs,
        "notes": missing,
    });
    fs::write(work.join("results.json"), results.to_string())?;
    Ok(())
}

/// The numbers below `count` in an order drawn by lot: a fixed one would give each program the same
/// one before it, and what that leaves to the kernel to clear away.
fn turns(count: usize) -> Result<Vec<usize>> {
    let mut lots = vec![[0; 8]; count];
    for lot in &mut lots {
        rustix::rand::getrandom(lot.as_mut_slice(), rustix::rand::GetRandomFlags::empty())?;
    }
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by_key(|&at| lots[at]);
    Ok(order)
}

fn describe(peer: &Peer, measured: &Measured, limit: Option<u64>) -> Result<Value> {
    let mut program = measured.to_json();
    program["name"] = json!(peer.name);
    program["version"] = json!(peer.version);
    program["size"] = json!(fs::metadata(&peer.path)?.len());
    program["smallest_limit"] = json!(limit);
    Ok(program)
}

/// Writes the results into `bench/results`, under the time, and again as `latest.json`.
fn save(results: &Value) -> Result<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("results");
    fs::create_dir_all(&dir)?;
    let text = serde_json::to_string_pretty(results)?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    fs::write(dir.join(format!("{}.json", now.as_secs())), &text)?;
    let latest = dir.join("latest.json");
    fs::write(&latest, text)?;
    Ok(latest)
}
