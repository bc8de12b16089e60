//! The program `hulld`: configuration, start and end, signals, the sockets it serves.
//!
//! What it serves is in `cri`, what that does in `pods`.

#![forbid(unsafe_code)]

pub mod cli;
mod config;
mod listen;
mod notify;
mod serve;
mod settings;

use std::process::ExitCode;

use anyhow::Result;
use clap::ArgMatches;

pub use config::{Config, DEFAULT_FILE};

/// The program.
#[must_use]
pub fn main() -> ExitCode {
    let matches = cli::command().get_matches();
    match run(&matches) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hulld: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(matches: &ArgMatches) -> Result<()> {
    let file = matches.get_one::<std::path::PathBuf>("config").cloned();
    match matches.subcommand() {
        Some(("config", m)) => {
            let config = if m.get_flag("default") {
                Config::default()
            } else {
                Config::load(file.as_deref())?
            };
            print!("{}", cli::annotated(&config)?);
            Ok(())
        }
        Some(("check", _)) => cli::check(&Config::load(file.as_deref())?),
        _ => serve::serve(file, matches.get_one::<String>("log").map(String::as_str)),
    }
}
