//! Why a container ended.

use runtime::kill::signal_name;

use super::kernel::{self, Denial, OomKill};
use super::story::{Note, Story};
use super::{Evidence, Verdict};
use super::{disk, filter, words};
use crate::units::bytes;

const SIGKILL: i32 = 9;

/// How the first process ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    /// It returned this, or was killed by a signal and a shell's 128 + n is known.
    Code(i32),
    /// A signal killed it.
    Signal(i32),
    /// Nobody told us.
    Unknown,
}

/// The sentence, from the surest cause to the least sure.
pub fn judge(story: &Story) -> Verdict {
    let log = kernel::messages();
    let mut evidence = Vec::new();
    let end = end_of(story, &mut evidence);
    let found = never_started(story)
        .or_else(|| out_of_memory(story, &log, end))
        .or_else(|| by_request(story, end))
        .or_else(|| refused_call(story, &log, end))
        .or_else(|| fault(story, &log, end))
        .or_else(|| limits(story, end))
        .unwrap_or_else(|| plain(story, end));
    let mut verdict = found;
    verdict.evidence.extend(evidence);
    verdict
}

fn verdict(kind: &'static str, sentence: String, evidence: Vec<Evidence>) -> Verdict {
    Verdict {
        kind,
        sentence,
        evidence,
    }
}

/// From the runtime that stayed with it, or from the zombie that was there at the end.
fn end_of(story: &Story, evidence: &mut Vec<Evidence>) -> End {
    if let Some(note) = story.last("exit") {
        evidence.push(Evidence::new(
            "the runtime, which waited for it",
            format!("exit {} at {}", note.detail, note.time),
        ));
        return end_in(&note.detail);
    }
    let Some(stat) = story.files("stat").next() else {
        return End::Unknown;
    };
    match exit_code_in(&stat.text) {
        Some(status) => {
            evidence.push(Evidence::new(
                stat.path.display().to_string(),
                format!("a zombie with wait status {status}"),
            ));
            match status & 0x7f {
                0 => End::Code(status >> 8),
                signal => End::Signal(signal),
            }
        }
        None => End::Unknown,
    }
}

/// `code 3`, `signal 9` of a supervisor; a bare number of a `run`, which a shell gets too.
fn end_in(detail: &str) -> End {
    let (sort, number) = detail.split_once(' ').unwrap_or(("", detail));
    match (sort, number.parse()) {
        ("signal", Ok(signal)) => End::Signal(signal),
        ("", Ok(code)) if code > 128 && code <= 192 => End::Signal(code - 128),
        (_, Ok(code)) => End::Code(code),
        (_, Err(_)) => End::Unknown,
    }
}

/// Field 52 of a zombie's stat: the wait status.
fn exit_code_in(stat: &str) -> Option<i32> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    if *fields.first()? != "Z" {
        return None;
    }
    fields.get(52 - 3)?.parse().ok()
}

fn never_started(story: &Story) -> Option<Verdict> {
    let note = story.last("failed")?;
    let kind = if note.detail.contains("exec") {
        "exec"
    } else {
        "create"
    };
    let evidence = vec![Evidence::new(
        "the runtime",
        format!("{} at {}", note.detail, note.time),
    )];
    Some(verdict(
        kind,
        format!("its program never ran: {}", note.detail),
        evidence,
    ))
}

/// A kill in one of the container's memory groups, or of the machine.
fn out_of_memory(story: &Story, log: &[String], end: End) -> Option<Verdict> {
    let counted = story.oom_kills();
    let kill = kernel::oom_kills(log)
        .into_iter()
        .rev()
        .find(|k| is_ours(story, k));
    if counted == 0 && kill.is_none() {
        return None;
    }
    let mut evidence = Vec::new();
    if counted > 0 {
        let file = story
            .files("memory.events")
            .chain(story.files("memory.oom_control"));
        let path = file.map(|f| f.path.display().to_string()).next();
        evidence.push(match path {
            Some(path) => Evidence::new(path, format!("oom_kill {counted}")),
            None => Evidence::new("the runtime", "the slice of its scope counted the kill"),
        });
    }
    let limit = story
        .number("memory.max", "")
        .or_else(|| story.number("memory.limit_in_bytes", ""));
    let peak = story
        .number("memory.peak", "")
        .or_else(|| story.number("memory.max_usage_in_bytes", ""));
    let limit_text = limit.map_or_else(|| "no limit".to_owned(), bytes);
    if let Some(peak) = peak {
        evidence.push(Evidence::new(
            "memory",
            format!("at most {} used, the limit is {limit_text}", bytes(peak)),
        ));
    }
    let who = kill.as_ref().map_or_else(
        || "a process".to_owned(),
        |k| {
            format!(
                "process {} ({}), which had {} of its own,",
                k.task, k.pid, k.anonymous
            )
        },
    );
    let whose = match &kill {
        Some(k) if k.constraint != "CONSTRAINT_MEMCG" => "the machine ran out of memory".to_owned(),
        Some(k) if k.limit_of != k.group => {
            format!("the limit of the group above, {}, was met", k.limit_of)
        }
        Some(k) => format!("its limit of {limit_text} (group {}) was met", k.limit_of),
        None => format!("its limit of {limit_text} was met"),
    };
    if let Some(k) = kill {
        evidence.push(Evidence::new("kernel log", k.line));
    }
    let ended = match end {
        End::Signal(9) | End::Unknown => "killed for lack of memory".to_owned(),
        other => format!(
            "ended with {} after a kill for lack of memory",
            describe(other)
        ),
    };
    Some(verdict(
        "oom",
        format!("{ended}: {whose}, and the kernel killed {who} to stay below it"),
        evidence,
    ))
}

fn is_ours(story: &Story, kill: &OomKill) -> bool {
    let mut memory = story.facts.iter().filter_map(|f| {
        let name = f.path.file_name()?.to_str()?;
        name.starts_with("memory.").then(|| f.path.parent())?
    });
    let group = kill.group.trim_start_matches('/');
    !group.is_empty() && (memory.any(|dir| dir.ends_with(group)) || in_scope_of(group, &story.id))
}

/// Whether a group is the scope of container `id`, or below it: of one that systemd removed before
/// its files were read, only its name is left.
fn in_scope_of(group: &str, id: &str) -> bool {
    let before = |part: &str| Some(part.strip_suffix(".scope")?.strip_suffix(id)?.to_owned());
    group
        .split('/')
        .filter_map(before)
        .any(|prefix| prefix.ends_with('-'))
}

/// `hull kill`, a client through it, or a daemon for its client.
fn by_request(story: &Story, end: End) -> Option<Verdict> {
    let note = last_request(&story.notes)?;
    let (signal, who) = asked_by(note)?;
    let name = signal_name(signal);
    // Nothing survives SIGKILL, so that also an end that nobody told of is its doing.
    let killed = end == End::Signal(signal) || (end == End::Unknown && signal == SIGKILL);
    let did = match end {
        _ if killed => format!("killed by {name}"),
        End::Unknown => format!("ended after {name}"),
        other => format!("ended with {} after {name}", describe(other)),
    };
    let time = &note.time;
    let sentence = format!("{did}, which {who} at {time}");
    let evidence = vec![Evidence::new(
        format!("the runtime's {}", note.what),
        note.detail.clone(),
    )];
    Some(verdict("killed", sentence, evidence))
}

/// The last signal that was asked for and sent. `kill` is written before it is sent, and `unsent`
/// after it if it was not.
fn last_request(notes: &[Note]) -> Option<&Note> {
    let mut unsent = 0;
    notes.iter().rev().find(|note| match note.what.as_str() {
        "unsent" => {
            unsent += 1;
            false
        }
        "kill" if unsent > 0 => {
            unsent -= 1;
            false
        }
        what => matches!(what, "kill" | "stop"),
    })
}

/// The signal, and who had it sent: `kill 9 uid pid name` by hand, `stop 15 CALL by NAME …` by a
/// supervisor for a client of its daemon.
fn asked_by(note: &Note) -> Option<(i32, String)> {
    if note.what == "stop" {
        let (signal, by) = note.detail.split_once(' ')?;
        let who = match by.split_once(" by ") {
            Some((call, client)) if call.starts_with("hullctl ") => {
                format!("{client} had sent by `{call}`")
            }
            Some((call, client)) => format!("{client} had sent by {call} through the API"),
            None => format!("was sent for {by}"),
        };
        return Some((signal.parse().ok()?, who));
    }
    let mut words = note.detail.splitn(4, ' ');
    let signal = words.next()?.parse().ok()?;
    let (uid, pid, name) = (words.next()?, words.next()?, words.next()?);
    let who = format!("{name} (process {pid}, user {uid}) had sent through the runtime");
    Some((signal, who))
}

/// SIGSYS: a filter's doing.
fn refused_call(story: &Story, log: &[String], end: End) -> Option<Verdict> {
    const SIGSYS: i32 = 31;
    let denial = kernel::denials(log)
        .into_iter()
        .rev()
        .find(|d| is_its(story, d));
    let killed = end == End::Signal(SIGSYS);
    if !killed
        && denial
            .as_ref()
            .is_none_or(|d| d.signal == 0 && end == End::Code(0))
    {
        return None;
    }
    let what = match &denial {
        Some(d) => {
            let call = kernel::call_name(d.arch, d.syscall);
            let rules = story.config.as_ref().and_then(|c| filter::rules(c, &call));
            let rules = rules.map_or_else(String::new, |r| format!("; its profile says: {r}"));
            format!("system call {call} of {} ({}){rules}", d.comm, d.exe)
        }
        None => "a system call; which one, the kernel's log does not say (any more)".to_owned(),
    };
    let sentence = if killed {
        format!("killed by its seccomp filter (SIGSYS) for {what}")
    } else {
        format!(
            "ended with {} after its seccomp filter had refused {what}",
            describe(end)
        )
    };
    let evidence = denial.map(|d| Evidence::new("kernel log", d.line));
    Some(verdict("seccomp", sentence, evidence.into_iter().collect()))
}

/// The first process by its pid; another one of the container's by the program that was started.
fn is_its(story: &Story, denial: &Denial) -> bool {
    story.record.init.is_some_and(|init| init.pid == denial.pid) || story.pids.contains(&denial.pid)
}

fn fault(story: &Story, log: &[String], end: End) -> Option<Verdict> {
    let End::Signal(signal) = end else {
        return None;
    };
    let pid = story.record.init.map_or(0, |i| i.pid);
    let line = kernel::fault(log, pid);
    let name = signal_name(signal);
    let reason = match signal {
        4 => "an instruction that this processor does not have, or a program that stopped itself",
        6 => "the program stopped itself (abort)",
        7 | 11 => "the program reached for memory that is not its own",
        8 => "a division by zero or the like",
        9 => "nobody told the runtime who sent it: not the memory limit, not `hull kill`",
        13 => "it wrote where nobody reads any more",
        2 | 15 => {
            "sent past the runtime: from inside, from the terminal, or by somebody on the machine"
        }
        24 => "its limit of processor time (RLIMIT_CPU)",
        25 => "its limit of file size (RLIMIT_FSIZE)",
        _ => "sent past the runtime",
    };
    let evidence = line.map(|l| Evidence::new("kernel log", l));
    Some(verdict(
        "signal",
        format!("killed by {name}: {reason}"),
        evidence.into_iter().collect(),
    ))
}

/// Limits that make a program fail: tasks, disk space, what is read-only.
fn limits(story: &Story, end: End) -> Option<Verdict> {
    if end == End::Code(0) {
        return None;
    }
    let ended = format!("ended with {}", describe(end));
    if let Some(told) = words::judge(story, &ended) {
        return Some(told);
    }
    if let Some(n) = story.number("pids.events", "max ").filter(|n| *n > 0) {
        let limit = story
            .number("pids.max", "")
            .map_or_else(String::new, |l| format!(" of {l}"));
        let path = story
            .files("pids.events")
            .map(|f| f.path.display().to_string())
            .next();
        let evidence = vec![Evidence::new(path.unwrap_or_default(), format!("max {n}"))];
        let sentence =
            format!("{ended} after its limit{limit} tasks had kept it from starting one {n} times");
        return Some(verdict("tasks", sentence, evidence));
    }
    if let Some(full) = disk::full(story) {
        let sentence = format!("{ended}; no space is left on {}", full.text);
        return Some(verdict("space", sentence, vec![full]));
    }
    let config = story.config.as_ref()?;
    // What it said last, where that is known, did not speak of it.
    let is_silent = words::last(story).is_none();
    if config.root.as_ref().is_some_and(|r| r.readonly) && end != End::Unknown && is_silent {
        let evidence = vec![Evidence::new("config.json", "root.readonly is true")];
        let sentence = format!(
            "{ended}; its root file system is read-only, so that writing anywhere but to its mounts fails"
        );
        return Some(verdict("read-only", sentence, evidence));
    }
    None
}

fn plain(story: &Story, end: End) -> Verdict {
    let program = story.config.as_ref().and_then(|c| c.process.as_ref());
    let program = program.map(|p| p.args.join(" ")).unwrap_or_default();
    let (kind, sentence) = match end {
        End::Code(0) => (
            "done",
            format!("ended by itself, with exit code 0: `{program}` was done"),
        ),
        End::Code(code) => {
            let more = match code {
                126 => "; a shell says 126 for what it found but could not execute",
                127 => "; a shell says 127 for a command that it did not find",
                _ => "; the program chose it, and its output says more",
            };
            let more = match words::last(story) {
                Some(words) => format!("; its last words: `{words}`"),
                None => more.to_owned(),
            };
            (
                "exit",
                format!("`{program}` ended by itself, with exit code {code}{more}"),
            )
        }
        End::Signal(signal) => ("signal", format!("killed by {}", signal_name(signal))),
        End::Unknown => (
            "unknown",
            "ended; whoever started it has its exit code, the runtime was not told".to_owned(),
        ),
    };
    verdict(kind, sentence, Vec::new())
}

fn describe(end: End) -> String {
    match end {
        End::Code(code) => format!("exit code {code}"),
        End::Signal(signal) => signal_name(signal),
        End::Unknown => "an exit code that the runtime was not told".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_status_of_a_zombie() {
        let mut fields = vec!["0"; 50];
        fields[0] = "Z";
        fields[49] = "1792";
        let stat = format!("7 (a b) {}", fields.join(" "));
        assert_eq!(exit_code_in(&stat), Some(1792));
        assert_eq!(exit_code_in(&stat.replace(" Z ", " S ")), None);
        assert_eq!(describe(End::Code(7)), "exit code 7");
        assert_eq!(describe(End::Signal(9)), "SIGKILL");
    }

    #[test]
    fn groups_of_scopes_that_are_gone() {
        let ours = |group: &str| in_scope_of(group, "c1");
        assert!(ours(
            "kubepods.slice/kubepods-pod7.slice/hull-c1.scope/container"
        ));
        assert!(ours("user.slice/hull-c1.scope"));
        assert!(!ours("kubepods.slice/hull-c12.scope/container"));
        assert!(!ours("kubepods.slice/hull-cc1.scope/container"));
        assert!(!ours("kubepods.slice/c1/container"));
    }

    #[test]
    fn what_was_not_sent_killed_nobody() {
        let note = |what: &str| Note {
            time: String::new(),
            what: what.to_owned(),
            detail: String::new(),
        };
        for (notes, last) in [
            (&["kill", "exit"][..], Some(0)),
            (&["kill", "unsent"], None),
            (&["stop", "kill", "unsent", "exit"], Some(0)),
            (&["kill", "kill", "unsent", "unsent", "kill"], Some(4)),
            (&["exit"], None),
        ] {
            let story: Vec<Note> = notes.iter().map(|what| note(what)).collect();
            let found = last_request(&story).map(std::ptr::from_ref);
            assert_eq!(found, last.map(|at| &raw const story[at]), "{notes:?}");
        }
    }

    #[test]
    fn ends_and_askers_as_they_are_written_down() {
        for (detail, end) in [
            ("code 3", End::Code(3)),
            ("code 137", End::Code(137)),
            ("signal 9", End::Signal(9)),
            ("137", End::Signal(9)),
            ("?", End::Unknown),
        ] {
            assert_eq!(end_in(detail), end, "{detail}");
        }
        let note = |what: &str, detail: &str| Note {
            time: String::new(),
            what: what.to_owned(),
            detail: detail.to_owned(),
        };
        let (signal, who) = asked_by(&note(
            "stop",
            "15 StopContainer by crictl (process 7, user 0)",
        ))
        .unwrap();
        assert_eq!(signal, 15);
        assert!(
            who.starts_with("crictl (process 7, user 0) had sent by StopContainer"),
            "{who}"
        );
        let by = "9 hullctl container stop by bash (process 7, user 0)";
        let (_, who) = asked_by(&note("stop", by)).unwrap();
        assert_eq!(
            who,
            "bash (process 7, user 0) had sent by `hullctl container stop`"
        );
        let (signal, who) = asked_by(&note("kill", "9 0 12 bash")).unwrap();
        assert_eq!(signal, 9);
        assert!(who.starts_with("bash (process 12, user 0)"), "{who}");
    }
}
