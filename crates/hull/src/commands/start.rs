//! `hull start`.

use clap::{ArgMatches, Command};
use runtime::Result;

use crate::Context;
use crate::options::{command, id};

/// The definition.
#[must_use]
pub fn define() -> Command {
    command("start", "Start the program of a created container").arg(id())
}

/// Starts it.
///
/// # Errors
/// Those of [`runtime::start::start`].
pub fn run(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let container = context.container(matches)?;
    let notify_socket = std::env::var("NOTIFY_SOCKET").ok();
    runtime::start::start(&container, notify_socket.as_deref(), &mut |w| {
        context.warn(w)
    })?;
    Ok(0)
}
