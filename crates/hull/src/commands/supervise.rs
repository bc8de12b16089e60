//! `hull supervise`, which hulld starts for each pod.

use std::path::PathBuf;

use clap::{Arg, ArgMatches, Command, value_parser};
use runtime::become_program::Descriptors;
use runtime::{Error, Result};
use supervise::{Options, Supervisor};

use crate::Context;
use crate::options::{command, is_on, switch};

/// The definition.
#[must_use]
pub fn define() -> Command {
    command(
        "supervise",
        "Supervise the processes of a pod (started by hulld)",
    )
    .hide(true)
    .arg(switch(
        "resume",
        "Go on with what another supervisor has left",
    ))
    .arg(
        Arg::new("dir")
            .value_name("DIR")
            .required(true)
            .value_parser(value_parser!(PathBuf))
            .help("Directory of the pod"),
    )
}

/// Runs it, until the pod has gone.
///
/// # Errors
/// Those of [`Supervisor::start`] and [`Supervisor::run`].
pub fn run(context: &Context, matches: &ArgMatches) -> Result<u8> {
    // Nothing that whoever started us forgot to close lives on with the pod.
    sys::process::close_all_from(3, &[])?;
    super::protect(Descriptors::default())?;
    let options = Options {
        root: context.root.clone(),
        dir: matches
            .get_one::<PathBuf>("dir")
            .cloned()
            .unwrap_or_default(),
        resume: is_on(matches, "resume"),
    };
    let supervised = Supervisor::start(options).and_then(Supervisor::run);
    supervised.map_err(|e| Error::Invalid(e.to_string()))?;
    Ok(0)
}
