//! hullctl, a person's tool for containers.
//!
//! The library is only there for the build's own tools (man pages and completions come from
//! [`command`]); the program is `main.rs`.

mod asked;
mod audit;
mod container;
mod cri;
mod doctor;
mod examples;
mod image;
mod ns;
mod proc;
mod run;
mod selftest;
mod table;
pub mod template;
mod top;
mod units;
mod why;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use clap::Command;

const ABOUT: &str = "Run and look at containers";

/// The definition of the command line.
#[must_use]
pub fn command() -> Command {
    let command = Command::new("hullctl")
        .version(env!("CARGO_PKG_VERSION"))
        .about(ABOUT)
        .arg_required_else_help(true)
        .subcommand_required(true)
        .subcommand(run::command())
        .subcommand(image::command())
        .subcommand(ns::command())
        .subcommand(container::command())
        .subcommand(why::command())
        .subcommand(top::command())
        .subcommand(audit::command())
        .subcommand(doctor::command())
        .subcommand(selftest::command())
        .subcommand(selftest::probe::command());
    examples::add(cri::extend(command))
}

/// Runs the program with the process's own arguments.
#[must_use]
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let result = match cri::is_crictl(arguments.first()) {
        true => dispatch(&cri::crictl().get_matches_from(arguments), true),
        false => {
            let arguments = ns::attach(container::redirect(arguments, cri::has_runtime));
            dispatch(
                &command().get_matches_from(cri::redirect_run(arguments)),
                false,
            )
        }
    };
    match result {
        Ok(code) => code,
        Err(e) => {
            eprintln!("hullctl: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(matches: &clap::ArgMatches, crictl: bool) -> Result<ExitCode> {
    let Some((name, m)) = matches.subcommand() else {
        // clap has refused this: subcommand_required.
        return Ok(ExitCode::FAILURE);
    };
    // A reader that has seen enough (`| head`) ends these quietly.
    if !crictl && matches!(name, "ns" | "why" | "audit" | "top" | "doctor" | "selftest") {
        sys::signal::reset_for_exec()?;
    }
    let asked = if crictl { None } else { asked::begin(name, m) };
    let result = act(matches, name, m, crictl);
    if let Some(asked) = asked {
        asked.done(result.as_ref().map(|_| None));
    }
    result
}

fn act(
    matches: &clap::ArgMatches,
    name: &str,
    m: &clap::ArgMatches,
    crictl: bool,
) -> Result<ExitCode> {
    match name {
        _ if crictl => cri::dispatch(matches, name, m),
        "image" => image::run(m),
        "run" => run_container(m),
        "ns" => ns::run(m),
        "container" => container::run(m),
        "why" => why::run(m),
        "top" => top::run(m),
        "audit" => audit::run(m),
        "doctor" => doctor::run(m),
        "selftest" => selftest::run(m),
        "selftest-probe" => Ok(selftest::probe::run(m)),
        _ => cri::dispatch(matches, name, m),
    }
}

fn run_container(m: &clap::ArgMatches) -> Result<ExitCode> {
    let args = run::parse(m)?;
    let asked = asked::begin_run(&args);
    let result = run::run(&args);
    if let Some(asked) = asked {
        asked.done(result.as_ref().map(|&code| (!args.detach).then_some(code)));
    }
    result.map(ExitCode::from)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_definitions_hold_together() {
        super::command().debug_assert();
    }
}
