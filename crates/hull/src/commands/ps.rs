//! `hull ps`.

use std::process::Command as Program;

use clap::{Arg, ArgMatches, Command};
use runtime::{Error, Result};
use sys::Context as _;

use crate::Context;
use crate::context::print;
use crate::options::{all, command, given, id};

/// The definition.
#[must_use]
pub fn define() -> Command {
    command("ps", "List the processes of a container")
        .arg(super::format_option())
        .arg(id())
        .arg(
            Arg::new("options")
                .value_name("PS-OPTION")
                .num_args(0..)
                .trailing_var_arg(true)
                .allow_hyphen_values(true)
                .help("Options for ps(1) [default: -ef]"),
        )
}

/// Prints them.
///
/// # Errors
/// No such container, or ps(1) failed.
pub fn run(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let pids = runtime::processes::processes(&context.container(matches)?)?;
    if given(matches, "format") == Some("json") {
        print(&super::compact(&pids, "pids")?)?;
        return Ok(0);
    }
    let mut options: Vec<&str> = all(matches, "options").collect();
    if options.is_empty() {
        options.push("-ef");
    }
    let output = Program::new("ps").args(options).output();
    let output = output.context("execve", || "\"ps\", looked for in PATH")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let text = format!("ps: {}: {}", output.status, said.trim());
        return Err(Error::Invalid(text));
    }
    print(&filter(&String::from_utf8_lossy(&output.stdout), &pids)?)?;
    Ok(0)
}

/// The lines of a table of ps(1) whose PID is one of `pids`, and the heading.
fn filter(table: &str, pids: &[i32]) -> Result<String> {
    let mut lines = table.lines();
    let heading = lines.next().unwrap_or_default();
    let column = heading.split_whitespace().position(|word| word == "PID");
    let column =
        column.ok_or_else(|| Error::Invalid("couldn't find PID field in ps output".to_owned()))?;
    let mut text = format!("{heading}\n");
    for line in lines.filter(|line| !line.trim().is_empty()) {
        let word = line.split_whitespace().nth(column).unwrap_or_default();
        let pid: i32 = word
            .parse()
            .map_err(|_| Error::Invalid(format!("unable to parse pid: {word:?}")))?;
        if pids.contains(&pid) {
            text.push_str(line);
            text.push('\n');
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_containers_lines() {
        let table =
            "UID        PID  PPID CMD\nroot        12     1 sleep 1\nroot       112     1 a 12\n\n";
        let want = "UID        PID  PPID CMD\nroot        12     1 sleep 1\n";
        assert_eq!(filter(table, &[12, 99]).unwrap(), want);
        assert_eq!(
            filter("COMMAND\nx\n", &[1]).unwrap_err().to_string(),
            "couldn't find PID field in ps output"
        );
        assert!(filter("PID\nx\n", &[1]).is_err());
    }
}
