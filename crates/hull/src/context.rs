//! What every command gets: the global options, made sense of.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ArgMatches;
use runtime::root::StateRoot;
use runtime::{ContainerId, Result};
use sys::trace::Recorder;

use crate::audit;
use crate::commands::{self, Entry};
use crate::log::{Format, Level, Log};
use crate::options::{given, given_path, is_on};

/// The global options.
#[derive(Debug)]
pub struct Context {
    /// Where the state of containers is kept.
    pub root: PathBuf,
    /// `root` is the default one of a user's own, which is made sticky.
    pub root_is_users: bool,
    /// Have systemd manage control groups.
    pub systemd_cgroup: bool,
    /// Do without the rights of the machine's root.
    pub rootless: bool,
    /// Also log each step.
    pub debug: bool,
    /// Where messages go.
    pub log: Log,
}

impl Context {
    fn new(matches: &ArgMatches) -> std::io::Result<Self> {
        let format = given(matches, "log-format").map(|word| match word {
            "json" => Format::Json,
            _ => Format::Text,
        });
        let log = Log::open(given_path(matches, "log").as_deref(), format)?;
        let rootless = match given(matches, "rootless") {
            Some("true") => true,
            Some("false") => false,
            _ => runtime::is_rootless(),
        };
        let given_root = given_path(matches, "root");
        let users = runtime::root::of_user(rootless);
        let root_is_users = given_root.is_none() && users.is_some();
        let root = given_root.or(users);
        Ok(Self {
            root: root.unwrap_or_else(|| runtime::root::DEFAULT.into()),
            root_is_users,
            systemd_cgroup: is_on(matches, "systemd-cgroup"),
            rootless,
            debug: is_on(matches, "debug"),
            log,
        })
    }

    /// The state root, made where missing.
    ///
    /// # Errors
    /// mkdir(2)'s, open(2)'s.
    pub fn make_root(&self) -> Result<StateRoot> {
        StateRoot::create(&self.root, self.root_is_users)
    }

    /// The state root if there is one.
    ///
    /// # Errors
    /// open(2)'s.
    pub fn open_root(&self) -> Result<Option<StateRoot>> {
        StateRoot::open(&self.root)
    }

    /// The container that `matches` names.
    ///
    /// # Errors
    /// A bad id, or no such container.
    pub fn container(&self, matches: &ArgMatches) -> Result<runtime::Container> {
        let id = id(matches)?;
        let root = self.open_root()?;
        let root = root.ok_or_else(|| runtime::Error::NotFound(id.to_string()))?;
        runtime::Container::open(&root, &id)
    }

    /// Logs a warning.
    pub fn warn(&self, message: &str) {
        self.log.write(Level::Warning, message);
    }
}

/// The id among the words of a command.
///
/// # Errors
/// It is not one.
pub fn id(matches: &ArgMatches) -> Result<ContainerId> {
    ContainerId::new(given(matches, "id").unwrap_or_default())
}

/// Writes to standard output.
///
/// # Errors
/// write(2)'s.
pub fn print(text: &str) -> Result<()> {
    use std::io::Write as _;
    use sys::Context as _;
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    Ok(written.context("write", || "standard output")?)
}

/// Runs the command that `matches` names.
pub fn run(matches: &ArgMatches) -> ExitCode {
    let context = match Context::new(matches) {
        Ok(context) => context,
        Err(e) => {
            let path = given_path(matches, "log").unwrap_or_default();
            let path = Path::new(&path).display();
            Log::default().write(Level::Error, &format!("open {path}: {e}"));
            return ExitCode::FAILURE;
        }
    };
    let Some((name, matches)) = matches.subcommand() else {
        return ExitCode::FAILURE;
    };
    let Some(entry) = commands::ALL.iter().find(|entry| entry.name == name) else {
        return ExitCode::FAILURE;
    };
    if !context.debug {
        return act(entry, &context, matches);
    }
    let recorder = match Recorder::begin() {
        Ok(recorder) => recorder,
        Err(e) => {
            context.log.write(Level::Error, &e.to_string());
            return ExitCode::from(entry.failure);
        }
    };
    let begin = sys::trace::now();
    let code = act(entry, &context, matches);
    log_steps(&context.log, &recorder, begin);
    code
}

/// What was recorded, with `--debug`: one message a step.
fn log_steps(log: &Log, recorder: &Recorder, begin: u64) {
    match recorder.steps() {
        Ok(steps) => {
            for step in steps {
                let call = if step.call.is_empty() { "" } else { ": " };
                let (at, took) = (step.start_ns.saturating_sub(begin), step.took_ns);
                let text = format!(
                    "{}{call}{} (pid {}, at {} us, took {} us)",
                    step.call,
                    step.detail,
                    step.pid,
                    at / 1000,
                    took / 1000
                );
                log.write(Level::Debug, &text);
            }
        }
        Err(e) => log.write(Level::Warning, &e.to_string()),
    }
}

fn act(entry: &Entry, context: &Context, matches: &ArgMatches) -> ExitCode {
    let asked = audit::begin(context, entry);
    let result = (entry.run)(context, matches);
    if let Some(asked) = &asked {
        audit::end(asked, context, entry, matches, &result);
    }
    match result {
        Ok(code) => ExitCode::from(code),
        Err(e) => {
            context.log.write(Level::Error, &e.to_string());
            ExitCode::from(entry.failure)
        }
    }
}
