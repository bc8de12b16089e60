//! `hull recvtty`.

use clap::{Arg, ArgMatches, Command};
use runtime::Result;
use runtime::receiver::Receiver;

use crate::Context;
use crate::options::{command, given, given_path, is_on, path, switch, text};

/// The definition.
#[must_use]
pub fn define() -> Command {
    command(
        "recvtty",
        "Receive a pseudo-terminal on a socket and attach to it",
    )
    .arg(
        text(
            "mode",
            "MODE",
            "single attaches to the first terminal received, null reads all that come",
        )
        .short('m')
        .value_parser(["single", "null"])
        .default_value("single"),
    )
    .arg(path("pid-file", "FILE", "Write our pid to this file"))
    .arg(switch("no-stdin", "Do not read from standard input"))
    .arg(
        Arg::new("socket")
            .value_name("SOCKET")
            .required(true)
            .value_parser(clap::value_parser!(std::path::PathBuf))
            .help("Path of the socket to make"),
    )
}

/// Receives.
///
/// # Errors
/// The socket cannot be made, or the terminal failed.
pub fn run(_: &Context, matches: &ArgMatches) -> Result<u8> {
    let path = given_path(matches, "socket").unwrap_or_default();
    let receiver = Receiver::bind(&path)?;
    if let Some(file) = given_path(matches, "pid-file") {
        runtime::pid_file::write(&file, runtime::ProcessId::own()?.pid)?;
    }
    if given(matches, "mode") == Some("null") {
        receiver.null()?;
    } else {
        receiver.single(!is_on(matches, "no-stdin"))?;
    }
    Ok(0)
}
