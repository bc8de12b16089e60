//! `hull resume`.

use clap::{ArgMatches, Command};
use runtime::Result;

use crate::Context;
use crate::options::{command, id};

/// The definition.
#[must_use]
pub fn define() -> Command {
    command("resume", "Resume all processes of a paused container").arg(id())
}

/// Resumes it.
///
/// # Errors
/// The container is not paused, or cannot be thawed.
pub fn run(context: &Context, matches: &ArgMatches) -> Result<u8> {
    runtime::pause::resume(&context.container(matches)?)?;
    Ok(0)
}
