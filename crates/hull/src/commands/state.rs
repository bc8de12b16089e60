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
    let mut summary = Summary::of(&context.container(matches)?)?;
    // runc names the owner in its list only; scripts compare the document.
    summary.owner.clear();
    print(&super::pretty(&summary, "state")?)?;
    Ok(0)
}
