//! `hull ps`.

use clap::{Arg, Command};

use crate::options::{command, id};

/// The definition.
#[must_use]
pub fn define() -> Command {
    command("ps", "List the processes of a container")
        .arg(super::format_option())
        .arg(id())
        .arg(
            Arg::new("options")
                .value_name("PS-OPTION")
                .num_args(0..)
                .trailing_var_arg(true)
                .allow_hyphen_values(true)
                .help("Options for ps(1) [default: -ef]"),
        )
}
