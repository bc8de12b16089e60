//! `hull delete`.

use clap::{ArgMatches, Command};
use runtime::Result;

use crate::Context;
use crate::context::id as id_of;
use crate::options::{command, id, is_on, switch};

/// The definition.
#[must_use]
pub fn define() -> Command {
    command("delete", "Delete a container with all that belongs to it")
        .arg(switch("force", "Kill it first if it runs").short('f'))
        .arg(id())
}

/// Deletes it.
///
/// # Errors
/// Those of [`runtime::delete::delete`].
pub fn run(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let (id, force) = (id_of(matches)?, is_on(matches, "force"));
    match context.open_root()? {
        Some(root) => runtime::delete::delete(&root, &id, force, &mut |w| context.warn(w))?,
        None if force => {}
        None => return Err(runtime::Error::NotFound(id.to_string())),
    }
    Ok(0)
}
