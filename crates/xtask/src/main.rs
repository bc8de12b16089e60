//! Tasks of the build that the shipped programs should not carry.
//!
//! `xtask docs DIR` writes a man page for every command and completions for bash, zsh and fish,
//! all from the same definitions that parse the command lines. `xtask cri` writes the generated
//! half of `cri-api` from its .proto.

mod cri;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::Command;
use clap_complete::Shell;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["docs", dir] => docs(Path::new(dir)),
        ["cri"] => cri::generate(),
        _ => bail!("usage: xtask docs DIR | cri"),
    }
}

fn docs(dir: &Path) -> Result<()> {
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let out = dir.join(shell.to_string());
        fs::create_dir_all(&out).with_context(|| format!("mkdir({})", out.display()))?;
        for mut program in programs() {
            let name = program.get_name().to_owned();
            clap_complete::generate_to(shell, &mut program, name, &out)
                .with_context(|| format!("completions below {}", out.display()))?;
        }
    }
    for program in programs() {
        man_pages(program, dir)?;
    }
    Ok(())
}

fn programs() -> [Command; 3] {
    [
        hull::cli::command(),
        hulld::cli::command(),
        hullctl::command(),
    ]
}

fn man_pages(program: Command, dir: &Path) -> Result<()> {
    clap_mangen::generate_to(program.disable_help_subcommand(true), dir)
        .with_context(|| format!("man pages below {}", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls `f` with each command that a person sees: its path, and what its help ends with.
    fn each(command: &Command, path: &str, f: &mut impl FnMut(&str, &str)) {
        if command.is_hide_set() {
            return;
        }
        let help = command.get_after_long_help();
        let help = help.or_else(|| command.get_after_help());
        f(path, &help.map(ToString::to_string).unwrap_or_default());
        for inner in command.get_subcommands() {
            each(inner, &format!("{path} {}", inner.get_name()), f);
        }
    }

    /// As a shell splits it; none where it would do more than that.
    fn split(line: &str) -> Option<Vec<String>> {
        let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
        for c in line.chars() {
            match (c, quote) {
                (c, Some(q)) if c == q => quote = None,
                (c, Some(_)) => word.push(c),
                ('\'' | '"', None) => quote = Some(c),
                ('|' | '>' | '<' | '&' | ';' | '#' | '\\', None) => break,
                ('$' | '(' | '`', None) => return None,
                (' ', None) if word.is_empty() => {}
                (' ', None) => words.push(std::mem::take(&mut word)),
                (c, None) => word.push(c),
            }
        }
        words.extend((!word.is_empty()).then_some(word));
        Some(words)
    }

    #[test]
    fn every_help_has_an_example() {
        let mut found = Vec::new();
        for program in programs() {
            each(&program, program.get_name(), &mut |path, help| {
                if !["Example:\n  ", "Examples:\n  "]
                    .iter()
                    .any(|e| help.contains(e))
                {
                    found.push(path.to_owned());
                }
            });
        }
        assert!(found.is_empty(), "{found:#?}");
    }

    #[test]
    fn man_pages_and_completions() {
        let dir = std::env::temp_dir().join(format!("hull-docs.{}", std::process::id()));
        docs(&dir).unwrap();
        let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap_or_default();
        let pages = [
            ("hull-run.1", "hull run web"),
            ("hullctl-why.1", "hullctl why web"),
            ("hulld.1", "hulld config"),
        ];
        let missing: Vec<_> = pages
            .iter()
            .filter(|(page, example)| !read(page).replace("\\-", "-").contains(example))
            .collect();
        let known = ["bash/hullctl.bash", "zsh/_hullctl", "fish/hullctl.fish"];
        let silent: Vec<_> = known
            .iter()
            .filter(|f| !read(f).contains("doctor"))
            .collect();
        fs::remove_dir_all(&dir).unwrap();
        assert!(
            missing.is_empty() && silent.is_empty(),
            "{missing:?} {silent:?}"
        );
    }

    #[test]
    fn every_example_is_understood() {
        let (mut wrong, mut count) = (Vec::new(), 0);
        for program in programs() {
            let name = program.get_name().to_owned();
            each(&program, &name, &mut |path, help| {
                let lines = help.lines().map(str::trim_start);
                for line in lines.filter(|l| l.starts_with(&format!("{name} "))) {
                    let Some(words) = split(line) else { continue };
                    count += 1;
                    let mut program = program.clone();
                    if let Err(e) = program.try_get_matches_from_mut(words) {
                        wrong.push(format!("{path}: {line}: {e}"));
                    }
                }
            });
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert!(count > 150, "{count}");
    }
}
