//! The lines that hullctl's own work leaves in the audit log: what asks hulld stands in hulld's.

use anyhow::Error;
use clap::{ArgMatches, Command};
use runtime::audit::{self, Line, Object, Programs};

/// Subcommands that change something, and what they are about.
const CHANGING: [(&str, &str, &[&str]); 4] = [
    ("container", "container", &["exec", "stop", "rm", "wait"]),
    (
        "image",
        "image",
        &[
            "pull", "copy", "push", "load", "import", "unpack", "repack", "commit", "check", "tag",
            "rm", "mount", "umount", "gc", "delete", "login", "logout",
        ],
    ),
    ("ns", "namespace", &["unshare", "enter", "add", "rm"]),
    ("doctor", "machine", &[""]),
];
/// These become the program that they run: their line is written when they begin.
const BECOMING: [&str; 3] = ["container exec", "ns unshare", "ns enter"];

/// A call that is to be told of.
#[derive(Debug)]
pub struct Asked {
    asked: audit::Asked,
    command: String,
    object: Object,
    detail: String,
    is_told: bool,
}

/// A command begins; `None` where it changes nothing, or no log is to be had.
pub fn begin(name: &str, m: &ArgMatches) -> Option<Asked> {
    let (sub, of) = m.subcommand().unwrap_or(("", m));
    let is_this = |(first, _, subs): &&(&str, &str, &[&str])| *first == name && subs.contains(&sub);
    let (_, kind, _) = CHANGING.iter().find(is_this)?;
    let flag = match (name, sub) {
        ("doctor", _) => Some("fix"),
        ("container", "wait") => Some("rm"),
        _ => None,
    };
    if flag.is_some_and(|flag| !of.get_flag(flag)) {
        return None;
    }
    let mut words = positional(name, sub, of).into_iter();
    let object = Object {
        kind,
        id: words.next().unwrap_or_default(),
        name: String::new(),
    };
    let detail = audit::cut(words.collect::<Vec<_>>().join(" "));
    let command = format!("{name} {sub}").trim_end().to_owned();
    let mut asked = start(command, object, detail)?;
    if BECOMING.contains(&asked.command.as_str()) {
        asked.tell(|line| "Begun".clone_into(&mut line.code));
        asked.is_told = true;
    }
    Some(asked)
}

/// `hullctl run` begins.
pub fn begin_run(args: &crate::run::RunArgs) -> Option<Asked> {
    let object = Object {
        kind: "container",
        id: args.id.clone(),
        name: String::new(),
    };
    let target = args.target.to_string();
    let words =
        std::iter::once(target.as_str()).chain(args.settings.command.iter().map(String::as_str));
    let detail = audit::cut(words.collect::<Vec<_>>().join(" "));
    start("run".to_owned(), object, detail)
}

fn start(command: String, object: Object, detail: String) -> Option<Asked> {
    Some(Asked {
        asked: Programs::of("hullctl", runtime::is_rootless(), true)?.begin()?,
        command,
        object,
        detail,
        is_told: false,
    })
}

/// The words that are no options: those may be passwords.
fn positional(name: &str, sub: &str, m: &ArgMatches) -> Vec<String> {
    let all = crate::command();
    let command = all.find_subcommand(name);
    let command = match sub {
        "" => command,
        sub => command.and_then(|c| c.find_subcommand(sub)),
    };
    let ids = command.into_iter().flat_map(Command::get_positionals);
    let values = ids.filter_map(|arg| m.try_get_raw(arg.get_id().as_str()).ok().flatten());
    let words = values.flatten().map(|v| v.to_string_lossy().into_owned());
    words.collect()
}

impl Asked {
    /// It has ended, with this exit code of the program that it ran.
    pub fn done(mut self, result: Result<Option<u8>, &Error>) {
        match result {
            Ok(_) if self.is_told => {}
            Ok(exit) => self.tell(|line| line.exit = exit),
            Err(e) => self.tell(|line| {
                code_of(e).clone_into(&mut line.code);
                line.reason = format!("{e:#}");
            }),
        }
    }

    fn tell(&mut self, change: impl FnOnce(&mut Line)) {
        let detail = self.detail.clone();
        let told = self
            .asked
            .done("hullctl", &self.command, self.object.clone(), |line| {
                line.detail = detail;
                change(line);
            });
        if let Err(e) = told {
            eprintln!("hullctl: {e}");
        }
    }
}

fn code_of(error: &Error) -> &'static str {
    let kind = error
        .chain()
        .find_map(|e| e.downcast_ref::<runtime::Error>());
    kind.map_or("Unknown", |e| audit::code_of(e.kind()))
}
