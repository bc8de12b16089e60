//! `hull spec`.

use clap::Command;

use crate::options::{command, path, switch};

/// The definition.
#[must_use]
pub fn define() -> Command {
    command("spec", "Write a config.json to start from")
        .arg(path("bundle", "DIR", "Directory of the bundle").short('b'))
        .arg(switch("rootless", "For a user without the rights of root"))
}
