//! Processes that nobody looks after: supervisors without a container or a pod, and what dead
//! supervisors have left. Only those of the state root and of hulld's directory that were named.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use runtime::root::StateRoot;
use runtime::{Container, ContainerId, ProcessId, Status};
use rustix::process::Pid;
use supervise::Client;
use supervise::protocol::Phase;

use super::leaks::{Kind, Leak};
use super::places::Places;
use crate::proc;

const SIGKILL: i32 = 9;
/// How long one that was killed may take to end.
const PATIENCE: Duration = Duration::from_secs(10);
/// What hullctl's containers' supervisors' directories begin with.
const LOCAL: &str = "local-";

/// A supervisor that runs.
struct Supervisor {
    process: ProcessId,
    dir: PathBuf,
}

/// Everything of that sort.
pub fn find(places: &Places) -> Result<Vec<Leak>> {
    let supervisors = supervisors(places)?;
    let mut leaks = Vec::new();
    for s in &supervisors {
        let old = proc::age(s.process.pid).is_some_and(|age| age >= places.grace);
        let why = old.then(|| useless(s, places)).flatten();
        leaks.extend(why.map(|why| {
            let name = s.dir.file_name().unwrap_or_default().to_string_lossy();
            let name = name.strip_prefix(LOCAL).unwrap_or(&name);
            let leak = Leak::new(Kind::Supervisor, name, s.dir.clone(), &why);
            leak.of_process(s.process)
        }));
    }
    let living: BTreeSet<i32> = supervisors.iter().map(|s| s.process.pid).collect();
    leaks.extend(deserted(places, &living)?);
    leaks.extend(pauses(places, &living)?);
    Ok(leaks)
}

/// The supervisors of our state root.
fn supervisors(places: &Places) -> Result<Vec<Supervisor>> {
    let root = real(&places.root);
    let mut found = Vec::new();
    for pid in proc::pids()? {
        let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<&OsStr> = bytes.split(|b| *b == 0).map(OsStr::from_bytes).collect();
        // As `supervise::Launch` starts it.
        let at = words.iter().position(|w| *w == "supervise");
        let Some((at, "--root")) = at.zip(words.get(1).and_then(|w| w.to_str())) else {
            continue;
        };
        let rest = words.get(at + 1..).unwrap_or_default();
        let dir = rest.iter().find(|w| !w.is_empty() && **w != "--resume");
        let is_ours = at == 3 && words.get(2).is_some_and(|w| real(Path::new(w)) == root);
        if let (true, Some(dir), Some(process)) = (is_ours, dir, ProcessId::of(pid)?) {
            let dir = PathBuf::from(dir);
            found.push(Supervisor { process, dir });
        }
    }
    Ok(found)
}

fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// Why nobody needs it.
fn useless(s: &Supervisor, places: &Places) -> Option<String> {
    let process = s.process.pid;
    let Ok(mut client) = Client::connect(&s.dir) else {
        return Some(format!(
            "its supervisor (process {process}) runs, but its socket is gone: nobody can reach it"
        ));
    };
    let all = client.list().ok()?;
    if all.is_empty() {
        return Some(format!(
            "its supervisor (process {process}) has no container to look after"
        ));
    }
    let owner = owner(&s.dir, places)?;
    let runs = all.iter().filter(|c| c.phase != Phase::Exited).count();
    (!owner.exists()).then(|| {
        format!(
            "its supervisor (process {process}) has {} containers, {runs} of them alive, and {} is gone",
            all.len(),
            owner.display()
        )
    })
}

/// What its pod or container is written down in; none where that was not named.
fn owner(dir: &Path, places: &Places) -> Option<PathBuf> {
    let name = dir.file_name()?.to_str()?;
    if let Some(id) = name.strip_prefix(LOCAL) {
        return Some(places.store.as_ref()?.join("local").join(id));
    }
    let run = places.run.as_ref()?;
    let is_daemons = real(dir.parent()?) == real(&run.join("pods"));
    is_daemons.then(|| run.join("records").join(name))
}

/// Containers that run and had a supervisor, which is dead: nobody reads their output or will
/// know their exit code. The daemon starts another for its own pods, and is left to it.
fn deserted(places: &Places, supervisors: &BTreeSet<i32>) -> Result<Vec<Leak>> {
    let Some(state) = StateRoot::open(&places.root)? else {
        return Ok(Vec::new());
    };
    let mut leaks = Vec::new();
    for id in state.ids()? {
        let Ok(container) = Container::open(&state, &id) else {
            continue;
        };
        let Some(init) = container.record.init else {
            continue;
        };
        let is_alive = container.status().is_ok_and(|s| s != Status::Stopped);
        let parent = proc::stat::read(init.pid, None).map_or(0, |stat| stat.ppid);
        if !is_alive || supervisors.contains(&parent) {
            continue;
        }
        let Some(dir) = supervised_in(&id, &container, places) else {
            continue;
        };
        let old = proc::age(init.pid).is_some_and(|age| age >= places.grace);
        if old && Client::connect(&dir).is_err() {
            let why = format!(
                "its supervisor has died: nobody reads what process {} ({}) writes or waits for its end",
                init.pid,
                proc::name(init.pid)
            );
            leaks.push(Leak::new(Kind::Container, id.as_str(), dir, &why).of_process(init));
        }
    }
    Ok(leaks)
}

/// Where the supervisor of a container was, if it is not for the daemon to start another.
fn supervised_in(id: &ContainerId, container: &Container, places: &Places) -> Option<PathBuf> {
    let local = places.root.join("pods").join(format!("{LOCAL}{id}"));
    if local.is_dir() {
        return Some(local);
    }
    let run = places.run.as_ref()?;
    let below = container
        .record
        .bundle
        .strip_prefix(run.join("pods"))
        .ok()?;
    let pod = below.components().next()?;
    let is_known = run.join("records").join(id.as_str()).exists();
    (!is_known).then(|| run.join("pods").join(pod))
}

/// Sandbox processes that belong to no container that is written down.
fn pauses(places: &Places, supervisors: &BTreeSet<i32>) -> Result<Vec<Leak>> {
    let Some(run) = &places.run else {
        return Ok(Vec::new());
    };
    let program = run.join("pause/pause");
    let Ok(ours) = fs::metadata(&program) else {
        return Ok(Vec::new());
    };
    let ours = (ours.dev(), ours.ino());
    let recorded = first_processes(places)?;
    let mut leaks = Vec::new();
    for pid in proc::pids()? {
        let is_pause = fs::metadata(format!("/proc/{pid}/exe"))
            .is_ok_and(|file| (file.dev(), file.ino()) == ours);
        if !is_pause || recorded.contains(&pid) {
            continue;
        }
        let parent = proc::stat::read(pid, None).map_or(0, |stat| stat.ppid);
        let old = proc::age(pid).is_some_and(|age| age >= places.grace);
        if let (true, false, Some(process)) =
            (old, supervisors.contains(&parent), ProcessId::of(pid)?)
        {
            let why =
                format!("process {pid} holds the namespaces of a pod that no record speaks of");
            let leak = Leak::new(Kind::Pause, "a pod that is gone", program.clone(), &why);
            leaks.push(leak.of_process(process));
        }
    }
    Ok(leaks)
}

fn first_processes(places: &Places) -> Result<BTreeSet<i32>> {
    let mut pids = BTreeSet::new();
    if let Some(state) = StateRoot::open(&places.root)? {
        for id in state.ids()? {
            let container = Container::open(&state, &id).ok();
            pids.extend(container.and_then(|c| c.record.init).map(|init| init.pid));
        }
    }
    Ok(pids)
}

/// Ends a supervisor: by asking it, and with the containers that nobody speaks for.
pub fn end_supervisor(root: &Path, dir: &Path, process: ProcessId) -> Result<()> {
    let asked = Client::connect(dir)
        .map_err(anyhow::Error::from)
        .and_then(|mut client| {
            for container in client.list()? {
                client.delete(&container.create.id, true)?;
            }
            Ok(client.quit()?)
        });
    // One that cannot be reached has to be killed, its containers first.
    if asked.is_err() || process.await_end(PATIENCE).is_err() {
        for id in children(root, process.pid)? {
            delete(root, &id)?;
        }
        kill(process)?;
    }
    remove_dir(dir)
}

/// The containers whose first process this supervisor is the parent of.
fn children(root: &Path, supervisor: i32) -> Result<Vec<ContainerId>> {
    let mut found = Vec::new();
    if let Some(state) = StateRoot::open(root)? {
        for id in state.ids()? {
            let container = Container::open(&state, &id).ok();
            let init = container.and_then(|c| c.record.init);
            let parent = init.and_then(|init| proc::stat::read(init.pid, None));
            if parent.is_some_and(|stat| stat.ppid == supervisor) {
                found.push(id);
            }
        }
    }
    Ok(found)
}

/// Ends a container that has lost its supervisor, with what that had.
pub fn end_container(root: &Path, dir: &Path, id: &str) -> Result<()> {
    delete(root, &ContainerId::new(id)?)?;
    remove_dir(dir)
}

fn remove_dir(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("rmdir({})", dir.display()))
        }
        _ => Ok(()),
    }
}

fn delete(root: &Path, id: &ContainerId) -> Result<()> {
    let Some(state) = StateRoot::open(root)? else {
        return Ok(());
    };
    let warn = &mut |text: &str| eprintln!("hullctl: {text}");
    Ok(runtime::delete::delete(&state, id, true, warn)?)
}

/// Kills a process, unless its number is another's by now.
pub fn kill(process: ProcessId) -> Result<()> {
    if !process.is_alive()? {
        return Ok(());
    }
    let pid = Pid::from_raw(process.pid).context("no process")?;
    sys::pidfd::kill(pid, SIGKILL)?;
    Ok(process.await_end(PATIENCE)?)
}
