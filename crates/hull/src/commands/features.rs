//! `hull features`.

use clap::Command;

use crate::options::command;

/// The definition.
#[must_use]
pub fn define() -> Command {
    command("features", "Show what this runtime supports, as JSON")
}
