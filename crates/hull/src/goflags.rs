//! Flags as Go programs spell them: `-detach`, `-detach=true`, `--detach=false`.
//!
//! Callers of runc may write any option with one dash, and a switch with a value. Here such words
//! become what clap knows. Nothing else changes, and nothing behind the end of options does.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use clap::{Arg, Command};

/// Rewrites the words after the program's name.
pub fn normalize(root: &Command, words: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut out = Vec::new();
    let mut command = root;
    let mut words = words;
    while let Some(word) = words.next() {
        let Some((dashes, name, value)) = split(&word) else {
            match word.to_str().and_then(|w| command.find_subcommand(w)) {
                Some(sub) => command = sub,
                // The rest belongs to somebody else, as in `exec ID ls -l`.
                None if word == "--" || has_trailing(command) => {
                    if word != "--" {
                        out.push("--".into());
                    }
                    out.push(word);
                    out.extend(words);
                    return out;
                }
                None => {}
            }
            out.push(word);
            continue;
        };
        let Some(arg) = find(command, dashes, name) else {
            out.push(word);
            continue;
        };
        let takes_value = arg.get_action().takes_values();
        match (takes_value, value) {
            (true, _) => {
                let bare = value.is_none();
                out.push(if dashes == 1 && name.len() > 1 {
                    doubled(&word)
                } else {
                    word
                });
                if bare {
                    out.extend(words.next());
                }
            }
            (false, None) => out.push(if name.len() > 1 { long(name) } else { word }),
            (false, Some(value)) => match truth(value) {
                Some(true) => out.push(if name.len() > 1 {
                    long(name)
                } else {
                    short(name)
                }),
                Some(false) => {}
                None => out.push(word),
            },
        }
    }
    out
}

fn has_trailing(command: &Command) -> bool {
    command.get_arguments().any(Arg::is_trailing_var_arg_set)
}

/// Dashes, name and value of an option; `None` for other words.
fn split(word: &OsStr) -> Option<(usize, &str, Option<&[u8]>)> {
    let bytes = word.as_bytes();
    let dashes = bytes.iter().take(2).take_while(|&&b| b == b'-').count();
    let body = bytes
        .get(dashes..)
        .filter(|b| dashes > 0 && !b.is_empty())?;
    let (name, value) = match body.iter().position(|&b| b == b'=') {
        Some(at) => (body.get(..at)?, body.get(at + 1..)),
        None => (body, None),
    };
    Some((dashes, std::str::from_utf8(name).ok()?, value))
}

fn find<'a>(command: &'a Command, dashes: usize, name: &str) -> Option<&'a Arg> {
    let mut chars = name.chars();
    let single = chars
        .next()
        .filter(|_| chars.next().is_none() && dashes == 1);
    command.get_arguments().find(|arg| match single {
        Some(c) => arg.get_short() == Some(c),
        None => arg.get_long() == Some(name),
    })
}

fn doubled(word: &OsStr) -> OsString {
    let mut out = vec![b'-'];
    out.extend_from_slice(word.as_bytes());
    OsString::from_vec(out)
}

fn long(name: &str) -> OsString {
    format!("--{name}").into()
}

fn short(name: &str) -> OsString {
    format!("-{name}").into()
}

/// The words that Go's strconv.ParseBool takes.
fn truth(value: &[u8]) -> Option<bool> {
    match value {
        b"1" | b"t" | b"T" | b"TRUE" | b"true" | b"True" => Some(true),
        b"0" | b"f" | b"F" | b"FALSE" | b"false" | b"False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition() -> Command {
        use crate::options::{id, path, switch, text};
        let run = Command::new("run")
            .args([switch("detach", "").short('d'), switch("keep", ""), id()])
            .args([
                path("pid-file", "F", ""),
                path("bundle", "D", "").short('b'),
            ]);
        let words = Arg::new("words").num_args(0..).trailing_var_arg(true);
        let exec = Command::new("exec")
            .args([
                switch("tty", "").short('t'),
                text("env", "E", "").short('e'),
            ])
            .args([id(), words.allow_hyphen_values(true)]);
        Command::new("hull")
            .args([switch("debug", ""), switch("version", "").short('v')])
            .arg(path("root", "D", ""))
            .subcommands([run, exec])
    }

    fn rewritten(line: &str) -> String {
        let words = line.split_whitespace().map(OsString::from);
        let out = normalize(&definition(), words);
        let out: Vec<_> = out.iter().map(|w| w.to_str().unwrap()).collect();
        out.join(" ")
    }

    #[test]
    fn one_dash_becomes_two() {
        let table = [
            (
                "-root /r -debug run -detach -b /x id",
                "--root /r --debug run --detach -b /x id",
            ),
            (
                "--root=/r -root=/q run -d x",
                "--root=/r --root=/q run -d x",
            ),
            ("run -detach=false --keep=true -d=1 id", "run --keep -d id"),
            ("run -pid-file -detach id", "run --pid-file -detach id"),
            ("run --unknown -unknown id", "run --unknown -unknown id"),
            ("run -keep=maybe id 9", "run -keep=maybe id 9"),
            ("-v", "-v"),
            ("-version", "--version"),
        ];
        for (line, want) in table {
            assert_eq!(rewritten(line), want);
        }
    }

    #[test]
    fn words_of_the_users_program_stay() {
        let table = [
            (
                "exec -tty -e A=-x id ls -detach",
                "exec --tty -e A=-x -- id ls -detach",
            ),
            ("exec -- id -tty", "exec -- id -tty"),
            ("exec id -- ls", "exec -- id -- ls"),
            ("exec id -env", "exec -- id -env"),
        ];
        for (line, want) in table {
            assert_eq!(rewritten(line), want);
        }
    }
}
