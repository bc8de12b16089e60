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
