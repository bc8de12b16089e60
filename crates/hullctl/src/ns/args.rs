//! Pieces of command lines that several commands have.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
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
///
/// # Errors
/// The first of them is an option that there is not: only after `--` may a program begin so.
pub fn program_of(m: &ArgMatches) -> Result<Vec<OsString>> {
    let words = m.get_many::<OsString>("program").unwrap_or_default();
    let mut words: Vec<OsString> = words.cloned().collect();
    if words.first().is_some_and(|w| w == "--") {
        words.remove(0);
    } else if let Some(option) = words
        .first()
        .filter(|w| w.as_encoded_bytes().starts_with(b"-"))
    {
        bail!("ns: {}: no such option; see --help", option.display());
    }
    if words.is_empty() {
        words.push(std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into()));
    }
    Ok(words)
}

/// Writes out the options of nsenter(1) whose value may follow the letter (`-n/run/netns/x`), in
/// the words after `ns enter`: where a letter of these comes before the beginning of a path or of
/// a namespace's number.
pub fn attach(arguments: Vec<OsString>) -> Vec<OsString> {
    let is = |at: usize, word: &str| arguments.get(at).is_some_and(|a| a == word);
    if !is(1, "ns") || !is(2, "enter") {
        return arguments;
    }
    // What begins without a dash is the program, unless it is the value of one of these.
    const VALUED: [&str; 8] = [
        "-t",
        "--target",
        "-N",
        "--net-socket",
        "-S",
        "--setuid",
        "-G",
        "--setgid",
    ];
    let (mut all, mut is_value, mut is_program) = (Vec::new(), false, false);
    for (at, word) in arguments.into_iter().enumerate() {
        let is_option = word.as_encoded_bytes().starts_with(b"-") && word != "--";
        is_program |= at > 2 && !is_option && !is_value;
        let is_open = at > 2 && !is_program && !std::mem::take(&mut is_value);
        is_value = is_open && VALUED.iter().any(|v| word == **v);
        match word.to_str().filter(|_| is_open).and_then(written_out) {
            Some(words) => all.extend(words),
            None => all.push(word),
        }
    }
    all
}

/// `-um/a` as `-u --mount=/a`.
fn written_out(word: &str) -> Option<Vec<OsString>> {
    let letters = word
        .strip_prefix('-')
        .filter(|rest| !rest.starts_with('-'))?;
    let (before, value) = letters.split_at(letters.find(['/', '.', ':', '='])?);
    let (before, letter) = before.split_at(before.len().checked_sub(1)?);
    let long = match letter {
        "r" => "root",
        "w" => "wd",
        "W" => "wdns",
        _ => KINDS.iter().find(|k| letter.starts_with(k.short))?.long,
    };
    let value = value.strip_prefix('=').unwrap_or(value);
    let first = (!before.is_empty()).then(|| format!("-{before}").into());
    Some(
        first
            .into_iter()
            .chain([format!("--{long}={value}").into()])
            .collect(),
    )
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_follow_their_letter() {
        let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        for (given, want) in [
            ("-n/run/netns/x ip a", "--net=/run/netns/x ip a"),
            (
                "-t 5 -mun -r/ -w. pwd -n/x",
                "-t 5 -mun --root=/ --wd=. pwd -n/x",
            ),
            ("-um/a -N 3 -n:77 id", "-u --mount=/a -N 3 --net=:77 id"),
            ("-n=/a --net=/b -- -n/c", "--net=/a --net=/b -- -n/c"),
            ("-S a/b true", "-S a/b true"),
        ] {
            let line = |rest: &str| words(&format!("hullctl ns enter {rest}"));
            assert_eq!(attach(line(given)), line(want), "{given}");
        }
        let other = words("hullctl ns unshare -n/x");
        assert_eq!(attach(other.clone()), other);
    }
}
