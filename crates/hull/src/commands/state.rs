//! `hull state`.

use clap::{ArgMatches, Command};
use runtime::Result;
use runtime::list::Summary;

use crate::Context;
use crate::context::print;
use crate::options::{command, id};

/// The definition.
#[must_use]
pub fn define() -> Command {
    command("state", "Show the state of a container as JSON").arg(id())
}

/// Prints it.
///
/// # Errors
/// No such container.
pub fn run(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let summary = Summary::of(&context.container(matches)?)?;
    print(&super::pretty(&summary, "state")?)?;
    Ok(0)
}
