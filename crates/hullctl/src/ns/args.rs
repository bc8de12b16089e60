//! Pieces of command lines that several commands have.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Arg, ArgAction, ArgMatches, value_parser};

use super::kinds::KINDS;

/// One option a kind, each with an optional value after `=`.
pub fn kind_options(value: &'static str, verb: &str) -> Vec<Arg> {
    KINDS
        .iter()
        .map(|k| {
            optional(
                k.long,
                value,
                format!("{verb} {} namespace: {}", k.long, k.keeps),
            )
            .short(k.short)
        })
        .collect()
}

/// An option whose value may be left out and else follows a `=`.
pub fn optional(name: &'static str, value: &'static str, help: impl Into<String>) -> Arg {
    Arg::new(name)
        .long(name)
        .value_name(value)
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("")
        .help(help.into())
}

/// An option without a value.
pub fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .action(ArgAction::SetTrue)
        .help(help)
}

/// An option with a value.
pub fn option(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .value_name(value)
        .help(help)
        .allow_hyphen_values(true)
}

/// The program and its arguments.
pub fn program() -> Arg {
    Arg::new("program")
        .num_args(0..)
        .trailing_var_arg(true)
        .allow_hyphen_values(true)
        .value_name("PROGRAM")
        .value_parser(value_parser!(OsString))
        .help("Program and arguments (default: your shell)")
}

/// The words of [`program`].
pub fn program_of(m: &ArgMatches) -> Vec<OsString> {
    let words = m.get_many::<OsString>("program").unwrap_or_default();
    let mut words: Vec<OsString> = words.cloned().collect();
    if words.first().is_some_and(|w| w == "--") {
        words.remove(0);
    }
    if words.is_empty() {
        words.push(std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into()));
    }
    words
}

/// The text of an option.
pub fn text(m: &ArgMatches, name: &str) -> Option<String> {
    m.get_one::<String>(name).cloned()
}

/// The path of an option with an optional value: `Some(None)` where it has none.
pub fn optional_path(m: &ArgMatches, name: &str) -> Option<Option<PathBuf>> {
    let given = m.get_one::<String>(name)?;
    Some((!given.is_empty()).then(|| PathBuf::from(given)))
}

/// A user by number or name.
pub fn user(text: &str) -> Result<u32> {
    by_number_or_name(text, "/etc/passwd", "user")
}

/// A group by number or name.
pub fn group(text: &str) -> Result<u32> {
    by_number_or_name(text, "/etc/group", "group")
}

fn by_number_or_name(text: &str, file: &str, what: &str) -> Result<u32> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    let accounts = std::fs::read_to_string(file).with_context(|| format!("read({file})"))?;
    let found = accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(text)).then(|| fields.nth(1)?.parse().ok())?
    });
    found.with_context(|| format!("{text}: no such {what} in {file}; give a number or a name"))
}

/// The name of a user, if it has one.
pub fn user_name(uid: u32) -> Option<String> {
    let accounts = std::fs::read_to_string("/etc/passwd").ok()?;
    accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}
