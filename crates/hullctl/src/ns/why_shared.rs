//! `hullctl ns why-shared`: for each namespace of a process, who has it too, and why.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Arg, ArgMatches, Command, value_parser};
use runtime::Container;
use serde::Serialize;
use spec::plan::NamespaceKind;

use super::args::{flag, option};
use super::kinds::{KINDS, inode_of};
use crate::proc;
use crate::proc::containers;

/// The definition.
pub fn command() -> Command {
    Command::new("why-shared")
        .about("Say for each namespace of a process or container who shares it, and why")
        .after_help(
            "Examples:\n  hullctl ns why-shared web\n      what container web shares, and what in its configuration makes it so\n  hullctl ns why-shared 4711\n      from which ancestor process 4711 has each namespace",
        )
        .arg(Arg::new("who").required(true).value_name("ID|PID").help("A container of the state root, or a process"))
        .arg(flag("json", "As JSON"))
        .arg(option("root", "DIR", "Where the runtime keeps its state").value_parser(value_parser!(PathBuf)))
}

/// One answer.
#[derive(Debug, Serialize)]
struct Answer {
    namespace: &'static str,
    inode: u64,
    shared_with: usize,
    why: String,
}

/// Prints the answers.
pub fn run(m: &ArgMatches) -> Result<ExitCode> {
    let who = m.get_one::<String>("who").cloned().unwrap_or_default();
    let root = containers::state_root(m.get_one::<PathBuf>("root").map(PathBuf::as_path));
    let (pid, container) = find(&who, &root)?;
    let everyone = proc::pids()?;
    let mut answers = Vec::new();
    for k in KINDS {
        let Some(inode) = inode_of(pid, k.kind) else {
            bail!("ns why-shared: process {pid} has ended, or is out of sight");
        };
        let sharers = everyone
            .iter()
            .filter(|&&p| p != pid && inode_of(p, k.kind) == Some(inode));
        let why = container.as_ref().map_or_else(
            || by_descent(pid, k.kind, inode),
            |c| by_configuration(c, k.kind, pid, inode),
        );
        answers.push(Answer {
            namespace: k.kind.proc_name(),
            inode,
            shared_with: sharers.count(),
            why,
        });
    }
    if m.get_flag("json") {
        println!("{}", serde_json::to_string_pretty(&answers)?);
    } else {
        for a in &answers {
            let others = match a.shared_with {
                0 => "with nobody".to_owned(),
                1 => "with 1 process".to_owned(),
                n => format!("with {n} processes"),
            };
            println!("{:<6} {} shared {others}: {}", a.namespace, a.inode, a.why);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn find(who: &str, root: &Path) -> Result<(i32, Option<Container>)> {
    if let Some((container, _)) = containers::open(root, who)? {
        let pid = container.init().map(|init| init.pid);
        return match pid {
            Ok(pid) => Ok((pid, Some(container))),
            Err(_) => bail!("ns why-shared: container {who} is stopped: it has no namespaces"),
        };
    }
    match who.parse() {
        Ok(pid) if !proc::status(pid).is_empty() => Ok((pid, None)),
        Ok(pid) => bail!("ns why-shared: there is no process {pid}"),
        Err(_) => bail!(
            "ns why-shared: there is no container {who} in {}",
            root.display()
        ),
    }
}

/// By what `config.json` says.
fn by_configuration(container: &Container, kind: NamespaceKind, pid: i32, inode: u64) -> String {
    let name = kind.oci_name();
    let Ok(config) = container.config() else {
        return by_descent(pid, kind, inode);
    };
    let namespaces = config.linux.map(|l| l.namespaces).unwrap_or_default();
    match namespaces.iter().find(|n| n.kind == name) {
        None => format!(
            "its config.json has no `{name}` in linux.namespaces, so it keeps the runtime's"
        ),
        Some(n) if n.path.is_empty() => {
            "its config.json asks for a new one; whoever is in it came later or is its child"
                .to_owned()
        }
        Some(n) => format!("its config.json joins {}{}", n.path, owner_of(&n.path)),
    }
}

/// Whose `/proc/PID/ns/…` it is, where that process still runs.
fn owner_of(path: &str) -> String {
    let pid = path
        .strip_prefix("/proc/")
        .and_then(|rest| rest.split('/').next());
    match pid.and_then(|pid| pid.parse().ok()) {
        Some(pid) if !proc::status(pid).is_empty() => {
            format!(", process {}", proc::command_line(pid))
        }
        _ => String::new(),
    }
}

/// By the ancestors: the first one that has another namespace is the parent of whoever made or
/// entered this one.
fn by_descent(pid: i32, kind: NamespaceKind, inode: u64) -> String {
    let mut child = pid;
    while let Some(parent) = proc::stat::read(child, None).map(|s| s.ppid) {
        if parent == 0 {
            return format!(
                "inherited from process {child} ({}), the first of its line",
                proc::name(child)
            );
        }
        match inode_of(parent, kind) {
            Some(theirs) if theirs == inode => child = parent,
            Some(theirs) => {
                let who = if child == pid {
                    "it".to_owned()
                } else {
                    format!("its ancestor {child} ({})", proc::name(child))
                };
                return format!(
                    "{who} made or entered it; the parent {parent} ({}) is in {theirs}",
                    proc::name(parent)
                );
            }
            None => break,
        }
    }
    format!(
        "inherited from process {child} ({}); what came before is out of sight",
        proc::name(child)
    )
}
