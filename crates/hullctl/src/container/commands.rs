//! Listing, looking at, entering, stopping and removing containers.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command as Process, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use clap::ArgMatches;
use runtime::audit::Caller;
use runtime::root::StateRoot;
use runtime::{Container, ContainerId, Status};
use supervise::Client;
use supervise::protocol::{Phase, Stop};

use crate::table::Table;

use super::record::{Place, Record, supervisor_dir};

const TICK: Duration = Duration::from_millis(50);

/// A container and where it is.
#[derive(Debug)]
pub struct Found {
    pub place: Place,
    pub record: Record,
    store: PathBuf,
}

fn store(m: &ArgMatches) -> PathBuf {
    crate::image::store_root(m.get_one::<PathBuf>("store").cloned())
}

/// The container that `m` names.
pub fn find(m: &ArgMatches) -> Result<Found> {
    let id = m.get_one::<String>("id").cloned().unwrap_or_default();
    let store = store(m);
    let place = Place::of(&store, &id)?;
    let record = place.read();
    let record = record.map_err(|e| {
        anyhow!("container {id}: does not exist ({e:#}); see `hullctl container ps -a`")
    })?;
    Ok(Found {
        place,
        record,
        store,
    })
}

impl Found {
    /// What the runtime knows of it; `None` where it is no more.
    fn container(&self) -> Result<Option<Container>> {
        let Some(root) = StateRoot::open(&self.record.root)? else {
            return Ok(None);
        };
        match Container::open(&root, &ContainerId::new(&self.record.id)?) {
            Err(runtime::Error::NotFound(_)) => Ok(None),
            other => Ok(Some(other?)),
        }
    }

    /// Whether its program runs.
    pub fn is_running(&self) -> Result<bool> {
        let status = self.container()?.map(|c| c.status()).transpose()?;
        Ok(status.is_some_and(|s| s != Status::Stopped))
    }

    fn supervisor_dir(&self) -> PathBuf {
        supervisor_dir(&self.record.root, &self.record.id)
    }

    fn supervisor(&self) -> Result<Client> {
        let what = || format!("the supervisor of container {}", self.record.id);
        Client::connect(&self.supervisor_dir()).with_context(what)
    }

    /// Its exit code, once it has ended: as it was written down, by us or by its supervisor.
    fn exit(&self) -> Option<i32> {
        self.record.exit.or_else(|| {
            let path = self
                .supervisor_dir()
                .join(format!("{}.json", self.record.id));
            let status: supervise::protocol::Status =
                serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
            let ended = status.exit.filter(|_| status.phase == Phase::Exited)?;
            ended.ended.code
        })
    }

    fn status(&self) -> Result<String> {
        Ok(match self.container()?.map(|c| c.status()).transpose()? {
            Some(status) if status != Status::Stopped => status.to_string(),
            _ => match self.exit() {
                Some(code) => format!("exited ({code})"),
                None => "exited".to_owned(),
            },
        })
    }

    /// Removes it; it must have ended.
    fn remove(&self) -> Result<()> {
        if self.record.detached && self.supervisor_dir().exists() {
            match self.supervisor() {
                Ok(mut client) => {
                    client.delete(&self.record.id, true)?;
                    client.quit()?;
                }
                // It was killed, or the machine was started anew.
                Err(_) => delete_without(self)?,
            }
            let dir = self.supervisor_dir();
            std::fs::remove_dir_all(&dir).with_context(|| format!("rmdir({})", dir.display()))?;
        } else {
            delete_without(self)?;
        }
        crate::run::clear(
            &self.store,
            &self.record.id,
            &self.place,
            self.record.bridged,
        )
    }
}

/// Deletes what the runtime has of a container without a supervisor.
fn delete_without(found: &Found) -> Result<()> {
    let Some(root) = StateRoot::open(&found.record.root)? else {
        return Ok(());
    };
    let id = ContainerId::new(&found.record.id)?;
    let warn = &mut |text: &str| eprintln!("hullctl: {text}");
    Ok(runtime::delete::delete(&root, &id, true, warn)?)
}

/// `ps`.
pub fn ps(m: &ArgMatches) -> Result<ExitCode> {
    let store = store(m);
    let mut rows = Vec::new();
    for record in Place::all(&store) {
        let place = Place::of(&store, &record.id)?;
        let found = Found {
            place,
            record,
            store: store.clone(),
        };
        if m.get_flag("all") || found.is_running()? {
            rows.push((found.status()?, found.record));
        }
    }
    if m.get_flag("quiet") {
        rows.iter().for_each(|(_, r)| println!("{}", r.id));
    } else if m.get_one::<String>("format").is_some_and(|f| f == "json") {
        let all: Vec<serde_json::Value> = rows.iter().map(|(status, r)| json(status, r)).collect();
        println!(
            "{}",
            serde_json::to_string_pretty(&all).context("write JSON")?
        );
    } else {
        print!("{}", table(&rows));
    }
    Ok(ExitCode::SUCCESS)
}

fn json(status: &str, record: &Record) -> serde_json::Value {
    let mut value = serde_json::to_value(record).unwrap_or_default();
    value["status"] = status.into();
    value
}

fn table(rows: &[(String, Record)]) -> String {
    let mut table = Table::new([
        "CONTAINER",
        "IMAGE",
        "COMMAND",
        "CREATED",
        "STATUS",
        "IP",
        "PORTS",
    ]);
    for (status, r) in rows {
        table.row([
            r.id.clone(),
            r.image.clone(),
            r.command.join(" ").chars().take(30).collect(),
            r.created.clone(),
            status.clone(),
            r.ip.clone().unwrap_or_default(),
            r.ports.join(", "),
        ]);
    }
    table.columns()
}

/// `inspect`.
pub fn inspect(m: &ArgMatches) -> Result<ExitCode> {
    let found = find(m)?;
    let value = json(&found.status()?, &found.record);
    println!(
        "{}",
        serde_json::to_string_pretty(&value).context("write JSON")?
    );
    Ok(ExitCode::SUCCESS)
}

/// `exec`: by `hull exec`, which is what runs commands in containers.
pub fn exec(m: &ArgMatches) -> Result<ExitCode> {
    let found = find(m)?;
    let hull = crate::run::hull_program()?;
    let mut process = Process::new(&hull);
    process.arg("--root").arg(&found.record.root).arg("exec");
    if m.get_flag("tty") {
        process.arg("--tty");
    } else if !m.get_flag("interactive") {
        process.stdin(std::process::Stdio::null());
    }
    for (option, name) in [("--env", "env"), ("--cwd", "workdir"), ("--user", "user")] {
        for value in m.get_many::<String>(name).unwrap_or_default() {
            process.arg(option).arg(value);
        }
    }
    process.arg(&found.record.id);
    process.args(m.get_many::<String>("command").unwrap_or_default());
    Err(process.exec()).with_context(|| format!("execve({})", hull.display()))
}

/// `stop`.
pub fn stop(m: &ArgMatches) -> Result<ExitCode> {
    let found = find(m)?;
    let seconds = m.get_one::<u64>("time").copied().unwrap_or_default();
    let signal = runtime::kill::signal_number(&found.record.stop_signal)?;
    if found.record.detached && found.is_running()? {
        found.supervisor()?.stop(Stop {
            id: found.record.id.clone(),
            signal,
            grace_millis: seconds.saturating_mul(1000),
            by: format!("hullctl container stop by {}", Caller::of_this()),
        })?;
    } else if let Some(container) = found.container()? {
        stop_without(&found, &container, signal, Duration::from_secs(seconds))?;
    }
    println!("{}", found.record.id);
    Ok(ExitCode::SUCCESS)
}

/// Stops a container that somebody attends in the foreground.
fn stop_without(found: &Found, container: &Container, signal: i32, grace: Duration) -> Result<()> {
    const SIGKILL: i32 = 9;
    for (signal, patience) in [(signal, grace), (SIGKILL, Duration::from_secs(10))] {
        match runtime::kill::kill(container, signal, false) {
            Err(runtime::Error::NotRunning) => return Ok(()),
            other => other?,
        }
        let end = std::time::Instant::now() + patience;
        while std::time::Instant::now() < end {
            if !found.is_running()? {
                return Ok(());
            }
            std::thread::sleep(TICK);
        }
    }
    bail!(
        "stop {}: it lives on after SIGKILL: see `hullctl why`",
        found.record.id
    )
}

/// `wait`.
pub fn wait(m: &ArgMatches) -> Result<ExitCode> {
    let found = find(m)?;
    while found.is_running()? {
        std::thread::sleep(TICK);
    }
    // Whoever attends it writes that down a moment later.
    let mut code = None;
    for _ in 0..40 {
        code = Found {
            record: found.place.read()?,
            place: found.place.clone(),
            store: found.store.clone(),
        }
        .exit();
        if code.is_some() {
            break;
        }
        std::thread::sleep(TICK);
    }
    if m.get_flag("rm") {
        found.remove()?;
    }
    match code {
        Some(code) => println!("{code}"),
        None => bail!(
            "wait {}: its exit code was not written down",
            found.record.id
        ),
    }
    Ok(ExitCode::SUCCESS)
}

/// `rm`.
pub fn rm(m: &ArgMatches) -> Result<ExitCode> {
    let found = find(m)?;
    if found.is_running()? && !m.get_flag("force") {
        bail!(
            "rm {}: it runs; stop it first, or use --force",
            found.record.id
        );
    }
    found.remove()?;
    println!("{}", found.record.id);
    Ok(ExitCode::SUCCESS)
}
