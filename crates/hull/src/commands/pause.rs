//! `hull pause`.

use clap::Command;

use crate::options::{command, id};

/// The definition.
#[must_use]
pub fn define() -> Command {
    command("pause", "Suspend all processes of a container").arg(id())
}
