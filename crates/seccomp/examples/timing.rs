//! How long the default profile takes to compile, in microseconds (median of 1000), and its size.
//!
//! `cargo run --release -p seccomp --example timing`

use std::time::Instant;

use seccomp::profile::Template;
use seccomp::{Cache, Options};

fn median(mut f: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..1000)
        .map(|_| {
            let start = Instant::now();
            f();
            start.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let parse = median(|| drop(Template::default_profile()));
    let template = Template::default_profile()?;
    let resolve = median(|| drop(template.resolve(&[])));
    let profile = template.resolve(&[]);
    let compile = median(|| drop(seccomp::compile(&profile)));
    let filter = seccomp::compile(&profile)?;
    let dir = std::env::temp_dir().join(format!("hull-timing-{}", std::process::id()));
    let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self")?);
    let cached = median(|| {
        let filter =
            Cache::open(&dir, owner).and_then(|c| c.compile(&profile, &Options::default()));
        drop(filter);
    });
    std::fs::remove_dir_all(&dir)?;
    println!("from the cache {cached:.1}");
    println!("template {parse:.1}, resolve {resolve:.1}, compile {compile:.1}");
    println!(
        "{} instructions, {} architectures",
        filter.program.len(),
        profile.architectures.len()
    );
    Ok(())
}
