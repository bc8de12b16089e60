//! CheckpointContainer: what `hull checkpoint` writes, and what belongs to it, as one archive.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::container::Container;
use crate::engine::Engine;
use crate::error::{Doing, Error, Kind, Result};
use crate::files;
use crate::operation::lock;
use crate::settings::Places;
use crate::supervisor::blocking;
use crate::take_down::Errors;

/// How long a checkpoint may take where the caller sets no limit.
const LONGEST: Duration = Duration::from_secs(600);
/// How long it may take to pause a container, or to let it go on.
const PAUSE: Duration = Duration::from_secs(30);

impl Engine {
    /// Writes a running container's state into the archive `location`; the container stands still
    /// meanwhile, and goes on.
    ///
    /// # Errors
    /// It does not run, criu(8) is missing or refuses, or the time is over.
    pub async fn checkpoint(&self, id: &str, location: PathBuf, timeout: i64) -> Result<()> {
        let container = self.running(id)?;
        let engine = self.clone();
        let time = u64::try_from(timeout)
            .ok()
            .filter(|&t| t > 0)
            .map_or(LONGEST, Duration::from_secs);
        blocking(move || {
            let places = engine.places();
            let work = works(places).join(&container.id);
            files::private_dir(&works(places))?;
            // Whoever makes the directory is the only one at it.
            fs::create_dir(&work).doing(|| format!("mkdir({}): one at a time", work.display()))?;
            let result = engine.dump_paused(&container, &work, time);
            let result = result.and_then(|()| pack(&work, &location, time));
            let cleared = files::remove_tree(&work);
            result.and(cleared)
        })
        .await
    }

    /// Memory and files are to be of one moment.
    fn dump_paused(&self, container: &Container, work: &Path, time: Duration) -> Result<()> {
        let paused = hull(self.places(), &["pause", &container.id], PAUSE);
        if paused.as_ref().is_err_and(|e| e.kind() != Kind::Deadline) {
            // It has ended, or somebody else has paused it.
            return paused;
        }
        let saved = paused.and_then(|()| self.dump(container, work, time));
        let goes_on = hull(self.places(), &["resume", &container.id], PAUSE);
        saved.and(goes_on)
    }

    /// Processes, configuration, log and written files.
    fn dump(&self, container: &Container, work: &Path, time: Duration) -> Result<()> {
        let id = &container.id;
        let image = work.join("checkpoint").display().to_string();
        let beside = work.display().to_string();
        let options = [
            "--leave-running",
            "--image-path",
            &image,
            "--work-path",
            &beside,
        ];
        let words = [&["checkpoint"], &options[..], &[id.as_str()]].concat();
        hull(self.places(), &words, time)?;
        let what = || format!("copy(config.json of {id})");
        let config = container.pod.dir.join(id).join("config.json");
        fs::copy(config, work.join("spec.dump")).doing(what)?;
        let record = lock(&container.record).clone();
        if !record.log_path.is_empty() {
            let log = &record.log_path;
            fs::copy(log, work.join("container.log")).doing(|| format!("copy({log})"))?;
        }
        // The names are those that podman, CRI-O and containerd write.
        let metadata = record.config.metadata.unwrap_or_default();
        let image = record.config.image.unwrap_or_default();
        let dump = json!({
            "id": id,
            "name": metadata.name,
            "rootfsImage": record.image_id,
            "rootfsImageRef": record.image_ref,
            "rootfsImageName": image.user_specified_image,
            "runtime": "hull",
            "createdTime": runtime::clock::rfc3339_of_nanos(record.created),
            "checkpointedTime": runtime::clock::now_rfc3339(),
        });
        let path = work.join("config.dump");
        fs::write(&path, dump.to_string()).doing(|| format!("write({})", path.display()))?;
        let path = work.join("rootfs-diff.tar");
        let what = || format!("write({})", path.display());
        let mut diff = std::io::BufWriter::new(fs::File::create(&path).doing(what)?);
        let written = self.images().write_changes(id, &mut diff);
        written.doing(|| format!("files of container {id}"))?;
        diff.flush().doing(what)
    }
}

/// Where archives are put together: not in memory, as images may be large.
fn works(places: &Places) -> PathBuf {
    places.state.join("checkpoints")
}

/// After a daemon that ended during a checkpoint: its containers go on, its files go.
pub(crate) fn abandon(places: &Places) -> Result<()> {
    let Ok(entries) = fs::read_dir(works(places)) else {
        return Ok(());
    };
    let mut errors = Errors::default();
    for entry in entries.flatten() {
        let id = entry.file_name().to_string_lossy().into_owned();
        // It was paused, or had not been yet, or has ended since.
        if let Err(error) = hull(places, &["resume", &id], PAUSE) {
            tracing::debug!(%error, id, "after a checkpoint that was broken off");
        }
        errors.note(files::remove_tree(&entry.path()));
    }
    errors.result()
}

fn hull(places: &Places, words: &[&str], time: Duration) -> Result<()> {
    let mut command = Command::new(&places.hull);
    command.arg("--root").arg(&places.runtime_root).args(words);
    let name = words.first().copied().unwrap_or_default();
    finish(command, &format!("hull {name}"), time)
}

/// For root alone: what a process has in memory is in it.
fn pack(work: &Path, location: &Path, time: Duration) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.arg("--create").arg("--file").arg(location);
    tar.arg("--directory").arg(work).arg(".");
    let what = || format!("open({}, 0600)", location.display());
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(location).doing(what)?;
    let packed = finish(tar, "tar", time);
    if packed.is_err() {
        // Half an archive is none; the error is told.
        let _ = fs::remove_file(location);
    }
    packed
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
