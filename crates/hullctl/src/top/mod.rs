//! `hullctl top`: what containers use, what they wait for, and who makes them wait.

mod files;
mod io;
mod live;
mod row;
mod sample;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use serde::Serialize;

use crate::proc::containers;
use crate::table::{Table, terminal_width};
use row::{Row, Sort};
use sample::{Machine, Sample};

const EXAMPLES: &str = "\
Examples:
  hullctl top
      a live table; keys: c m t i p d n sort, v changes the view, q ends it
  hullctl top --io
      the view for a slow disk: who waits, who writes, to which device, and what to do
  hullctl top --once --format json | jq '.containers[] | {name, cpu_percent}'
      one measurement over a second, for scripts";

/// The definition.
pub fn command() -> Command {
    let option = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    let flag = |name: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .action(ArgAction::SetTrue)
            .help(help)
    };
    Command::new("top")
        .about("Show what containers use and what they wait for, live")
        .after_help(EXAMPLES)
        .arg(flag("io", "The view for a slow disk"))
        .arg(flag("once", "Measure once and end"))
        .arg(
            option(
                "format",
                "FORMAT",
                "For people, or for programs (implies --once)",
            )
            .value_parser(["text", "json"])
            .default_value("text"),
        )
        .arg(
            option("sort", "BY", "Sort by this")
                .value_parser([
                    "cpu", "memory", "network", "io", "pressure", "stuck", "name",
                ])
                .default_value("cpu"),
        )
        .arg(
            option("interval", "SECONDS", "Measure over this time")
                .value_parser(value_parser!(u64).range(1..=3600))
                .default_value("1"),
        )
        .arg(
            option("root", "DIR", "Where the runtime keeps its state")
                .value_parser(value_parser!(PathBuf)),
        )
}

/// What is shown, and how.
#[derive(Clone, Debug)]
pub struct View {
    /// The state root.
    pub root: PathBuf,
    /// The view for a slow disk.
    pub io: bool,
    /// The order.
    pub sort: Sort,
    /// Between two measurements.
    pub interval: Duration,
}

/// One measurement.
#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    containers: Vec<Row>,
    #[serde(skip_serializing_if = "Option::is_none")]
    io: Option<io::Io>,
}

/// Shows it.
pub fn run(m: &ArgMatches) -> Result<ExitCode> {
    let word = |name: &str| m.get_one::<String>(name).map_or("", String::as_str);
    let view = View {
        root: containers::state_root(m.get_one::<PathBuf>("root").map(PathBuf::as_path)),
        io: m.get_flag("io"),
        sort: Sort::of(word("sort")),
        interval: Duration::from_secs(m.get_one::<u64>("interval").copied().unwrap_or(1)),
    };
    let json = word("format") == "json";
    if json || m.get_flag("once") {
        let before = Sample::take(&view.root)?;
        std::thread::sleep(view.interval);
        let report = report(&view, &before, &Sample::take(&view.root)?);
        if json {
            println!("{}", serde_json::to_string_pretty(&report)?);
        } else {
            print!("{}", text(&view, &report, terminal_width()));
        }
        return Ok(ExitCode::SUCCESS);
    }
    if !rustix::termios::isatty(rustix::stdio::stdout()) {
        bail!("top: standard output is no terminal; use --once");
    }
    live::run(view)
}

fn report(view: &View, before: &Sample, now: &Sample) -> Report {
    let mut rows = row::rows(before, now);
    view.sort.apply(&mut rows);
    Report {
        io: view.io.then(|| io::look(&rows, before, now)),
        machine: now.machine.clone(),
        containers: rows,
    }
}

fn text(view: &View, report: &Report, width: Option<usize>) -> String {
    let mut text = report.machine.line();
    match &report.io {
        Some(io) => text.push_str(&io.text(&report.containers, width)),
        None => {
            let mut table = Table::new(row::HEADER);
            table.rows = report.containers.iter().map(Row::cells).collect();
            table.right = (1..row::HEADER.len() - 1).collect();
            table.width = width;
            text.push_str(&table.columns());
            text.push_str(&stuck(&report.containers));
        }
    }
    if report.containers.is_empty() {
        text.push_str(&format!("no container runs in {}\n", view.root.display()));
    }
    text
}

/// A line for each task that is stuck in the kernel.
fn stuck(rows: &[Row]) -> String {
    let line =
        |r: &Row, s: &row::Stuck| format!("{}: stuck {}: {}\n", r.name, s.since(), s.sentence);
    let lines = rows
        .iter()
        .flat_map(|r| r.stuck.iter().map(move |s| line(r, s)));
    lines.collect()
}
