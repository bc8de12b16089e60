//! `hull events`.

use clap::Command;

use crate::options::{command, id, switch, text};

/// The definition.
#[must_use]
pub fn define() -> Command {
    command(
        "events",
        "Show a container's events and statistics as lines of JSON",
    )
    .arg(switch("stats", "Show statistics once and end"))
    .arg(text("interval", "DURATION", "Time between statistics").default_value("5s"))
    .arg(id())
}
