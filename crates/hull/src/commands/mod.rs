//! One file a command: its definition and what it does.

use clap::{ArgMatches, Command};
use runtime::become_program::Descriptors;

use crate::Context;

pub mod checkpoint;
pub mod create;
pub mod delete;
pub mod events;
pub mod exec;
pub mod features;
pub mod init;
pub mod kill;
pub mod list;
pub mod pause;
pub mod ps;
pub mod recvtty;
pub mod restore;
pub mod resume;
pub mod run;
pub mod selftest;
pub mod spec;
pub mod start;
pub mod state;
pub mod supervise;
pub mod update;

/// A command.
#[derive(Debug)]
pub struct Entry {
    /// Its name.
    pub name: &'static str,
    /// Its definition.
    pub define: fn() -> Command,
    /// What it does; the value is the program's exit code.
    pub run: fn(&Context, &ArgMatches) -> runtime::Result<u8>,
    /// The exit code of an error.
    pub failure: u8,
}

/// Shape of a list.
pub(crate) fn format_option() -> clap::Arg {
    crate::options::text("format", "FORMAT", "Shape of the output: table or json")
        .short('f')
        .value_parser(["table", "json"])
        .default_value("table")
}

/// `value` as indented JSON with a newline at its end.
pub(crate) fn pretty(value: &impl serde::Serialize, what: &str) -> runtime::Result<String> {
    ended(serde_json::to_string_pretty(value), what)
}

/// `value` as one line of JSON.
pub(crate) fn compact(value: &impl serde::Serialize, what: &str) -> runtime::Result<String> {
    ended(serde_json::to_string(value), what)
}

fn ended(json: serde_json::Result<String>, what: &str) -> runtime::Result<String> {
    let what = what.to_owned();
    json.map(|text| text + "\n")
        .map_err(|source| runtime::Error::Json { what, source })
}

/// What must come first in a command that enters a container: nothing that we inherited reaches
/// it but what is passed on, and it never sees our executable on the host.
pub(crate) fn protect(descriptors: Descriptors) -> runtime::Result<()> {
    sys::seal::ensure_sealed()?;
    descriptors.check()?;
    sys::process::close_on_exec_from(descriptors.end())?;
    Ok(())
}

macro_rules! entries {
    ($($name:ident $failure:literal,)*) => {
        /// All commands, in alphabetical order.
        pub const ALL: &[Entry] = &[$(Entry {
            name: stringify!($name),
            define: $name::define,
            run: $name::run,
            failure: $failure,
        },)*];
    };
}

entries! {
    checkpoint 1,
    create 1,
    delete 1,
    events 1,
    exec 255,
    features 1,
    init 127,
    kill 1,
    list 1,
    pause 1,
    ps 1,
    recvtty 1,
    restore 1,
    resume 1,
    run 1,
    selftest 1,
    spec 1,
    start 1,
    state 1,
    supervise 1,
    update 1,
}
