//! CheckpointContainer: what `hull checkpoint` writes, as one archive.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::engine::Engine;
use crate::error::{Doing, Error, Kind, Result};
use crate::files;
use crate::operation::lock;
use crate::supervisor::blocking;

/// How long a checkpoint may take where the caller sets no limit.
const LONGEST: Duration = Duration::from_secs(600);

impl Engine {
    /// Writes a running container's state into the archive `location`; the container goes on.
    ///
    /// # Errors
    /// It does not run, criu(8) is missing or refuses, or the time is over.
    pub async fn checkpoint(&self, id: &str, location: PathBuf, timeout: i64) -> Result<()> {
        let container = self.running(id)?;
        let places = self.places().clone();
        let time = u64::try_from(timeout)
            .ok()
            .filter(|&t| t > 0)
            .map_or(LONGEST, Duration::from_secs);
        let bundle = container.pod.dir.join(&container.id);
        let log = lock(&container.record).log_path.clone();
        let id = container.id.clone();
        blocking(move || {
            let work = places.run.join("checkpoints").join(&id);
            files::private_dir(&work)?;
            let mut checkpoint = Command::new(&places.hull);
            checkpoint
                .arg("--root")
                .arg(&places.runtime_root)
                .arg("checkpoint")
                .arg("--leave-running");
            checkpoint
                .arg("--image-path")
                .arg(work.join("checkpoint"))
                .arg("--work-path")
                .arg(&work)
                .arg(&id);
            let result = finish(checkpoint, "hull checkpoint", time).and_then(|()| {
                let what = || format!("copy(config.json of {id})");
                std::fs::copy(bundle.join("config.json"), work.join("spec.dump")).doing(what)?;
                if !log.is_empty() {
                    std::fs::copy(&log, work.join("container.log"))
                        .doing(|| format!("copy({log})"))?;
                }
                let mut tar = Command::new("tar");
                tar.arg("--create")
                    .arg("--file")
                    .arg(&location)
                    .arg("--directory")
                    .arg(&work)
                    .arg(".");
                finish(tar, "tar", time)
            });
            let cleared = files::remove_tree(&work);
            result.and(cleared)
        })
        .await
    }
}

/// Runs a program to its end, or to the end of its time.
fn finish(mut command: Command, name: &str, time: Duration) -> Result<()> {
    let failed = |reason: &dyn std::fmt::Display| Error::failed(name, reason);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| failed(&e))?;
    let deadline = Instant::now() + time;
    loop {
        match child.try_wait().map_err(|e| failed(&e))? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => {
                let mut text = String::new();
                if let Some(mut stderr) = child.stderr.take() {
                    // What cannot be read is not told.
                    let _ = std::io::Read::read_to_string(&mut stderr, &mut text);
                }
                let last = text.lines().last().unwrap_or_default().to_owned();
                return Err(failed(&format!("{status}: {last}")));
            }
            None if Instant::now() > deadline => {
                // It may end by itself meanwhile.
                let _ = child.kill();
                let _ = child.wait();
                return Err(Error::new(
                    Kind::Deadline,
                    format!("{name}: not ended after {} s: killed", time.as_secs()),
                ));
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}
