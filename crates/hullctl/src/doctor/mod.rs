//! `hullctl doctor`: what this machine offers, what hull does without it, and what dead
//! containers have left.

mod images;
mod leaks;
mod machine;
mod network;
mod places;
mod supervisors;
mod users;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Arg, ArgAction, ArgMatches, Command};
use serde::Serialize;

use crate::table::Table;
use leaks::Leak;
use machine::Probe;
use places::Places;

const EXAMPLES: &str = "\
Examples:
  hullctl doctor
      a table of what the machine offers, and what is left of dead containers
  hullctl doctor --fix
      removes what is left, ends supervisors without a container or a pod, containers whose
      supervisor has died and sandboxes without a record, and says of each what was done; only
      hull's own things
  hullctl doctor --root /run/user/1000/hull --store ~/.local/share/hull
      a user's; what is not named of --root, --store, --run and --network is then not looked at
  hullctl doctor --format json | jq '.machine[] | select(.works | not)'
      what is missing

The exit code is 0 if nothing is left of dead containers, 1 if something is.";

/// The definition.
pub fn command() -> Command {
    Command::new("doctor")
        .about("Say what this machine offers, and find what dead containers left")
        .after_help(EXAMPLES)
        .arg(
            Arg::new("fix")
                .long("fix")
                .action(ArgAction::SetTrue)
                .help("Remove what dead containers left, end what nobody looks after"),
        )
        .arg(
            Arg::new("format")
                .long("format")
                .value_name("FORMAT")
                .value_parser(["text", "json"])
                .default_value("text")
                .help("For people, or for programs"),
        )
        .args(places::arguments())
}

#[derive(Debug, Serialize)]
struct Findings<'a> {
    machine: &'a [Probe],
    leaks: &'a [Leak],
}

/// Looks, and with `--fix` removes.
pub fn run(m: &ArgMatches) -> Result<ExitCode> {
    let places = Places::new(m);
    let machine = machine::probes();
    let mut leaks = leaks::find(&places)?;
    if m.get_flag("fix") {
        leaks.iter_mut().for_each(|leak| leak.fix(&places.root));
    }
    let left = leaks.iter().any(|l| !l.is_fixed());
    if m.get_one::<String>("format").is_some_and(|f| f == "json") {
        let findings = Findings {
            machine: &machine,
            leaks: &leaks,
        };
        println!("{}", serde_json::to_string_pretty(&findings)?);
        return Ok(ExitCode::from(u8::from(left)));
    }
    let mut table = Table::new(["WHAT", "HERE", "WHAT HULL DOES"]);
    for p in &machine {
        let here = if p.works { "yes" } else { "no" };
        table.row([p.what.as_str(), here, p.consequence.as_str()]);
    }
    print!("{}", table.columns());
    if leaks.is_empty() {
        println!(
            "nothing is left of dead containers in {}",
            places.root.display()
        );
    }
    for leak in &leaks {
        println!("{}", leak.line());
    }
    if left && !m.get_flag("fix") {
        println!("`hullctl doctor --fix` removes them");
    }
    Ok(ExitCode::from(u8::from(left)))
}
