//! `hull init`, a small process 1 for programs that do not reap (`hullctl run --init`).

use clap::{Arg, ArgMatches, Command};
use runtime::Result;
use runtime::exec_program::Program;
use runtime::foreground::Foreground;
use sys::process::{CloneArgs, Cloned, clone3, exit_now};

use crate::Context;
use crate::log::{Level, Log};
use crate::options::command;

/// What a shell says of a command that it cannot execute (POSIX, Shell Command Language, 2.8.2).
const NOT_FOUND: i32 = 127;

/// The definition.
#[must_use]
pub fn define() -> Command {
    command(
        "init",
        "Run a program, pass signals on to it, and reap what it leaves (inside a container)",
    )
    .hide(true)
    .arg(
        Arg::new("program")
            .value_name("PROGRAM")
            .num_args(1..)
            .required(true)
            .trailing_var_arg(true)
            .allow_hyphen_values(true),
    )
}

/// Runs it; the exit code is the program's.
///
/// # Errors
/// A call that failed before the program began.
pub fn run(_context: &Context, matches: &ArgMatches) -> Result<u8> {
    let words = matches.get_many::<String>("program").unwrap_or_default();
    let args: Vec<String> = words.cloned().collect();
    let variable = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        format!("{}={}", name.to_string_lossy(), value.to_string_lossy())
    };
    let env: Vec<String> = std::env::vars_os().map(variable).collect();
    // Signals wait from now on: those that come before the program is there reach it.
    let foreground = Foreground::begin(false)?;
    match clone3(&CloneArgs::default())? {
        Cloned::Parent { pid, .. } => {
            let code = foreground.attend(pid, None)?;
            Ok(u8::try_from(code).unwrap_or(u8::MAX))
        }
        Cloned::Child => {
            let error = match Program::find(&args, &env) {
                Ok(program) => program.exec(),
                Err(e) => e,
            };
            Log::default().write(Level::Error, &error.to_string());
            exit_now(NOT_FOUND)
        }
    }
}
