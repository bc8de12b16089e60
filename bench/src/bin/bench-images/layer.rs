//! Reading and running from a layer, beside the same files on the disk itself.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use image::Reference;
use image::store::{Format, MountOptions, PullOptions, Store, StoreOptions};
use image::transport::{LayoutSource, Name};

use crate::tools::{drop_caches, median};

/// Runs of a program.
const RUNS: u32 = 300;
/// Times that warm files are read.
const PASSES: u32 = 5;
/// Where the large image has its large files.
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
/// Reads files that are mapped, without a buffer of the kernel's between; what is given is where
/// they are, and how often they are to be read.
const MAPPED: &str = r#"
my ($dir, $passes) = @ARGV; my ($total, $part) = (0, "");
for (1 .. $passes) {
    for my $file (glob("$dir/*")) {
        next if -l $file || ! -f _;
        open(my $in, "<:mmap", $file) or die "$file: $!";
        while (my $n = read($in, $part, 1 << 20)) { $total += $n }
    }
}
print $total;
"#;

/// What is measured: the column's name, and the figure of a root file system; more is better.
type Figure = (&'static str, fn(&Path) -> Result<f64>);

const FIGURES: [Figure; 7] = [
    ("cold MB/s", |root| read_all(&root.join(LIBRARIES), true)),
    ("warm MB/s", |root| read_all(&root.join(LIBRARIES), false)),
    ("mmap cold", |root| mapped(&root.join(LIBRARIES), true)),
    ("mmap warm", |root| mapped(&root.join(LIBRARIES), false)),
    ("files/s", |root| small_files(&root.join("usr/share/doc"))),
    ("runs/s", runs),
    ("cold runs/s", cold_run),
];

/// Pulls the large image in both formats, unpacks it beside, and compares.
pub fn measure(work: &Path, rounds: usize) -> Result<()> {
    let source = LayoutSource::open(&work.join("layout-large"), &Name::Only)?;
    let plain = work.join("plain");
    if !plain.exists() {
        image::bundle::unpack(&source, &plain, &image::bundle::UnpackOptions::default())?;
    }
    let mut roots = vec![("ext4", plain.join("rootfs"))];
    let mut stores = Vec::new();
    for (name, format) in [("directory", Format::Directory), ("erofs", Format::Erofs)] {
        let options = StoreOptions {
            format: Some(format),
            ..StoreOptions::default()
        };
        let store = Store::open_with(&work.join(format!("read-{name}")), &options)?;
        let reference = Reference::parse("bench/large")?;
        let image = store.pull(&source, &reference, &PullOptions::default())?;
        let rootfs = store.mount(&image.id, "bench", &MountOptions::default())?;
        roots.push((name, rootfs.path));
        stores.push((store, image.id));
    }
    let done = compare(&roots, rounds);
    for (store, image) in stores {
        store.remove_rootfs("bench")?;
        store.remove(&image)?;
    }
    done
}

fn compare(roots: &[(&str, PathBuf)], rounds: usize) -> Result<()> {
    println!("large: reading and running from its layers, median of {rounds}, ratio to ext4");
    let names = FIGURES.map(|(name, _)| format!("{name:>18}"));
    println!("  {:<10}{}", "", names.concat());
    let mut all = vec![vec![Vec::new(); FIGURES.len()]; roots.len()];
    for round in 0..rounds {
        for (column, (_, figure)) in FIGURES.iter().enumerate() {
            for at in 0..roots.len() {
                let which = (at + round) % roots.len();
                all[which][column].push(figure(&roots[which].1)?);
            }
        }
    }
    let medians: Vec<Vec<f64>> = all
        .into_iter()
        .map(|row| row.into_iter().map(median).collect())
        .collect();
    for ((name, _), row) in roots.iter().zip(&medians) {
        let cells = row.iter().zip(&medians[0]);
        let cells: String = cells
            .map(|(value, ext4)| format!("{value:>11.1} ({:>4.2})", value / ext4))
            .collect();
        println!("  {name:<10}{cells}");
    }
    Ok(())
}

/// Megabytes a second of all files in a directory.
fn read_all(dir: &Path, cold: bool) -> Result<f64> {
    if cold {
        drop_caches()?;
    }
    let began = Instant::now();
    let mut buffer = vec![0; 1 << 20];
    let mut total = 0.0;
    for _ in 0..if cold { 1 } else { PASSES } {
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            if !entry.file_type()?.is_file() {
                continue;
            }
            let mut file = File::open(entry.path())?;
            loop {
                let n = file.read(&mut buffer)?;
                if n == 0 {
                    break;
                }
                total += f64::from(u32::try_from(n)?);
            }
        }
    }
    Ok(total / 1e6 / began.elapsed().as_secs_f64())
}

/// The same through a map of each file.
fn mapped(dir: &Path, cold: bool) -> Result<f64> {
    if cold {
        drop_caches()?;
    }
    let passes = if cold { 1 } else { PASSES };
    let began = Instant::now();
    let mut command = Command::new("perl");
    command
        .args(["-e", MAPPED])
        .arg(dir)
        .arg(passes.to_string());
    let out = command.stderr(Stdio::inherit()).output().context("perl")?;
    let took = began.elapsed().as_secs_f64();
    let total: f64 = String::from_utf8(out.stdout)?.trim().parse()?;
    Ok(total / 1e6 / took)
}

/// Files a second, opened and read cold.
fn small_files(dir: &Path) -> Result<f64> {
    drop_caches()?;
    let began = Instant::now();
    let mut count = 0u32;
    let mut todo = vec![dir.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                todo.push(entry.path());
            } else if kind.is_file() {
                std::fs::read(entry.path())?;
                count += 1;
            }
        }
    }
    Ok(f64::from(count) / began.elapsed().as_secs_f64())
}

/// Programs started a second, with their libraries, from inside the root.
fn runs(root: &Path) -> Result<f64> {
    let script = format!("i=0; while [ $i -lt {RUNS} ]; do /usr/bin/env true; i=$((i+1)); done");
    let took = in_root(root, &["/bin/sh", "-c", &script])?;
    Ok(f64::from(RUNS) / took)
}

/// A program with many libraries, started with cold caches.
fn cold_run(root: &Path) -> Result<f64> {
    drop_caches()?;
    let took = in_root(root, &["/usr/bin/python3", "-c", "import numpy"])?;
    Ok(1.0 / took)
}

fn in_root(root: &Path, words: &[&str]) -> Result<f64> {
    let began = Instant::now();
    let mut command = Command::new("chroot");
    command.arg(root).args(words).stdout(Stdio::null());
    let status = command.status().context("chroot")?;
    let took = began.elapsed().as_secs_f64();
    ensure!(status.success(), "chroot: {status}");
    Ok(took)
}
