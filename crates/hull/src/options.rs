//! Shorthand for the definitions of commands, and the reading of their matches.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

/// `--name`; twice is as good as once.
pub fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .action(ArgAction::SetTrue)
        .overrides_with(name)
        .help(help)
}

/// `--name VALUE`; the last one counts.
pub fn text(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .value_name(value)
        .action(ArgAction::Set)
        .overrides_with(name)
        .allow_hyphen_values(true)
        .help(help)
}

/// `--name PATH`; the last one counts.
pub fn path(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    text(name, value, help).value_parser(value_parser!(PathBuf))
}

/// `--name VALUE`, any number of times.
pub fn texts(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .value_name(value)
        .action(ArgAction::Append)
        .allow_hyphen_values(true)
        .help(help)
}

/// `--name N`.
pub fn number(name: &'static str, help: &'static str) -> Arg {
    text(name, "N", help).value_parser(value_parser!(u32))
}

/// The container's id, required.
pub fn id() -> Arg {
    Arg::new("id")
        .value_name("CONTAINER-ID")
        .required(true)
        .help("Id of the container")
}

/// A command of that name with one line about it.
pub fn command(name: &'static str, about: &'static str) -> Command {
    Command::new(name).about(about)
}

/// Whether a switch is on.
#[must_use]
pub fn is_on(matches: &ArgMatches, name: &str) -> bool {
    matches.get_flag(name)
}

/// The value of a [`text`] option that is given and not empty: runc takes an empty value as none.
#[must_use]
pub fn given<'a>(matches: &'a ArgMatches, name: &str) -> Option<&'a str> {
    let value = matches.get_one::<String>(name).map(String::as_str);
    value.filter(|v| !v.is_empty())
}

/// The value of a [`path`] option that is given and not empty.
#[must_use]
pub fn given_path(matches: &ArgMatches, name: &str) -> Option<PathBuf> {
    let value = matches.get_one::<PathBuf>(name).cloned();
    value.filter(|v| !v.as_os_str().is_empty())
}

/// The values of a [`texts`] option.
pub fn all<'a>(matches: &'a ArgMatches, name: &str) -> impl Iterator<Item = &'a str> {
    let values = matches.get_many::<String>(name).unwrap_or_default();
    values.map(String::as_str)
}
