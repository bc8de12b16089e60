//! The definition of `hullctl container`.

use std::path::PathBuf;

use clap::{Arg, ArgAction, Command, value_parser};

/// How long a program may take to end after it was asked to, seconds (podman's default).
const GRACE: &str = "10";

const EXAMPLES: &str = "\
Examples:
  hullctl run -d --name web -p 8080:80 nginx
  hullctl container ps
  hullctl container logs -f web
  hullctl container exec -it web sh
  hullctl container stop web && hullctl container rm web";

/// The definition.
pub fn command() -> Command {
    let store = Arg::new("store")
        .long("store")
        .global(true)
        .value_name("DIR")
        .value_parser(value_parser!(PathBuf))
        .help("Where they are kept [default: $HULL_STORE, or /var/lib/hull]");
    Command::new("container")
        .about("Containers that `hullctl run IMAGE` made, without a daemon")
        .after_help(EXAMPLES)
        .subcommand_required(true)
        .arg(store)
        .subcommands([ps(), inspect(), logs(), exec(), stop(), wait(), rm()])
}

fn ps() -> Command {
    Command::new("ps")
        .alias("ls")
        .about("List them")
        .arg(flag("all", "Those that have ended, too").short('a'))
        .arg(flag("quiet", "Ids only").short('q'))
        .arg(
            option("format", "FORMAT", "Shape of the list: table or json")
                .value_parser(["table", "json"])
                .default_value("table"),
        )
}

fn inspect() -> Command {
    Command::new("inspect")
        .about("Print what is kept of one, as JSON")
        .arg(id())
}

fn logs() -> Command {
    Command::new("logs")
        .about("Print what one in the background has written")
        .arg(flag("follow", "Go on until it ends").short('f'))
        .arg(flag("timestamps", "When each line was written").short('t'))
        .arg(option("tail", "N", "The last N lines only").value_parser(value_parser!(usize)))
        .arg(id())
}

fn exec() -> Command {
    Command::new("exec")
        .about("Run a command in one that runs")
        .arg(flag("tty", "Give it a pseudo-terminal").short('t'))
        .arg(flag("interactive", "Keep standard input open").short('i'))
        .arg(
            option("env", "NAME=VALUE", "Set in the environment")
                .short('e')
                .action(ArgAction::Append),
        )
        .arg(option("workdir", "DIR", "Working directory").short('w'))
        .arg(option("user", "UID[:GID]", "User and group").short('u'))
        .arg(id())
        .arg(
            Arg::new("command")
                .value_name("CMD")
                .num_args(1..)
                .required(true)
                .trailing_var_arg(true)
                .allow_hyphen_values(true)
                .help("The command"),
        )
}

fn stop() -> Command {
    Command::new("stop")
        .about("Ask one to end, and kill it if it does not")
        .arg(
            option("time", "SECONDS", "How long to wait before that")
                .short('t')
                .value_parser(value_parser!(u64))
                .default_value(GRACE),
        )
        .arg(id())
}

fn wait() -> Command {
    Command::new("wait")
        .about("Wait until one has ended, and print its exit code")
        .arg(flag("rm", "Then remove it"))
        .arg(id())
}

fn rm() -> Command {
    Command::new("rm")
        .about("Remove one that has ended")
        .arg(flag("force", "Kill it first").short('f'))
        .arg(id())
}

fn id() -> Arg {
    Arg::new("id")
        .value_name("ID")
        .required(true)
        .help("The container")
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
