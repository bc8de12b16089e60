//! `hullctl run --detach`: a container with a supervisor of its own, which keeps its log.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use std::os::unix::process::CommandExt as _;
use supervise::protocol::{Create, LogOptions, Stdin, Stdio as Connected};
use supervise::{Client, Launch};

use super::args::Settings;
use super::image::Prepared;
use crate::container::record::supervisor_dir;

/// Where a log is begun anew.
const LOG_BYTES: u64 = 64 << 20;

/// The program `hull`: beside this one, or in PATH.
pub fn hull_program() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("HULL") {
        return Ok(path.into());
    }
    let own = std::env::current_exe().context("readlink(/proc/self/exe)")?;
    let beside = own.with_file_name("hull");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).map(|dir| dir.join("hull"));
    let Some(found) = std::iter::once(beside).chain(places).find(|p| p.is_file()) else {
        bail!("hull: not found beside hullctl nor in PATH: install it, or name it in HULL");
    };
    Ok(found)
}

/// Starts the container under a supervisor, which lives as long as it does.
pub fn start(prepared: &Prepared, settings: &Settings, store: &Path) -> Result<()> {
    let record = &prepared.record;
    let hull = hull_program()?;
    let dir = supervisor_dir(&record.root, &record.id);
    let launch = Launch {
        program: &hull,
        root: &record.root,
        dir: &dir,
        resume: false,
        stderr: Stdio::null(),
    };
    launch.start()?;
    let mut client = Client::connect(&dir)?;
    let started = begin(&mut client, prepared, settings);
    if started.is_err() {
        // The first error is the one to report; the supervisor is to go with the container.
        let _ = client.delete(&record.id, true);
        let _ = client.quit();
        let _ = std::fs::remove_dir_all(&dir);
    }
    started?;
    if record.remove {
        attend(&record.id, store)?;
    }
    Ok(())
}

fn begin(client: &mut Client, prepared: &Prepared, settings: &Settings) -> Result<()> {
    let stdio = if settings.terminal {
        Connected::Terminal
    } else {
        Connected::Pipes
    };
    client.create(Create {
        id: prepared.record.id.clone(),
        bundle: prepared.place.dir().to_owned(),
        stdio,
        stdin: if settings.interactive {
            Stdin::Open
        } else {
            Stdin::Closed
        },
        log: Some(LogOptions {
            path: prepared.place.log(),
            max_bytes: Some(LOG_BYTES),
            max_files: Some(2),
            rate: None,
        }),
        ..Create::default()
    })?;
    Ok(client.start(&prepared.record.id)?)
}

/// Leaves a process behind that removes the container when it has ended.
fn attend(id: &str, store: &Path) -> Result<()> {
    let own = std::env::current_exe().context("readlink(/proc/self/exe)")?;
    let mut command = Command::new(own);
    command
        .args(["container", "wait", "--rm", "--store"])
        .arg(store)
        .arg(id)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0);
    command.spawn().context("spawn(hullctl container wait)")?;
    Ok(())
}
