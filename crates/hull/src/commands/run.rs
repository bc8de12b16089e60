//! `hull run`.

use clap::{ArgMatches, Command};
use runtime::Result;
use runtime::create::Start;
use runtime::run::Options;

use crate::Context;
use crate::options::{command, is_on, switch};

/// The definition.
#[must_use]
pub fn define() -> Command {
    let command = command("run", "Create a container, start it, and wait for its end");
    super::create::with_options(command)
        .arg(switch("detach", "Do not wait for the container").short('d'))
        .arg(switch(
            "no-subreaper",
            "Do not become the reaper of orphaned processes",
        ))
        .arg(switch(
            "keep",
            "Do not delete the container when it has ended",
        ))
}

/// Runs it.
///
/// # Errors
/// Those of [`runtime::run::run`].
pub fn run(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let start = if is_on(matches, "detach") {
        Start::Detached
    } else {
        Start::Attached
    };
    let request = super::create::request(context, matches, start)?;
    super::protect(request.descriptors)?;
    let root = context.make_root()?;
    let options = Options {
        no_subreaper: is_on(matches, "no-subreaper"),
        keep: is_on(matches, "keep"),
    };
    let code = runtime::run::run(&root, &request, options, &mut |w| context.warn(w))?;
    Ok(u8::try_from(code).unwrap_or(u8::MAX))
}
