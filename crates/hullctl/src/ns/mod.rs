//! `hullctl ns`: namespaces made, entered, listed, kept and compared.
//!
//! `unshare`, `enter` and `ls` take the options of util-linux' unshare, nsenter and lsns and
//! behave like them; what comes in addition says so in its help.

mod args;
mod creds;
mod diff;
mod enter;
mod keep;
mod kinds;
mod ls;
mod unshare;
mod waiting;
mod why_shared;

pub use args::attach;

use std::process::ExitCode;

use anyhow::Result;
use clap::{ArgMatches, Command};

const EXAMPLES: &str = "\
Examples:
  hullctl ns unshare --fork --pid --mount-proc ps ax
      a process list with one process
  hullctl ns unshare --map-root-user --net ip link
      an empty network, without being root
  hullctl ns ls --tree=container
      which container has which namespaces, and what it shares
  hullctl ns enter --target 4711 --all
      a shell where process 4711 is
  hullctl ns diff 1 4711
      what keeps two processes apart
  hullctl ns add blue
      a network namespace that stays; `ip netns exec blue ...` finds it too";

/// The definition.
pub fn command() -> Command {
    Command::new("ns")
        .about("Make, enter, list, keep and compare namespaces")
        .after_help(EXAMPLES)
        .arg_required_else_help(true)
        .subcommand_required(true)
        .subcommand(unshare::command())
        .subcommand(enter::command())
        .subcommand(ls::command())
        .subcommand(keep::add_command())
        .subcommand(keep::remove_command())
        .subcommand(diff::command())
        .subcommand(why_shared::command())
}

/// Does what the command line says.
pub fn run(m: &ArgMatches) -> Result<ExitCode> {
    match m.subcommand() {
        Some(("unshare", m)) => unshare::run(m),
        Some(("enter", m)) => enter::run(m),
        Some(("ls", m)) => ls::run(m),
        Some(("add", m)) => keep::add(m),
        Some(("rm", m)) => keep::remove(m),
        Some(("diff", m)) => diff::run(m),
        Some(("why-shared", m)) => why_shared::run(m),
        // clap has refused everything else: subcommand_required.
        _ => Ok(ExitCode::FAILURE),
    }
}
