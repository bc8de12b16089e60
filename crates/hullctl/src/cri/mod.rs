//! Commands that speak CRI to any runtime's socket: crictl's, and what it lacks.
//!
//! They are reached in three ways: `hullctl COMMAND`, `hullctl cri COMMAND`, and as `crictl` when
//! the program is called by that name. `hullctl run` is the runner without a daemon, except when
//! its only arguments are two configuration files: then it is crictl's.

/// Makes a call that only looks, again if nobody answered.
macro_rules! look {
    ($cri:expr, $what:expr, $client:ident.$method:ident($request:expr)) => {
        $cri.look($what, || {
            let mut client = $cri.$client();
            let request = $request.clone();
            async move { client.$method(request).await }
        })
        .await
    };
}

/// Makes a call that does something.
macro_rules! act {
    ($cri:expr, $what:expr, $client:ident.$method:ident($request:expr)) => {
        $cri.act($what, || {
            let mut client = $cri.$client();
            let request = $request.clone();
            async move { client.$method(request).await }
        })
        .await
    };
}

mod args;
mod client;
mod cp;
mod create;
mod events;
mod exec;
mod files;
mod forward;
mod images;
mod info;
mod inspect;
mod lifecycle;
mod list;
mod logs;
mod message;
mod metrics;
mod output;
mod schema;
mod settings;
mod stats;
mod terminal;
mod transfer;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{ArgMatches, Command};

use client::Cri;
use settings::Settings;
pub use settings::has_runtime;

const ABOUT: &str = "The commands of crictl, for any CRI runtime";

/// Commands that need no clash resolved.
fn plain() -> Vec<Command> {
    [
        list::commands(),
        lifecycle::commands(),
        create::commands(),
        inspect::commands(),
        images::commands(),
        exec::commands(),
        forward::commands(),
        cp::commands(),
        logs::commands(),
        stats::commands(),
        metrics::commands(),
        info::commands(),
        events::commands(),
    ]
    .concat()
}

/// Adds the commands and their options to hullctl's.
pub fn extend(command: Command) -> Command {
    settings::globals(command)
        .subcommands(plain())
        .subcommand(named("cri").about(ABOUT))
}

/// crictl's whole command line under some name.
fn named(name: &'static str) -> Command {
    let aliases = |c: Command| match c.get_name() {
        "images" => c.visible_aliases(["image", "img"]),
        _ => c,
    };
    settings::globals(Command::new(name))
        .version(env!("CARGO_PKG_VERSION"))
        .arg_required_else_help(true)
        .subcommand_required(true)
        .subcommands(plain().into_iter().map(aliases))
        .subcommand(create::run_command())
}

/// The command line when the program is called `crictl`.
pub fn crictl() -> Command {
    named("crictl").about(ABOUT)
}

/// Whether the program was called as `crictl`.
pub fn is_crictl(program: Option<&OsString>) -> bool {
    program.and_then(|p| Path::new(p).file_name()) == Some("crictl".as_ref())
}

/// `run` with two configuration files and nothing else, or with `jsonschema`, is crictl's `run`.
pub fn redirect_run(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let Some(at) = arguments.iter().position(|a| a == "run") else {
        return arguments;
    };
    let other = |a: &OsString| a == "cri" || a == "image" || a == "container" || a == "ns";
    if !arguments[1..at].iter().any(other) && is_crictl_run(&arguments[at + 1..]) {
        arguments.insert(at, "cri".into());
    }
    arguments
}

/// Whether the words after `run` are crictl's.
fn is_crictl_run(words: &[OsString]) -> bool {
    const WITH_VALUE: &[&str] = &[
        "-r",
        "--runtime",
        "-T",
        "--cancel-timeout",
        "--creds",
        "--auth",
        "-u",
        "--username",
        "-a",
        "--annotation",
        "--pull-timeout",
    ];
    let is_file = |a: &OsString| {
        let extension = Path::new(a).extension();
        ["json", "yaml", "yml"]
            .iter()
            .any(|e| extension == Some(e.as_ref()))
    };
    if words
        .first()
        .is_some_and(|w| w == "jsonschema" || w == "js")
    {
        return true;
    }
    let mut files = 0;
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let text = word.to_string_lossy();
        if WITH_VALUE.contains(&text.as_ref()) {
            words.next();
        } else if is_file(word) && !text.starts_with('-') {
            files += 1;
        } else if !text.starts_with('-') || text == "--" {
            return false;
        }
    }
    files == 2
}

/// Runs a command. `outer` are the program's options and `m` the command's.
pub fn dispatch(outer: &ArgMatches, name: &str, m: &ArgMatches) -> Result<ExitCode> {
    match (name, m.subcommand()) {
        ("cri", Some((name, inner))) => execute(outer, Some(m), name, inner),
        _ => execute(outer, None, name, m),
    }
}

fn execute(
    outer: &ArgMatches,
    inner: Option<&ArgMatches>,
    name: &str,
    m: &ArgMatches,
) -> Result<ExitCode> {
    if let Some(result) = without_runtime(outer, inner, name, m) {
        return result.map(|()| ExitCode::SUCCESS);
    }
    let settings = Settings::find(outer, inner)?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the event loop")?
        .block_on(async { command(&Cri::new(settings)?, name, m).await })
}

/// Commands that speak to nobody.
fn without_runtime(
    outer: &ArgMatches,
    inner: Option<&ArgMatches>,
    name: &str,
    m: &ArgMatches,
) -> Option<Result<()>> {
    match name {
        "config" => Some(info::config(outer, inner, m)),
        "completion" => Some(info::completion(m)),
        _ => create::schema(name, m),
    }
}

async fn command(cri: &Cri, name: &str, m: &ArgMatches) -> Result<ExitCode> {
    match name {
        "exec" => return exec::exec(cri, m).await,
        "attach" => return exec::attach(cri, m).await,
        "wait" => return lifecycle::wait(cri, m).await,
        "ps" => list::containers(cri, m).await,
        "pods" => list::pods(cri, m).await,
        "runp" => create::pod(cri, m).await,
        "create" => create::container(cri, m).await,
        "run" => create::run(cri, m).await,
        "start" => lifecycle::start(cri, m).await,
        "stop" => lifecycle::stop(cri, m).await,
        "rm" => lifecycle::remove(cri, m).await,
        "stopp" => lifecycle::stop_pods(cri, m).await,
        "rmp" => lifecycle::remove_pods(cri, m).await,
        "update" => lifecycle::update(cri, m).await,
        "checkpoint" => lifecycle::checkpoint(cri, m).await,
        "inspect" => inspect::containers(cri, m).await,
        "inspectp" => inspect::pods(cri, m).await,
        "inspecti" => inspect::images(cri, m).await,
        "images" => images::list(cri, m).await,
        "pull" => images::pull(cri, m).await,
        "rmi" => images::remove(cri, m).await,
        "imagefsinfo" => images::fs_info(cri, m).await,
        "port-forward" => forward::run(cri, m).await,
        "cp" => cp::run(cri, m).await,
        "logs" => logs::run(cri, m).await,
        "stats" => stats::containers(cri, m).await,
        "statsp" => stats::pods(cri, m).await,
        "metricsp" => metrics::pods(cri, m).await,
        "metricdescs" => metrics::descriptors(cri, m).await,
        "info" => info::info(cri, m).await,
        "version" => info::version(cri).await,
        "runtime-config" => info::runtime_config(cri, m).await,
        "update-runtime-config" => info::update_runtime_config(cri, m).await,
        _ => events::run(cri, m).await,
    }
    .map(|()| ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests;
