//! Measures pulls: hull beside skopeo with umoci, podman and containerd, each into fresh
//! directories, from a registry on loopback; and reading from a layer beside reading from ext4.

mod layer;
mod make;
mod registry;
mod tools;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};

use crate::registry::Registry;
use crate::tools::{Pull, Tool};

const USAGE: &str =
    "usage: bench-images [--rounds N] [--hullctl PROGRAM] [--work DIR] [--image NAME]
  --rounds N         measure N rounds (3)
  --hullctl PROGRAM  the hullctl to measure (the one beside this program)
  --work DIR         where images are made and pulled to: on a disk (target/bench-images)
  --image NAME       only `medium` or `many60`";

struct Options {
    rounds: usize,
    hullctl: PathBuf,
    work: PathBuf,
    image: Option<String>,
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
        image: None,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || {
            words
                .next()
                .with_context(|| format!("{word} needs a value\n{USAGE}"))
        };
        match word.as_str() {
            "--rounds" => options.rounds = value()?.parse().context("--rounds")?,
            "--hullctl" => options.hullctl = value()?.into(),
            "--work" => options.work = value()?.into(),
            "--image" => options.image = Some(value()?),
            _ => bail!("unknown word {word}\n{USAGE}"),
        }
    }
    Ok(options)
}

fn measure(options: &Options) -> Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "must be run as root");
    std::fs::create_dir_all(&options.work)?;
    let work = options.work.canonicalize()?;
    let registry = Registry::start(&work)?;
    let images = [
        ("medium", make::medium as make::Maker),
        ("many60", make::many60),
    ];
    for (name, make) in images {
        if options.image.as_deref().is_some_and(|only| only != name) {
            continue;
        }
        registry.push(name, &make::layout(&work, name, make)?)?;
        println!("{name}: median of {} rounds", options.rounds);
        println!("  tool           wall s    cpu s   peak MB   disk MB");
        let tools = Tool::all(&options.hullctl);
        let mut all: Vec<Vec<Pull>> = vec![Vec::new(); tools.len()];
        for round in 0..options.rounds {
            for at in 0..tools.len() {
                let which = (at + round) % tools.len();
                let fresh = work.join(format!("pull-{name}-{round}-{which}"));
                let pulled = tools[which].pull(&registry, name, &fresh);
                let pulled = pulled.with_context(|| format!("{} {name}", tools[which].name()))?;
                all[which].push(pulled);
            }
        }
        for (tool, pulls) in tools.iter().zip(&all) {
            let line = Pull::medians(pulls);
            println!("  {:<13}{line}", tool.name());
        }
        for (which, round) in
            (0..tools.len()).flat_map(|w| (0..options.rounds).map(move |r| (w, r)))
        {
            // After all figures are taken: deleting slows down who comes next.
            let _ = std::fs::remove_dir_all(work.join(format!("pull-{name}-{round}-{which}")));
        }
    }
    layer::measure(&work)
}
