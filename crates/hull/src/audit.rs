//! The audit log of calls that change something, where the machine wants one of `hull`.

use clap::ArgMatches;
use clap::parser::ValueSource;
use runtime::Result;
use runtime::audit::{Asked, Object, Programs, code_of, cut};

use crate::Context;
use crate::commands::Entry;
use crate::options::{all, given, given_path};

/// Calls that change something.
const CHANGING: [&str; 11] = [
    "checkpoint",
    "create",
    "delete",
    "exec",
    "kill",
    "pause",
    "restore",
    "resume",
    "run",
    "start",
    "update",
];

/// A call begins: without a log this costs one stat(2).
pub fn begin(context: &Context, entry: &Entry) -> Option<Asked> {
    if !CHANGING.contains(&entry.name) {
        return None;
    }
    Programs::of("hull", context.rootless, false)?.begin()
}

/// It has ended.
pub fn end(
    asked: &Asked,
    context: &Context,
    entry: &Entry,
    matches: &ArgMatches,
    result: &Result<u8>,
) {
    let object = Object {
        kind: "container",
        id: given(matches, "id").unwrap_or_default().to_owned(),
        name: String::new(),
    };
    let told = asked.done("hull", entry.name, object, |line| {
        line.detail = cut(detail(entry.name, matches));
        match result {
            Ok(code) if matches!(entry.name, "run" | "exec") => line.exit = Some(*code),
            Ok(_) => {}
            Err(e) => {
                code_of(e.kind()).clone_into(&mut line.code);
                line.reason = e.to_string();
            }
        }
    });
    if let Err(e) = told {
        context.warn(&e);
    }
}

/// What is special about this call.
fn detail(name: &str, matches: &ArgMatches) -> String {
    match name {
        "kill" => given(matches, "signal").unwrap_or("TERM").to_owned(),
        "exec" => all(matches, "command").collect::<Vec<_>>().join(" "),
        "create" | "run" | "restore" => {
            let bundle = given_path(matches, "bundle").or_else(|| std::env::current_dir().ok());
            bundle.unwrap_or_default().display().to_string()
        }
        "update" => options(matches),
        _ => String::new(),
    }
}

/// The options as they were given.
fn options(matches: &ArgMatches) -> String {
    let typed =
        |id: &&str| *id != "id" && matches.value_source(id) == Some(ValueSource::CommandLine);
    let text = |id: &str| {
        let values = matches.get_raw(id).into_iter().flatten();
        let values: Vec<_> = values.map(|v| v.to_string_lossy()).collect();
        format!("--{id} {}", values.join(" "))
    };
    let ids = matches.ids().map(clap::Id::as_str);
    ids.filter(typed).map(text).collect::<Vec<_>>().join(" ")
}
