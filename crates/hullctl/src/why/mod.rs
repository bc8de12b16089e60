//! `hullctl why`: why a container died, waits, or was slow to start, in one sentence with its
//! evidence.
//!
//! The facts were written down when they happened (`runtime::verdict`), or are asked of the
//! kernel now; nothing is guessed without saying so.

mod death;
mod disk;
mod filter;
mod hint;
mod kernel;
mod names;
mod start;
mod story;
mod stuck;
mod words;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Arg, ArgMatches, Command, value_parser};
use serde::Serialize;

use crate::proc::containers;
pub use hint::hint;
pub use start::keep as keep_stages;
use story::Story;

const EXAMPLES: &str = "\
Examples:
  hullctl why web
      killed for lack of memory: process nginx (4711) met the limit of 64 MiB of /hull/web
  hullctl why web --format json | jq -r .sentence
      for scripts
  hullctl why web/nginx
      a pod's container, by the names that the kubelet gave them
  hullctl why --root /run/user/1000/hull web
      a container of another state root

A container that was deleted is remembered until 64 others have been.";

/// The definition.
pub fn command() -> Command {
    Command::new("why")
        .about("Say why a container died, waits, or was slow to start")
        .after_help(EXAMPLES)
        .arg(
            Arg::new("id")
                .required(true)
                .value_name("ID")
                .help("The container, which may be gone: its id, the beginning of it, or POD/NAME"),
        )
        .arg(
            Arg::new("format")
                .long("format")
                .value_parser(["text", "json"])
                .default_value("text")
                .help("For people, or for programs"),
        )
        .arg(
            Arg::new("root")
                .long("root")
                .value_name("DIR")
                .value_parser(value_parser!(PathBuf))
                .help("Where the runtime keeps its state"),
        )
}

/// A fact, and where it is from.
#[derive(Clone, Debug, Serialize)]
pub struct Evidence {
    /// A file, or who said it.
    pub source: String,
    /// What it says.
    pub text: String,
}

impl Evidence {
    /// A fact.
    pub fn new(source: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            source: source.into(),
            text: text.into(),
        }
    }
}

/// The answer.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// Its sort, in one word.
    pub kind: &'static str,
    /// One sentence.
    pub sentence: String,
    /// What it rests on.
    pub evidence: Vec<Evidence>,
}

#[derive(Debug, Serialize)]
struct Answer<'a> {
    id: &'a str,
    name: &'a str,
    status: &'a str,
    #[serde(flatten)]
    verdict: &'a Verdict,
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<&'a start::Start>,
}

/// Prints the answer.
pub fn run(m: &ArgMatches) -> Result<ExitCode> {
    let id = m.get_one::<String>("id").cloned().unwrap_or_default();
    let root = containers::state_root(m.get_one::<PathBuf>("root").map(PathBuf::as_path));
    let Some(story) = Story::find(&root, &id)? else {
        bail!(
            "why: {id}: no such container in {}, nor is one of that name remembered",
            root.display()
        );
    };
    let start = start::of(&story);
    let mut verdict = judge(&story);
    if let Some(slow) = start.as_ref().and_then(start::Start::slow) {
        verdict.sentence.push_str("; ");
        verdict.sentence.push_str(&slow);
        if verdict.kind == "running" {
            verdict.kind = "slow-start";
        }
    }
    if m.get_one::<String>("format").is_some_and(|f| f == "json") {
        let answer = Answer {
            id: &story.id,
            name: &story.name,
            status: &story.status,
            verdict: &verdict,
            start: start.as_ref(),
        };
        println!("{}", serde_json::to_string_pretty(&answer)?);
        return Ok(ExitCode::SUCCESS);
    }
    println!("{}: {}", story.name, verdict.sentence);
    for e in &verdict.evidence {
        println!("  {}: {}", e.source, e.text);
    }
    if let Some(start) = start {
        println!("  start: {}", start.sentence());
    }
    Ok(ExitCode::SUCCESS)
}

fn judge(story: &Story) -> Verdict {
    match story.status.as_str() {
        "stopped" | "gone" => death::judge(story),
        _ => stuck::judge(story),
    }
}
