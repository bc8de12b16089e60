//! The definition of `hullctl run`.

use std::path::PathBuf;

use clap::{Arg, ArgAction, Command, value_parser};

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
  hullctl run host --network slirp4netns -- ip addr
      without root: root inside, you outside, with a network in user space
  hullctl run -it --rm debian bash
      a shell in an image, pulled if it is not here yet
  hullctl run -d --name web -p 8080:80 nginx
      in the background; then `hullctl container logs web`, `... stop web`, `... rm web`
  hullctl run ./bundle
      a bundle: a directory with config.json and a root file system";

/// The definition.
pub fn command() -> Command {
    Command::new("run")
        .about("Run a container without a daemon: an image, this machine's own root, a bundle")
        .after_help(EXAMPLES)
        // `-h` is the host name, as podman's users have it.
        .disable_help_flag(true)
        .arg(
            Arg::new("help")
                .long("help")
                .action(ArgAction::Help)
                .help("Print help"),
        )
        .arg(
            Arg::new("target")
                .required(true)
                .value_name("IMAGE|host|DIR")
                .help("An image; `host`: this machine's own root below a throw-away layer; or a bundle directory"),
        )
        .arg(
            Arg::new("command")
                .num_args(0..)
                .trailing_var_arg(true)
                .allow_hyphen_values(true)
                .value_name("CMD")
                .help("Program and arguments (host: default is your shell)"),
        )
        .args(life())
        .args(program())
        .args(isolation())
        .args(limits())
        .args(places())
}

/// How it lives.
fn life() -> [Arg; 8] {
    [
        flag(
            "explain",
            "Show what is isolated, and each step of the start with its time",
        ),
        flag("detach", "In the background: print the container's id").short('d'),
        flag("rm", "Remove the container when it has ended"),
        flag(
            "quiet",
            "Do not say what killed it, where something did (out of memory, a signal)",
        )
        .short('q'),
        flag("tty", "Give it a pseudo-terminal").short('t'),
        flag("interactive", "Keep standard input open").short('i'),
        flag(
            "init",
            "A small init as process 1, which reaps zombies and passes signals on",
        ),
        option("name", "ID", "Container id (default: made up)"),
    ]
}

/// What runs.
fn program() -> [Arg; 6] {
    [
        option("entrypoint", "CMD", "In place of the image's entrypoint"),
        option(
            "env",
            "NAME[=VALUE]",
            "Set in the environment; without a value: as it is here",
        )
        .short('e')
        .action(ArgAction::Append),
        option("env-file", "FILE", "A file of such lines").action(ArgAction::Append),
        option("workdir", "DIR", "Working directory").short('w'),
        option(
            "user",
            "USER[:GROUP]",
            "Names or numbers; names are the image's",
        )
        .short('u'),
        option("hostname", "NAME", "Host name inside").short('h'),
    ]
}

/// What keeps it apart.
fn isolation() -> [Arg; 10] {
    [
        Arg::new("userns")
            .long("userns")
            .value_name("MODE")
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("auto")
            .value_parser(["auto", "host"])
            .help("In a user namespace of its own: root inside, nobody outside"),
        option(
            "network",
            "MODE",
            "bridge, none, host; pasta or slirp4netns, for users without privileges too \
             (default: bridge for an image)",
        )
        .value_parser(["bridge", "none", "host", "pasta", "slirp4netns"]),
        option(
            "publish",
            "[IP:]PORT:PORT[/PROTO]",
            "A port of this machine that leads to it",
        )
        .short('p')
        .action(ArgAction::Append),
        option(
            "volume",
            "SOURCE:DIR[:OPTIONS]",
            "A directory of this machine (absolute), or a named volume",
        )
        .short('v')
        .action(ArgAction::Append),
        flag(
            "read-only",
            "It cannot write to its root; /run and /tmp stay writable",
        ),
        option("cap-add", "CAP", "One more capability, or ALL").action(ArgAction::Append),
        option("cap-drop", "CAP", "One capability less, or ALL").action(ArgAction::Append),
        option(
            "security-opt",
            "KEY=VALUE",
            "seccomp=unconfined|FILE, no-new-privileges, apparmor=PROFILE, label=disable",
        )
        .action(ArgAction::Append),
        flag("no-seccomp", "Without the system-call filter"),
        option("shm-size", "BYTES", "Size of /dev/shm (default 64m)"),
    ]
}

/// What it may use.
fn limits() -> [Arg; 4] {
    [
        option(
            "memory",
            "BYTES",
            "Limit of memory and swap; b, k, m, g suffixes",
        )
        .short('m'),
        option("cpus", "N", "Processors' worth of time, as 1.5"),
        option("pids-limit", "N", "Limit of tasks").value_parser(value_parser!(i64).range(1..)),
        option("pull", "WHEN", "Fetch the image: missing, always or never")
            .value_parser(["missing", "always", "never"])
            .default_value("missing"),
    ]
}

/// Where things are kept.
fn places() -> [Arg; 2] {
    let dir = |name, help| option(name, "DIR", help).value_parser(value_parser!(PathBuf));
    [
        dir("root", "Where the runtime keeps its state"),
        dir(
            "store",
            "Where images and containers are kept [default: $HULL_STORE, or /var/lib/hull]",
        ),
    ]
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
