//! The program `hull`: runc's command line over the `runtime` crate.
//!
//! [`cli`] defines the whole command line in one place, one file a command in [`commands`];
//! man pages and completions are generated from the same definitions.
//!
//! Invariant: what the program prints is printed here. Libraries return values.

#![forbid(unsafe_code)]

mod audit;
pub mod cli;
pub mod commands;
mod context;
pub mod examples;
mod goflags;
mod log;
pub mod options;

use std::process::ExitCode;

pub use context::Context;
pub use log::{Format, Level, Log};

/// The program.
#[must_use]
pub fn main() -> ExitCode {
    match cli::parse(std::env::args_os()) {
        Ok(matches) => context::run(&matches),
        Err(e) if e.use_stderr() => {
            Log::default().write(Level::Error, &cli::one_line(&e));
            ExitCode::FAILURE
        }
        Err(e) => {
            // Help or the version; there is nobody to tell if that cannot be written.
            let _ = e.print();
            ExitCode::SUCCESS
        }
    }
}
