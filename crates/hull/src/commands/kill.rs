//! `hull kill`.

use clap::{Arg, ArgMatches, Command};
use runtime::Result;
use runtime::kill::{kill, signal_number};

use crate::Context;
use crate::options::{command, given, id, is_on, switch};

/// The definition.
#[must_use]
pub fn define() -> Command {
    command("kill", "Send a signal to a container")
        .arg(switch("all", "Send it to all processes of the container").short('a'))
        .arg(id())
        .arg(
            Arg::new("signal")
                .value_name("SIGNAL")
                .allow_negative_numbers(true)
                .default_value("TERM")
                .help("Name or number"),
        )
}

/// Sends it.
///
/// # Errors
/// No such signal, no such container, or none that runs.
pub fn run(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let container = context.container(matches)?;
    let signal = signal_number(given(matches, "signal").unwrap_or("TERM"))?;
    kill(&container, signal, is_on(matches, "all"))?;
    Ok(0)
}
