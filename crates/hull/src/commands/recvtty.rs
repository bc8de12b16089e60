//! `hull recvtty`.

use clap::{Arg, Command};

use crate::options::{command, path, switch, text};

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
            .help("Path of the socket to make"),
    )
}
