//! hullctl, a person's tool for containers.
//!
//! The library is only there for the build's own tools (man pages and completions come from
//! [`command`]); the program is `main.rs`.

mod container;
mod image;
mod ns;
mod proc;
mod run;
mod table;
pub mod template;

use std::process::ExitCode;

use anyhow::Result;
use clap::Command;

const ABOUT: &str = "Run and look at containers";

/// The definition of the command line.
#[must_use]
pub fn command() -> Command {
    Command::new("hullctl")
        .version(env!("CARGO_PKG_VERSION"))
        .about(ABOUT)
        .arg_required_else_help(true)
        .subcommand_required(true)
        .subcommand(run::command())
        .subcommand(image::command())
        .subcommand(ns::command())
        .subcommand(container::command())
}

/// Runs the program with the process's own arguments.
#[must_use]
pub fn main() -> ExitCode {
    let matches = command().get_matches();
    match dispatch(&matches) {
        Ok(code) => code,
        Err(e) => {
            eprintln!("hullctl: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(matches: &clap::ArgMatches) -> Result<ExitCode> {
    match matches.subcommand() {
        Some(("image", m)) => image::run(m),
        Some(("run", m)) => run::run(&run::parse(m)?),
        Some(("ns", m)) => ns::run(m),
        Some(("container", m)) => container::run(m),
        // clap has refused everything else: subcommand_required.
        _ => Ok(ExitCode::FAILURE),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_definitions_hold_together() {
        super::command().debug_assert();
    }
}
