//! `hull resume`.

use clap::Command;

use crate::options::{command, id};

/// The definition.
#[must_use]
pub fn define() -> Command {
    command("resume", "Resume all processes of a paused container").arg(id())
}
