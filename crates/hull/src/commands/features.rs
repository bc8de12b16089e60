//! `hull features`.

use clap::{ArgMatches, Command};
use runtime::Result;

use crate::Context;
use crate::context::print;
use crate::options::command;

/// The definition.
#[must_use]
pub fn define() -> Command {
    command("features", "Show what this runtime supports, as JSON")
}

/// Prints them.
///
/// # Errors
/// Standard output cannot be written to.
pub fn run(_: &Context, _: &ArgMatches) -> Result<u8> {
    print(&super::pretty(&runtime::features::features(), "features")?)?;
    Ok(0)
}
