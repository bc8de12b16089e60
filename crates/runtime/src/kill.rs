//! Signals for a container.

use cgroup::Manager;

use crate::{Container, Error, Result, Status};

const SIGKILL: i32 = 9;
/// The last real-time signal (signal(7)).
const LAST: i32 = 64;
/// Names by number, from 1 on (signal(7), all architectures but Alpha, SPARC, MIPS and PA-RISC).
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
/// Other names for the same numbers; RTMIN and RTMAX as the C library counts them.
const MORE: [(&str, i32); 6] = [
    ("IOT", 6),
    ("CLD", 17),
    ("POLL", 29),
    ("UNUSED", 31),
    ("RTMIN", 34),
    ("RTMAX", 64),
];

/// The number of a signal: `9`, `KILL`, `SIGKILL`, `sigkill`, `RTMIN+3`.
///
/// # Errors
/// [`Error::Invalid`] in runc's words.
pub fn signal_number(text: &str) -> Result<i32> {
    let unknown = || Error::Invalid(format!("unknown signal {text:?}"));
    if let Ok(number) = text.parse::<i32>() {
        return (0..=LAST)
            .contains(&number)
            .then_some(number)
            .ok_or_else(unknown);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let named = NAMES
        .iter()
        .zip(1..)
        .find(|(n, _)| **n == name)
        .map(|(_, number)| number);
    let number = named
        .or_else(|| {
            MORE.iter()
                .find(|(n, _)| *n == name)
                .map(|(_, number)| *number)
        })
        .or_else(|| real_time(name));
    number.ok_or_else(unknown)
}

/// `SIGKILL` for 9; a real-time signal counts from `SIGRTMIN`.
#[must_use]
pub fn signal_name(number: i32) -> String {
    let named = usize::try_from(number - 1)
        .ok()
        .and_then(|at| NAMES.get(at));
    match named {
        Some(name) => format!("SIG{name}"),
        None if (34..=LAST).contains(&number) => format!("SIGRTMIN+{}", number - 34),
        None => format!("signal {number}"),
    }
}

/// `RTMIN+n` and `RTMAX-n`.
fn real_time(name: &str) -> Option<i32> {
    let (base, offset): (i32, i32) =
        match (name.strip_prefix("RTMIN+"), name.strip_prefix("RTMAX-")) {
            (Some(n), _) => (34, n.parse::<i32>().ok()?),
            (_, Some(n)) => (64, n.parse::<i32>().ok()?.checked_neg()?),
            _ => return None,
        };
    base.checked_add(offset).filter(|n| (34..=LAST).contains(n))
}

/// Sends `signal` to the first process, or to all with `all`.
///
/// Without a pid namespace of its own the others would outlive the first, so SIGKILL goes to
/// all then. A frozen container is thawed for SIGKILL where it would not take effect otherwise.
///
/// # Errors
/// [`Error::NotRunning`], or the kernel's refusal.
pub fn kill(container: &Container, signal: i32, all: bool) -> Result<()> {
    let Some(aim) = Aim::take(container, signal, all)? else {
        return Ok(());
    };
    if signal == 0 {
        return aim.send(container, signal);
    }
    // Whoever runs this program wants it, not the program itself.
    let caller = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    let name = std::fs::read_to_string(format!("/proc/{caller}/comm")).unwrap_or_default();
    let user = rustix::process::getuid();
    let detail = format!("{signal} {user} {caller} {name}");
    // Before it is so: who waits for the end asks at once where it came from.
    crate::verdict::note(container, "kill", &detail);
    let sent = aim.send(container, signal);
    if sent.is_err() {
        crate::verdict::note(container, "unsent", &detail);
    }
    sent
}

/// The same, without writing down who wanted it: for those who have written down more.
///
/// # Errors
/// Those of [`kill`].
pub fn send(container: &Container, signal: i32, all: bool) -> Result<()> {
    match Aim::take(container, signal, all)? {
        Some(aim) => aim.send(container, signal),
        None => Ok(()),
    }
}

/// Whom a signal goes to.
struct Aim {
    groups: Option<Manager>,
    /// To all processes of the groups, not the first one alone.
    everyone: bool,
    /// The groups are frozen, and the signal is to be felt.
    thaw: bool,
}

impl Aim {
    /// Nothing where there is nobody left, and the caller only wants that.
    fn take(container: &Container, signal: i32, all: bool) -> Result<Option<Self>> {
        let groups = container.cgroups();
        let own_pids = container.record.own_pid_namespace;
        let status = container.status()?;
        if matches!(status, Status::Stopped | Status::Creating) {
            // Its first process has ended; others may live on where the pid namespace is shared.
            if !all {
                return Err(Error::NotRunning);
            }
            return Ok((groups.is_some() && !own_pids).then_some(Self {
                groups,
                everyone: true,
                thaw: false,
            }));
        }
        Ok(Some(Self {
            groups,
            everyone: all || (signal == SIGKILL && !own_pids),
            thaw: signal == SIGKILL && status == Status::Paused,
        }))
    }

    fn send(&self, container: &Container, signal: i32) -> Result<()> {
        match &self.groups {
            Some(groups) if self.everyone => to_all(groups, signal)?,
            _ if !container.init()?.signal(signal)? => return Err(Error::NotRunning),
            _ => {}
        }
        match &self.groups {
            Some(groups) if self.thaw => Ok(groups.thaw()?),
            _ => Ok(()),
        }
    }
}

fn to_all(manager: &Manager, signal: i32) -> Result<()> {
    if signal == SIGKILL {
        return Ok(manager.kill()?);
    }
    for pid in manager.procs(true)? {
        if let Some(process) = crate::ProcessId::of(pid)? {
            process.signal(signal)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_by_any_name() {
        let table = [
            ("9", 9),
            ("KILL", 9),
            ("SIGKILL", 9),
            ("sigterm", 15),
            ("term", 15),
            ("0", 0),
            ("SIGRTMIN", 34),
            ("RTMIN+3", 37),
            ("SIGRTMAX-1", 63),
            ("SYS", 31),
            ("HUP", 1),
            ("SIGWINCH", 28),
            ("64", 64),
        ];
        for (text, number) in table {
            assert_eq!(signal_number(text).unwrap(), number, "{text}");
        }
        assert_eq!(signal_name(9), "SIGKILL");
        assert_eq!(signal_name(37), "SIGRTMIN+3");
        assert_eq!(signal_name(0), "signal 0");
        for bad in [
            "",
            "SIG",
            "65",
            "-1",
            "RTMIN+31",
            "RTMAX-31",
            "KILLER",
            "SIGSIGKILL",
        ] {
            assert!(signal_number(bad).is_err(), "{bad}");
        }
    }
}
