//! Measures pulls: hull beside skopeo with umoci, podman and containerd, each into fresh
//! directories, from a registry on loopback; and reading from a layer beside reading from ext4.

mod layer;
mod make;
mod registry;
mod tools;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};

use crate::registry::Registry;
use crate::tools::{Pull, Tool};

/// Readings for each round: they are short, and those with cold caches vary.
const READS: usize = 3;

const USAGE: &str =
    "usage: bench-images [--rounds N] [--hullctl PROGRAM] [--work DIR] [--part PART] [--image NAME]
  --rounds N         measure N rounds (3)
  --hullctl PROGRAM  the hullctl to measure (the one beside this program)
  --work DIR         where images are made and pulled to: on a disk (target/bench-images)
  --part PART        only `pull`, `start`, `disk` or `read`
  --image NAME       pull only `medium`, `large` or `many60`";

/// What is pulled.
const IMAGES: [(&str, make::Maker); 3] = [
    ("medium", make::medium),
    ("large", make::large),
    ("many60", make::many60),
];

struct Options {
    rounds: usize,
    hullctl: PathBuf,
    work: PathBuf,
    part: Option<String>,
    image: Option<String>,
}

impl Options {
    fn wants(&self, part: &str) -> bool {
        self.part.as_deref().is_none_or(|only| only == part)
    }
}

fn main() -> ExitCode {
    match options().and_then(|o| measure(&o)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("bench-images: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> Result<Options> {
    let mut options = Options {
        rounds: 3,
        hullctl: std::env::current_exe()?.with_file_name("hullctl"),
        work: "target/bench-images".into(),
        part: None,
        image: None,
    };
    let mut words = bench::Words::new(USAGE);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--rounds" => options.rounds = words.number(&word)?,
            "--hullctl" => options.hullctl = words.value(&word)?.into(),
            "--work" => options.work = words.value(&word)?.into(),
            "--part" => options.part = Some(words.value(&word)?),
            "--image" => options.image = Some(words.value(&word)?),
            _ => return Err(words.unknown(&word)),
        }
    }
    Ok(options)
}

fn measure(options: &Options) -> Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "must be run as root");
    std::fs::create_dir_all(&options.work)?;
    let bench = Bench {
        work: options.work.canonicalize()?,
        rounds: options.rounds,
        tools: Tool::all(&options.hullctl),
    };
    let registry = Registry::start(&bench.work)?;
    for (name, make) in IMAGES {
        let layout = make::layout(&bench.work, name, make)?;
        registry.push(name, &layout)?;
    }
    for (name, _) in IMAGES {
        if options.wants("pull") && options.image.as_deref().is_none_or(|only| only == name) {
            bench.pulls(&registry, name)?;
        }
    }
    if options.wants("start") {
        bench.starts(&registry)?;
    }
    if options.wants("disk") {
        bench.disk(&registry)?;
    }
    if options.wants("read") {
        layer::measure(&bench.work, READS * bench.rounds)?;
    }
    Ok(())
}

struct Bench {
    work: PathBuf,
    rounds: usize,
    tools: Vec<Tool>,
}

impl Bench {
    /// Runs `one` for each tool in turn, in fresh directories, each round beginning with another.
    fn rounds<T>(
        &self,
        what: &str,
        mut one: impl FnMut(&Tool, &Path) -> Result<T>,
    ) -> Result<Vec<Vec<T>>> {
        let mut all: Vec<Vec<T>> = self.tools.iter().map(|_| Vec::new()).collect();
        let mut used = Vec::new();
        for round in 0..self.rounds {
            for at in 0..self.tools.len() {
                let which = (at + round) % self.tools.len();
                let (Some(tool), Some(figures)) = (self.tools.get(which), all.get_mut(which))
                else {
                    continue;
                };
                let fresh = self.work.join(format!("{what}-{round}-{which}"));
                used.push(fresh.clone());
                let done = one(tool, &fresh);
                figures.push(done.with_context(|| format!("{} {what}", tool.name()))?);
            }
        }
        for fresh in used {
            // After all figures are taken: deleting slows down who comes next.
            let _ = std::fs::remove_dir_all(fresh);
        }
        Ok(all)
    }

    fn pulls(&self, registry: &Registry, name: &str) -> Result<()> {
        let what = format!("pull-{name}");
        let all = self.rounds(&what, |tool, fresh| tool.pull(registry, name, fresh))?;
        println!("{name}: median of {} pulls", self.rounds);
        println!("  tool           wall s    cpu s   peak MB   disk MB");
        for (tool, pulls) in self.tools.iter().zip(&all) {
            println!("  {:<13}{}", tool.name(), Pull::medians(pulls));
        }
        Ok(())
    }

    fn starts(&self, registry: &Registry) -> Result<()> {
        let all = self.rounds("start", |tool, fresh| {
            tool.first_line(registry, "medium", fresh)
        })?;
        println!("medium: from the registry to a container's first line, seconds");
        for (tool, seconds) in self.tools.iter().zip(&all) {
            let seconds: Vec<f64> = seconds.iter().copied().flatten().collect();
            if !seconds.is_empty() {
                println!("  {:<13}{:>8.2}", tool.name(), tools::median(seconds));
            }
        }
        Ok(())
    }

    fn disk(&self, registry: &Registry) -> Result<()> {
        let names = IMAGES.map(|(name, _)| name);
        println!("{}: disk, MB", names.join(", "));
        for tool in &self.tools {
            let fresh = self.work.join("disk");
            let megabytes = tool.disk_of(registry, &names, &fresh)?;
            println!("  {:<13}{megabytes:>8.1}", tool.name());
            std::fs::remove_dir_all(&fresh)?;
        }
        Ok(())
    }
}
