//! The whole command line.

use std::ffi::OsString;

use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::options::{path, switch, text};
use crate::{commands, examples, goflags};

/// Version, the commit it was built from, and the newest specification that is read whole: lines
/// that callers of runc read.
pub const VERSION: &str = concat!(
    "version ",
    env!("CARGO_PKG_VERSION"),
    "\ncommit: ",
    env!("HULL_COMMIT"),
    "\nspec: 1.3.0"
);

/// The definition of everything: for help, man pages and completions.
#[must_use]
pub fn command() -> Command {
    let all = commands::ALL.iter().map(define);
    frame().subcommands(all)
}

/// Reads the words of a command line, the program's name first.
///
/// # Errors
/// clap's: a request for help, or words that are not understood.
pub fn parse(words: impl Iterator<Item = OsString>) -> Result<ArgMatches, clap::Error> {
    let mut words = words;
    let program = words.next().unwrap_or_else(|| "hull".into());
    let words: Vec<OsString> = words.collect();
    // Defining twenty commands takes longer than reading one: where a word names a command,
    // only that one is defined. Should the word be an option's value, it will not do for what
    // follows, and everything is defined after all.
    let named = words
        .iter()
        .find_map(|w| commands::ALL.iter().find(|entry| w == entry.name));
    if let Some(entry) = named {
        let matches = parse_with(frame().subcommand(define(entry)), &program, &words);
        if matches.is_ok() {
            return matches;
        }
    }
    parse_with(command(), &program, &words)
}

fn parse_with(
    command: Command,
    program: &OsString,
    words: &[OsString],
) -> Result<ArgMatches, clap::Error> {
    let words = goflags::normalize(&command, words.iter().cloned());
    command.try_get_matches_from(std::iter::once(program.clone()).chain(words))
}

/// What is wrong with a command line, without the paragraphs around it.
#[must_use]
pub fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let paragraph = text.split("\n\n").next().unwrap_or_default();
    let words: Vec<&str> = paragraph.split_whitespace().collect();
    let line = words.join(" ");
    line.strip_prefix("error: ").unwrap_or(&line).to_owned()
}

fn define(entry: &commands::Entry) -> Command {
    (entry.define)().after_help(examples::of(entry.name))
}

/// The program without its commands.
fn frame() -> Command {
    Command::new("hull")
        .about("OCI container runtime")
        .after_help(examples::of(""))
        .version(VERSION)
        .disable_version_flag(true)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .disable_help_subcommand(true)
        .arg(
            Arg::new("version")
                .short('v')
                .long("version")
                .action(ArgAction::Version)
                .help("Print the version"),
        )
        .arg(path(
            "root",
            "DIR",
            "Where the state of containers is kept [default: /run/hull, or $XDG_RUNTIME_DIR/hull]",
        ))
        .arg(path(
            "log",
            "FILE",
            "Append messages to this file instead of standard error",
        ))
        .arg(
            text("log-format", "FORMAT", "Shape of messages: text or json")
                .value_parser(["text", "json"]),
        )
        .arg(switch("debug", "Also log each step and how long it took"))
        .arg(switch(
            "systemd-cgroup",
            "Have systemd manage control groups: cgroupsPath is slice:prefix:name",
        ))
        .arg(
            text(
                "rootless",
                "WHEN",
                "Do without the rights of the machine's root: true, false or auto",
            )
            .value_parser(["true", "false", "auto"])
            .default_value("auto"),
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> impl Iterator<Item = OsString> + '_ {
        line.split(' ').map(OsString::from)
    }

    #[test]
    fn the_definitions_hold_together() {
        command().debug_assert();
    }

    #[test]
    fn a_value_may_be_named_like_a_command() {
        let matches = parse(words("hull --root state list -q")).unwrap();
        assert_eq!(matches.subcommand_name(), Some("list"));
    }

    #[test]
    fn an_error_is_one_line() {
        let line = |l| one_line(&parse(words(l)).unwrap_err());
        assert_eq!(
            line("hull list --format yaml"),
            "invalid value 'yaml' for '--format <FORMAT>' [possible values: table, json]"
        );
        assert_eq!(line("hull list --nix"), "unexpected argument '--nix' found");
        assert_eq!(
            line("hull state"),
            "the following required arguments were not provided: <CONTAINER-ID>"
        );
    }

    #[test]
    fn help_names_every_command() {
        let help = parse(words("hull --help")).unwrap_err().to_string();
        let shown = |entry: &&commands::Entry| !(entry.define)().is_hide_set();
        for entry in commands::ALL.iter().filter(shown) {
            assert!(help.contains(entry.name), "{} is missing", entry.name);
        }
    }

    #[test]
    fn the_version_is_in_lines_that_go_runc_reads() {
        let text = parse(words("hull -v")).unwrap_err().to_string();
        assert!(text.starts_with("hull version "));
        assert!(text.lines().any(|l| l.starts_with("spec: ")));
    }
}
