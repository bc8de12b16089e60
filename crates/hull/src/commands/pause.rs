//! `hull pause`.

use clap::{ArgMatches, Command};
use runtime::Result;

use crate::Context;
use crate::options::{command, id};

/// The definition.
#[must_use]
pub fn define() -> Command {
    command("pause", "Suspend all processes of a container").arg(id())
}

/// Suspends it.
///
/// # Errors
/// The container does not run, or cannot be frozen.
pub fn run(context: &Context, matches: &ArgMatches) -> Result<u8> {
    runtime::pause::pause(&context.container(matches)?)?;
    Ok(0)
}
