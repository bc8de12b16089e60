//! The command line of `hullctl run`, checked.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

/// What to run.
#[derive(Debug)]
pub enum Target {
    /// This machine's own root file system.
    Host,
    /// A bundle: a directory with a `config.json`.
    Bundle(PathBuf),
}

/// A checked command line.
#[derive(Debug)]
pub struct RunArgs {
    /// What to run.
    pub target: Target,
    /// Container id.
    pub id: String,
    /// Where the runtime keeps its state.
    pub root: Option<PathBuf>,
    /// Show what is isolated and how.
    pub explain: bool,
    /// Settings for [`Target::Host`].
    pub host: HostArgs,
}

/// Settings of the embedded bundle.
#[derive(Clone, Debug)]
pub struct HostArgs {
    /// argv of the program.
    pub command: Vec<String>,
    /// Give it a pseudo-terminal.
    pub terminal: bool,
    /// In a user namespace of its own.
    pub userns: bool,
    /// Host name inside.
    pub hostname: String,
    /// Additional environment.
    pub env: Vec<String>,
    /// Working directory.
    pub workdir: String,
    /// Bytes.
    pub memory: Option<i64>,
    /// Tasks.
    pub pids_limit: Option<i64>,
    /// Without a system-call filter.
    pub no_seccomp: bool,
}

const EXAMPLES: &str = "\
Examples:
  hullctl run host -- ps ax
      a process list from inside: only its own processes
  hullctl run host -t -- bash
      a shell; whatever it writes is gone when it ends
  hullctl run --explain host -- true
      each step of the start with its kernel call and its microseconds
  hullctl run host --memory 100m -- tail /dev/zero
      a memory hog that kills itself and nothing else
  hullctl run ./bundle
      a bundle: a directory with config.json and a root file system";

/// The definition.
pub fn command() -> Command {
    Command::new("run")
        .about("Run a container in the foreground, without a daemon")
        .after_help(EXAMPLES)
        .arg(
            Arg::new("target").required(true).value_name("host|DIR").help(
                "`host`: this machine's own root below a throw-away layer; else a bundle directory",
            ),
        )
        .arg(
            Arg::new("command")
                .num_args(0..)
                .trailing_var_arg(true)
                .allow_hyphen_values(true)
                .value_name("CMD")
                .help("Program and arguments (host: default is your shell)"),
        )
        .arg(flag("explain", "Show what is isolated, and each step of the start with its time"))
        .arg(flag("tty", "Give it a pseudo-terminal").short('t'))
        .arg(flag("userns", "In a user namespace of its own: root inside, nobody outside"))
        .arg(flag("no-seccomp", "Without the system-call filter"))
        .arg(option("name", "ID", "Container id (default: made up)"))
        .arg(option("hostname", "NAME", "Host name inside").default_value("hull"))
        .arg(option("env", "NAME=VALUE", "Set in the environment").short('e').action(ArgAction::Append))
        .arg(option("workdir", "DIR", "Working directory").short('w').default_value("/"))
        .arg(option("memory", "BYTES", "Limit of memory and swap; b, k, m, g suffixes").short('m'))
        .arg(
            option("pids-limit", "N", "Limit of tasks")
                .value_parser(value_parser!(i64).range(1..)),
        )
        .arg(
            option("root", "DIR", "Where the runtime keeps its state")
                .value_parser(value_parser!(PathBuf)),
        )
}

fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .action(ArgAction::SetTrue)
        .help(help)
}

fn option(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).help(help)
}

/// Checks what clap has parsed.
pub fn parse(m: &ArgMatches) -> Result<RunArgs> {
    let text = |name: &str| m.get_one::<String>(name).cloned();
    let words = |name: &str| -> Vec<String> {
        m.get_many::<String>(name)
            .unwrap_or_default()
            .cloned()
            .collect()
    };
    let target = match text("target").unwrap_or_default().as_str() {
        "host" => Target::Host,
        dir => Target::Bundle(PathBuf::from(dir)),
    };
    let mut command = words("command");
    if command.first().is_some_and(|w| w == "--") {
        command.remove(0);
    }
    if command.is_empty() && matches!(target, Target::Host) {
        command.push(std::env::var("SHELL").unwrap_or_else(|_| "/bin/sh".to_owned()));
    }
    for pair in words("env") {
        if !pair.contains('=') {
            bail!("run: --env {pair}: no value; write NAME=VALUE");
        }
    }
    let memory = text("memory").map(|s| parse_bytes(&s)).transpose()?;
    Ok(RunArgs {
        id: text("name").unwrap_or_else(|| made_up_id(&target)),
        root: m.get_one::<PathBuf>("root").cloned(),
        explain: m.get_flag("explain"),
        host: HostArgs {
            command,
            terminal: m.get_flag("tty"),
            userns: m.get_flag("userns"),
            hostname: text("hostname").unwrap_or_default(),
            env: words("env"),
            workdir: text("workdir").unwrap_or_default(),
            memory,
            pids_limit: m.get_one::<i64>("pids-limit").copied(),
            no_seccomp: m.get_flag("no-seccomp"),
        },
        target,
    })
}

/// An id nobody else has: two containers of one process do not exist, and pids are unique.
fn made_up_id(target: &Target) -> String {
    let what = match target {
        Target::Host => "host".to_owned(),
        Target::Bundle(dir) => dir
            .canonicalize()
            .ok()
            .and_then(|d| d.file_name().map(|n| n.to_string_lossy().into_owned()))
            .unwrap_or_else(|| "bundle".to_owned()),
    };
    let clean: String = what
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || "_-.".contains(*c))
        .collect();
    format!("{clean}-{}", std::process::id())
}

/// `100m` → bytes, with the binary suffixes of podman.
fn parse_bytes(text: &str) -> Result<i64> {
    let lower = text.to_ascii_lowercase();
    let lower = lower
        .strip_suffix("ib")
        .or_else(|| lower.strip_suffix('b'))
        .unwrap_or(&lower);
    let (digits, shift) = match lower.as_bytes().last() {
        Some(b'k') => (&lower[..lower.len() - 1], 10),
        Some(b'm') => (&lower[..lower.len() - 1], 20),
        Some(b'g') => (&lower[..lower.len() - 1], 30),
        _ => (lower, 0),
    };
    let bytes = digits
        .parse::<i64>()
        .ok()
        .and_then(|n| n.checked_mul(1 << shift));
    match bytes {
        Some(n) if n > 0 => Ok(n),
        _ => bail!("run: --memory {text}: not a size; write bytes, or a number with k, m or g"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("1", 1),
            ("100m", 100 << 20),
            ("2G", 2 << 30),
            ("64MiB", 64 << 20),
        ] {
            assert_eq!(parse_bytes(text).unwrap(), bytes, "{text}");
        }
        for text in ["", "m", "-1", "0", "9999999999g", "1x"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn words_after_the_target_are_the_command() {
        let m = command().try_get_matches_from(["run", "--explain", "host", "--", "ls", "-l"]);
        let args = parse(&m.unwrap()).unwrap();
        assert!(args.explain);
        assert_eq!(args.host.command, ["ls", "-l"]);
        let m = command().try_get_matches_from(["run", "host", "-m", "1k", "sh", "-c", "true"]);
        let args = parse(&m.unwrap()).unwrap();
        assert_eq!(args.host.memory, Some(1024));
        assert_eq!(args.host.command, ["sh", "-c", "true"]);
    }
}
