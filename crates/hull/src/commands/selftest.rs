//! `hull selftest`: hands over to `hullctl selftest`, which has no budget of bytes.

use std::os::unix::process::CommandExt as _;

use clap::{Arg, ArgMatches, Command};
use runtime::Result;
use sys::{Context as _, Errno};

use crate::Context;
use crate::options::command;

/// The definition.
#[must_use]
pub fn define() -> Command {
    command(
        "selftest",
        "Try known ways out of a container on this runtime, by hullctl: selftest --escape",
    )
    .arg(
        Arg::new("words")
            .num_args(0..)
            .trailing_var_arg(true)
            .allow_hyphen_values(true)
            .help("Options of `hullctl selftest`"),
    )
}

/// Becomes `hullctl`, from beside this program or from $PATH.
///
/// # Errors
/// It is not there.
pub fn run(_: &Context, _: &ArgMatches) -> Result<u8> {
    let own = std::env::current_exe().context("readlink", || "/proc/self/exe")?;
    let mut program = own.with_file_name("hullctl");
    if !program.exists() {
        program = "hullctl".into();
    }
    // As they were written: hullctl reads flags in its own way.
    let words = std::env::args_os().skip_while(|w| w != "selftest").skip(1);
    let e = std::process::Command::new(&program)
        .arg("selftest")
        .args(words)
        .arg("--runtime")
        .arg(&own)
        .exec();
    let errno = Errno::from_io_error(&e).unwrap_or(Errno::NOENT);
    let args = format!("{}: install hullctl beside hull", program.display());
    Err(sys::Error::new("execve", args, errno).into())
}
