//! `hullctl selftest --escape`: known ways out of a container, tried on an OCI runtime.
//!
//! The attacker inside is this program itself ([`probe`]): it is static and needs no image. What
//! it finds is only reported; nothing of the machine is changed, also where an attack succeeds.

mod arena;
mod cases;
mod images;
mod inside;
pub mod probe;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use serde::Serialize;

use crate::table::Table;
use arena::Arena;

const EXAMPLES: &str = "\
Examples:
  hullctl selftest --escape
      hull, with a table of class, CVE, held or broken
  hullctl selftest --escape --runtime runc
      another runtime
  hullctl selftest --escape --only descriptors --format json
      one class of attacks, for scripts

The exit code is 0 if every attack was held, 1 if one was not, 2 if the runtime cannot run a
container at all.";

/// The definition.
pub fn command() -> Command {
    let option = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    Command::new("selftest")
        .about("Try known ways out of a container on an OCI runtime")
        .after_help(EXAMPLES)
        .arg(
            Arg::new("escape")
                .long("escape")
                .action(ArgAction::SetTrue)
                .required(true)
                .help("Try the escapes; said in words, because it takes root and some seconds"),
        )
        .arg(
            option(
                "runtime",
                "PATH",
                "The runtime program (default: hull beside this one, else in $PATH)",
            )
            .value_parser(value_parser!(PathBuf)),
        )
        .arg(option("only", "CLASS", "Only this class of attacks"))
        .arg(
            option("format", "FORMAT", "For people, or for programs")
                .value_parser(["text", "json"])
                .default_value("text"),
        )
}

/// How an attack went.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The runtime refused, or nothing came of it.
    Held,
    /// The attacker got what it wanted.
    Broken,
    /// The attack could not be tried.
    Skipped,
}

/// One attack's result.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    class: &'static str,
    cve: &'static str,
    attack: &'static str,
    outcome: Outcome,
    detail: String,
}

/// Tries them all.
pub fn run(m: &ArgMatches) -> Result<ExitCode> {
    if !rustix::process::geteuid().is_root() {
        bail!("selftest: only root can try what root's containers can do; run it as root");
    }
    let runtime = match m.get_one::<PathBuf>("runtime") {
        Some(path) => along_path(path),
        None => hull()?,
    };
    let arena = Arena::new(&runtime)?;
    if let Err(e) = arena.works() {
        eprintln!("hullctl: selftest: {}: {e:#}", runtime.display());
        return Ok(ExitCode::from(2));
    }
    let only = m.get_one::<String>("only");
    let mut findings = Vec::new();
    for case in cases::all() {
        if only.is_none_or(|class| class == case.class) {
            let (outcome, detail) = match (case.attack)(&arena) {
                Ok(result) => result,
                Err(e) => (Outcome::Skipped, format!("{e:#}")),
            };
            findings.push(Finding {
                class: case.class,
                cve: case.cve,
                attack: case.name,
                outcome,
                detail,
            });
        }
    }
    if findings.is_empty() {
        bail!("selftest: --only: no such class; without it the table shows all");
    }
    if m.get_one::<String>("format").is_some_and(|f| f == "json") {
        println!("{}", serde_json::to_string_pretty(&findings)?);
    } else {
        print!("{}", table(&findings));
    }
    let broken = findings.iter().any(|f| f.outcome == Outcome::Broken);
    Ok(ExitCode::from(u8::from(broken)))
}

fn table(findings: &[Finding]) -> String {
    let mut table = Table::new(["CLASS", "CVE", "ATTACK", "RESULT", "DETAIL"]);
    for f in findings {
        let outcome = match f.outcome {
            Outcome::Held => "held",
            Outcome::Broken => "BROKEN",
            Outcome::Skipped => "skipped",
        };
        table.row([f.class, f.cve, f.attack, outcome, &f.detail]);
    }
    let count = |o: Outcome| findings.iter().filter(|f| f.outcome == o).count();
    format!(
        "{}{} held, {} broken, {} skipped\n",
        table.columns(),
        count(Outcome::Held),
        count(Outcome::Broken),
        count(Outcome::Skipped)
    )
}

/// A bare name is looked for along $PATH, as a shell does it.
fn along_path(name: &Path) -> PathBuf {
    let is_bare = name.components().count() == 1 && !name.starts_with(".");
    let dirs = std::env::var_os("PATH")
        .filter(|_| is_bare)
        .unwrap_or_default();
    let mut candidates = std::env::split_paths(&dirs).map(|dir| dir.join(name));
    candidates
        .find(|path| path.is_file())
        .unwrap_or_else(|| name.to_owned())
}

/// `hull` beside this program, else along $PATH.
fn hull() -> Result<PathBuf> {
    let own = std::env::current_exe().context("readlink(/proc/self/exe)")?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let beside = own.parent().map(|dir| dir.join("hull"));
    let mut candidates = beside
        .into_iter()
        .chain(std::env::split_paths(&path).map(|dir| dir.join("hull")));
    candidates.find(|p| p.is_file()).context(
        "selftest: there is no hull beside this program or in $PATH; name a runtime with --runtime",
    )
}
