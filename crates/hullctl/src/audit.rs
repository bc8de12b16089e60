//! `hullctl audit`: who asked for what, from the audit logs of hulld, hull and hullctl.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use runtime::audit as log;
use serde_json::Value;

use crate::table::Table;

/// hulld's, in the directory of the others.
const DAEMONS: &str = "audit.log";

const EXAMPLES: &str = "\
Examples:
  hullctl audit
      the last 20 calls that changed something, and who made them
  hullctl audit --about web --last 100
      those about what has `web` in its name or id
  hullctl audit --call StopContainer --failed
      stops that failed, with the reason
  hullctl audit --last 0 --format json | jq 'select(.uid != 0)'
      all that is kept, for programs
  hullctl audit --hull on
      has `hull` itself write a line for each call too, whoever starts it (podman, containerd, a
      person); off unless asked for, because it costs some 50 µs a call

Logs, of root: /var/lib/hull/audit.log (hulld), audit-hullctl.log and audit-hull.log beside it; of a
user: audit-hullctl.log and audit-hull.log in ~/.local/state/hull ($XDG_STATE_HOME). HULL_AUDIT in the
environment of hull and hullctl names another file, or switches theirs off if it is empty.";

/// The definition.
pub fn command() -> Command {
    let option = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    Command::new("audit")
        .about("Show who asked hulld, hull and hullctl for what")
        .after_help(EXAMPLES)
        .arg(option(
            "about",
            "WORD",
            "Only what has it in its name or id, or begins so",
        ))
        .arg(option(
            "call",
            "CALL",
            "Only this call: the CRI's, or `hull kill`",
        ))
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
            option(
                "file",
                "FILE",
                "This log in place of the usual ones; may be repeated",
            )
            .value_parser(value_parser!(PathBuf))
            .action(ArgAction::Append),
        )
        .arg(
            option(
                "hull",
                "SWITCH",
                "Have `hull` write lines from now on, or no more",
            )
            .value_parser(["on", "off"])
            .exclusive(true),
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
    if let Some(switch) = text("hull") {
        return switch_hull(switch == "on");
    }
    let fits = |line: &Value| {
        let of = |name: &str| line[name].as_str().unwrap_or_default();
        text("call").is_none_or(|call| of("call").eq_ignore_ascii_case(call))
            && text("about").is_none_or(|w| of("name").contains(w) || of("id").contains(w))
            && (!m.get_flag("failed") || (of("code") != "Ok" && !of("code").is_empty()))
    };
    let mut lines = read_all(m)?;
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
    let mut table = Table::new(["TIME", "WHO", "CALL", "RESULT", "TOOK", "ABOUT"]);
    for line in &lines {
        // Commands of others stand in it: nothing of them is to reach the terminal as such.
        table.row(row(line).map(|cell| cell.replace(char::is_control, " ")));
    }
    print!("{}", table.columns());
    Ok(ExitCode::SUCCESS)
}

/// `hull` writes where its log is.
fn switch_hull(on: bool) -> Result<ExitCode> {
    let path = log::usual_file("hull", runtime::is_rootless()).context("audit: HOME is not set")?;
    let file = log::file_at(path.clone());
    if on {
        let made = file.make();
        made.with_context(|| format!("open({})", path.display()))?;
        println!("hull writes to {}", path.display());
    } else if path.exists() {
        let retired = file.retire();
        retired.with_context(|| format!("rename({})", path.display()))?;
        println!(
            "hull writes no more; what was written is {}.1",
            path.display()
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// The lines of all logs in the order of time.
fn read_all(m: &ArgMatches) -> Result<Vec<Value>> {
    let given: Vec<&PathBuf> = m.get_many("file").into_iter().flatten().collect();
    let mut lines = Vec::new();
    if given.is_empty() {
        let files = usual();
        let Some(first) = files.first() else {
            bail!("audit: HOME is not set; name the log with --file");
        };
        let kept: Vec<&PathBuf> = files
            .iter()
            .filter(|f| f.exists() || numbered(f, 1).exists())
            .collect();
        if kept.is_empty() {
            bail!(
                "{}: no audit log there, nor one of hull or hullctl; hulld's audit.file says where it is",
                first.display()
            );
        }
        for file in kept {
            lines.extend(read(file)?);
        }
    }
    for file in given {
        lines.extend(read(file)?);
    }
    // All are in UTC, with digits of equal number; those of one log are in order already.
    lines.sort_by_cached_key(|line| line["time"].as_str().unwrap_or_default().to_owned());
    Ok(lines)
}

/// Where logs usually are.
fn usual() -> Vec<PathBuf> {
    let rootless = runtime::is_rootless();
    let programs = ["hull", "hullctl"].map(|name| log::usual_file(name, rootless));
    let daemons = (!rootless).then(|| Path::new(log::DIRECTORY).join(DAEMONS));
    let named = std::env::var_os(log::VARIABLE).filter(|n| !n.is_empty());
    let all = daemons.into_iter().chain(programs.into_iter().flatten());
    all.chain(named.map(PathBuf::from)).collect()
}

fn numbered(file: &Path, n: u32) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".{n}"));
    name.into()
}

/// All lines of a log that are kept, the oldest first.
fn read(file: &Path) -> Result<Vec<Value>> {
    let old = (1..).map(|n| numbered(file, n));
    let mut files: Vec<PathBuf> = old.take_while(|path| path.exists()).collect();
    files.reverse();
    files.extend(file.exists().then(|| file.to_owned()));
    if files.is_empty() {
        bail!(
            "{}: no audit log there; hulld's audit.file says where it is",
            file.display()
        );
    }
    let mut lines = Vec::new();
    for path in files {
        let text =
            fs::read_to_string(&path).with_context(|| format!("read({})", path.display()))?;
        lines.extend(text.lines().filter_map(parsed));
    }
    Ok(lines)
}

/// A line; where a full disk cut one off, what follows it.
fn parsed(line: &str) -> Option<Value> {
    let whole = || line.get(line.rfind("{\"time\":")?..);
    let value = serde_json::from_str(line);
    value
        .or_else(|_| serde_json::from_str(whole().unwrap_or_default()))
        .ok()
}

fn row(line: &Value) -> [String; 6] {
    let of = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
    // `11-25 21:03:11`: in UTC, as all of it.
    let time: String = of("time").chars().skip(5).take(14).collect();
    let time = time.replace('T', " ");
    if let Some(lost) = line["lost"].as_u64() {
        let text = format!("{lost} calls could not be written");
        let empty = String::new;
        return [time, text, empty(), empty(), empty(), empty()];
    }
    let program = of("program");
    let program = program.rsplit('/').next().unwrap_or_default();
    let who = format!("{program}/{} user {}", line["pid"], line["uid"]);
    let id: String = of("id").chars().take(19).collect();
    let mut about = match of("name") {
        name if name.is_empty() => format!("{} {id}", of("object")),
        name => format!("{} {name}", of("object")),
    };
    for more in [of("detail"), of("reason")] {
        if !more.is_empty() {
            about.push_str(": ");
            about.push_str(&more);
        }
    }
    let result = match line["exit"].as_u64() {
        Some(code) => format!("exit code {code}"),
        None => of("code"),
    };
    let took = format!("{:.1} ms", line["ms"].as_f64().unwrap_or(0.0));
    [time, who, of("call"), result, took, about.trim().to_owned()]
}

#[cfg(test)]
mod tests {
    use super::parsed;

    #[test]
    fn a_line_after_half_a_line() {
        let whole = r#"{"time":"1","call":"hull run"}"#;
        let torn = format!(r#"{{"time":"0","call":"hu{whole}"#);
        for line in [whole, &torn] {
            assert_eq!(parsed(line).unwrap()["time"], "1");
        }
        assert!(parsed(r#"{"time":"0","#).is_none());
    }
}
