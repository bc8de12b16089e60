//! Reading and running from a layer, beside the same files on the disk itself.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use image::Reference;
use image::store::{Format, MountOptions, PullOptions, Store, StoreOptions};
use image::transport::{LayoutSource, Name};

/// Runs of a program.
const RUNS: u32 = 300;

/// Pulls the medium image in both formats, unpacks it beside, and compares.
pub fn measure(work: &Path) -> Result<()> {
    let layout = work.join("layout-medium");
    if !layout.exists() {
        return Ok(());
    }
    println!(
        "reading from a layer\n  format        cold MB/s   warm MB/s   small files/s   runs/s"
    );
    let plain = work.join("plain");
    if !plain.exists() {
        let source = LayoutSource::open(&layout, &Name::Only)?;
        image::bundle::unpack(&source, &plain, &image::bundle::UnpackOptions::default())?;
    }
    row("ext4", &plain.join("rootfs"))?;
    for format in [Format::Directory, Format::Erofs] {
        let root = work.join(format!("read-{format:?}"));
        let options = StoreOptions {
            format: Some(format),
            ..StoreOptions::default()
        };
        let store = Store::open_with(&root, &options)?;
        let source = LayoutSource::open(&layout, &Name::Only)?;
        let image = store.pull(
            &source,
            &Reference::parse("bench/medium")?,
            &PullOptions::default(),
        )?;
        let rootfs = store.mount(&image.id, "bench", &MountOptions::default())?;
        let done = row(&format!("{format:?}"), &rootfs.path);
        store.remove_rootfs("bench")?;
        store.remove(&image.id)?;
        done?;
    }
    Ok(())
}

fn row(name: &str, root: &Path) -> Result<()> {
    let large = root.join("opt/0/0");
    let cold = read_all(&large, true)?;
    let warm = read_all(&large, false)?;
    let small = root.join("usr/share/doc");
    let files = small_files(&small)?;
    let runs = runs(root)?;
    println!("  {name:<12} {cold:>10.0} {warm:>11.0} {files:>15.0} {runs:>8.0}");
    Ok(())
}

/// Megabytes a second of all files in a directory.
fn read_all(dir: &Path, cold: bool) -> Result<f64> {
    if cold {
        rustix::fs::sync();
        std::fs::write("/proc/sys/vm/drop_caches", "3")?;
    }
    let began = Instant::now();
    let mut buffer = vec![0; 1 << 20];
    let mut total = 0.0;
    for _ in 0..if cold { 1 } else { 20 } {
        for entry in std::fs::read_dir(dir)? {
            let mut file = File::open(entry?.path())?;
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

/// Files a second, opened and read cold.
fn small_files(dir: &Path) -> Result<f64> {
    rustix::fs::sync();
    std::fs::write("/proc/sys/vm/drop_caches", "3")?;
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
    let began = Instant::now();
    let mut command = Command::new("chroot");
    command
        .arg(root)
        .args(["/bin/sh", "-c", &script])
        .stdout(Stdio::null());
    let status = command.status().context("chroot")?;
    ensure!(status.success(), "chroot: {status}");
    Ok(f64::from(RUNS) / began.elapsed().as_secs_f64())
}
