//! `hullctl container`: containers that `hullctl run` made from images, without a daemon.

mod commands;
mod define;
mod logs;
pub mod record;
mod redirect;

use std::process::ExitCode;

use anyhow::Result;
use clap::ArgMatches;

pub use define::command;
pub use redirect::redirect;

/// Runs the command that `m` names.
pub fn run(m: &ArgMatches) -> Result<ExitCode> {
    match m.subcommand() {
        Some(("ps", m)) => commands::ps(m),
        Some(("inspect", m)) => commands::inspect(m),
        Some(("logs", m)) => logs::logs(m),
        Some(("exec", m)) => commands::exec(m),
        Some(("stop", m)) => commands::stop(m),
        Some(("wait", m)) => commands::wait(m),
        Some(("rm", m)) => commands::rm(m),
        // clap has refused everything else: subcommand_required.
        _ => Ok(ExitCode::FAILURE),
    }
}
