//! `hullctl audit`: who asked hulld for what, from its audit log.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use serde_json::Value;

use crate::table::Table;

const FILE: &str = "/var/lib/hull/audit.log";

const EXAMPLES: &str = "\
Examples:
  hullctl audit
      the last 20 calls that changed something, and who made them
  hullctl audit --about web --last 100
      those about what has `web` in its name or id
  hullctl audit --call StopContainer --failed
      stops that failed, with the reason
  hullctl audit --last 0 --format json | jq 'select(.uid != 0)'
      all that is kept, for programs";

/// The definition.
pub fn command() -> Command {
    let option = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    Command::new("audit")
        .about("Show who asked hulld for what")
        .after_help(EXAMPLES)
        .arg(option(
            "about",
            "WORD",
            "Only what has it in its name or id, or begins so",
        ))
        .arg(option("call", "CALL", "Only this call of the CRI"))
        .arg(
            Arg::new("failed")
                .long("failed")
                .action(ArgAction::SetTrue)
                .help("Only what failed"),
        )
        .arg(
            option("last", "N", "The last N of these; 0: all that are kept")
                .value_parser(value_parser!(usize))
                .default_value("20"),
        )
        .arg(
            option("file", "FILE", "hulld's audit.file")
                .value_parser(value_parser!(PathBuf))
                .default_value(FILE),
        )
        .arg(
            option("format", "FORMAT", "For people, or a line of JSON for each")
                .value_parser(["text", "json"])
                .default_value("text"),
        )
}

/// Prints them.
pub fn run(m: &ArgMatches) -> Result<ExitCode> {
    let text = |name: &str| m.get_one::<String>(name).map(String::as_str);
    let file = m
        .get_one::<PathBuf>("file")
        .map_or_else(|| Path::new(FILE), PathBuf::as_path);
    let fits = |line: &Value| {
        let of = |name: &str| line[name].as_str().unwrap_or_default();
        text("call").is_none_or(|call| of("call").eq_ignore_ascii_case(call))
            && text("about").is_none_or(|w| of("name").contains(w) || of("id").contains(w))
            && (!m.get_flag("failed") || (of("code") != "Ok" && !of("code").is_empty()))
    };
    let mut lines = read(file)?;
    lines.retain(fits);
    let last = m.get_one::<usize>("last").copied().unwrap_or(0);
    if last > 0 {
        lines.drain(..lines.len().saturating_sub(last));
    }
    if text("format") == Some("json") {
        for line in &lines {
            println!("{line}");
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(["TIME", "WHO", "CALL", "ABOUT", "RESULT", "TOOK"]);
    for line in &lines {
        // Commands of others stand in it: nothing of them is to reach the terminal as such.
        table.row(row(line).map(|cell| cell.replace(char::is_control, " ")));
    }
    print!("{}", table.columns());
    Ok(ExitCode::SUCCESS)
}

/// All lines that are kept, the oldest first.
fn read(file: &Path) -> Result<Vec<Value>> {
    let numbered = |n: u32| {
        let mut name = file.as_os_str().to_owned();
        name.push(format!(".{n}"));
        PathBuf::from(name)
    };
    let old = (1..).map(numbered).take_while(|path| path.exists());
    let mut files: Vec<PathBuf> = old.collect();
    files.reverse();
    files.push(file.to_owned());
    if !file.exists() {
        bail!(
            "{}: no audit log there; hulld's audit.file says where it is",
            file.display()
        );
    }
    let mut lines = Vec::new();
    for path in files {
        let text =
            fs::read_to_string(&path).with_context(|| format!("read({})", path.display()))?;
        // A line that is being written is not there yet.
        lines.extend(
            text.lines()
                .filter_map(|l| serde_json::from_str::<Value>(l).ok()),
        );
    }
    Ok(lines)
}

fn row(line: &Value) -> [String; 6] {
    let of = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
    if let Some(lost) = line["lost"].as_u64() {
        let text = format!("{lost} calls could not be written");
        return [
            of("time"),
            text,
            String::new(),
            String::new(),
            String::new(),
            String::new(),
        ];
    }
    let program = of("program");
    let program = program.rsplit('/').next().unwrap_or_default();
    let who = format!("{program} (process {}, user {})", line["pid"], line["uid"]);
    let id: String = of("id").chars().take(19).collect();
    let about = match of("name") {
        name if name.is_empty() => format!("{} {id}", of("object")),
        name => format!("{} {name}", of("object")),
    };
    let about = match of("detail") {
        detail if detail.is_empty() => about,
        detail => format!("{about}: {detail}"),
    };
    let result = match of("reason") {
        reason if reason.is_empty() => of("code"),
        reason => format!("{}: {reason}", of("code")),
    };
    let took = format!("{} ms", line["ms"]);
    [
        of("time"),
        who,
        of("call"),
        about.trim().to_owned(),
        result,
        took,
    ]
}
