//! The specification's words for actions, operators and flags.

use crate::Error;

/// Actions by word: SECCOMP_RET_… of linux/seccomp.h.
static ACTIONS: [(&str, u32); 9] = [
    ("SCMP_ACT_KILL", action::KILL_THREAD),
    ("SCMP_ACT_KILL_PROCESS", action::KILL_PROCESS),
    ("SCMP_ACT_KILL_THREAD", action::KILL_THREAD),
    ("SCMP_ACT_TRAP", action::TRAP),
    ("SCMP_ACT_ERRNO", action::ERRNO),
    ("SCMP_ACT_TRACE", action::TRACE),
    ("SCMP_ACT_ALLOW", action::ALLOW),
    ("SCMP_ACT_LOG", action::LOG),
    ("SCMP_ACT_NOTIFY", action::NOTIFY),
];

/// Flags by word: SECCOMP_FILTER_FLAG_… of linux/seccomp.h.
static FLAGS: [(&str, u32); 4] = [
    ("SECCOMP_FILTER_FLAG_TSYNC", flag::TSYNC),
    ("SECCOMP_FILTER_FLAG_LOG", flag::LOG),
    ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", flag::SPEC_ALLOW),
    (
        "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
        flag::WAIT_KILLABLE_RECV,
    ),
];

static OPERATORS: [(&str, Operator); 7] = [
    ("SCMP_CMP_NE", Operator::Ne),
    ("SCMP_CMP_LT", Operator::Lt),
    ("SCMP_CMP_LE", Operator::Le),
    ("SCMP_CMP_EQ", Operator::Eq),
    ("SCMP_CMP_GE", Operator::Ge),
    ("SCMP_CMP_GT", Operator::Gt),
    ("SCMP_CMP_MASKED_EQ", Operator::MaskedEq),
];

/// What a filter returns (SECCOMP_RET_…); the low 16 bits carry data.
pub mod action {
    /// Kill the process.
    pub const KILL_PROCESS: u32 = 0x8000_0000;
    /// Kill the thread.
    pub const KILL_THREAD: u32 = 0;
    /// Send SIGSYS.
    pub const TRAP: u32 = 0x0003_0000;
    /// Return an errno: the data.
    pub const ERRNO: u32 = 0x0005_0000;
    /// Ask the listener.
    pub const NOTIFY: u32 = 0x7fc0_0000;
    /// Ask the tracer, who gets the data.
    pub const TRACE: u32 = 0x7ff0_0000;
    /// Let it pass and log it.
    pub const LOG: u32 = 0x7ffc_0000;
    /// Let it pass.
    pub const ALLOW: u32 = 0x7fff_0000;
    /// All but the data.
    pub const MASK: u32 = 0xffff_0000;
}

/// How a filter is installed (SECCOMP_FILTER_FLAG_…).
pub mod flag {
    /// All threads of the process get it.
    pub const TSYNC: u32 = 1;
    /// Log what is not allowed.
    pub const LOG: u32 = 1 << 1;
    /// Leave speculative store bypass as it is.
    pub const SPEC_ALLOW: u32 = 1 << 2;
    /// Return a listener for NOTIFY.
    pub const NEW_LISTENER: u32 = 1 << 3;
    /// With TSYNC: fail with ESRCH, so that it can stand beside NEW_LISTENER.
    pub const TSYNC_ESRCH: u32 = 1 << 4;
    /// A notification that was received can only be interrupted by a fatal signal.
    pub const WAIT_KILLABLE_RECV: u32 = 1 << 5;
}

/// How an argument is compared.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Operator {
    Ne,
    Lt,
    Le,
    Eq,
    Ge,
    Gt,
    MaskedEq,
}

/// Words of all actions, as `features` lists them.
pub fn actions() -> impl Iterator<Item = &'static str> {
    ACTIONS.iter().map(|(word, _)| *word)
}

/// Words of all operators, as `features` lists them.
pub fn operators() -> impl Iterator<Item = &'static str> {
    OPERATORS.iter().map(|(word, _)| *word)
}

/// Words and bits of all flags; which of them the running kernel takes is asked of the kernel.
pub fn flags() -> impl Iterator<Item = (&'static str, u32)> {
    FLAGS.iter().copied()
}

const EPERM: u32 = 1;
/// The largest errno a system call can return (MAX_ERRNO of linux/err.h).
const MAX_ERRNO: u32 = 4095;
/// A tracer gets 16 bits.
const MAX_DATA: u32 = 0xffff;

/// The return value of an action.
pub(crate) fn parse_action(word: &str, errno: Option<u32>) -> Result<u32, Error> {
    let found = ACTIONS.iter().find(|(w, _)| *w == word);
    let (_, action) = found.ok_or_else(|| Error::UnknownAction(word.to_owned()))?;
    let max = match *action {
        action::ERRNO => MAX_ERRNO,
        action::TRACE => MAX_DATA,
        plain => {
            return match errno {
                None => Ok(plain),
                Some(value) => Err(Error::ErrnoUnused {
                    action: word.to_owned(),
                    value,
                }),
            };
        }
    };
    let value = errno.unwrap_or(EPERM);
    if value > max {
        return Err(Error::ErrnoRange {
            action: word.to_owned(),
            value,
            max,
        });
    }
    Ok(action | value)
}

pub(crate) fn parse_operator(word: &str) -> Result<Operator, Error> {
    let found = OPERATORS.iter().find(|(w, _)| *w == word);
    let (_, operator) = found.ok_or_else(|| Error::UnknownOperator(word.to_owned()))?;
    Ok(*operator)
}

pub(crate) fn parse_flag(word: &str) -> Result<u32, Error> {
    let found = FLAGS.iter().find(|(w, _)| *w == word);
    let (_, bit) = found.ok_or_else(|| Error::UnknownFlag(word.to_owned()))?;
    Ok(*bit)
}

/// The word of an action as it is in a program, with its data.
#[must_use]
pub fn describe_action(value: u32) -> String {
    // KILL_THREAD has two words; the second is the clear one.
    let found = ACTIONS
        .iter()
        .rev()
        .find(|(_, a)| *a == value & action::MASK);
    match (found, value & !action::MASK) {
        (Some((word, _)), 0) => (*word).to_owned(),
        (Some((word, _)), data) => format!("{word}({data})"),
        (None, _) => format!("{value:#010x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errno_defaults_to_eperm_and_is_bounded() {
        assert_eq!(parse_action("SCMP_ACT_ERRNO", None).unwrap(), 0x0005_0001);
        assert_eq!(
            parse_action("SCMP_ACT_ERRNO", Some(38)).unwrap(),
            0x0005_0026
        );
        assert_eq!(parse_action("SCMP_ACT_TRACE", None).unwrap(), 0x7ff0_0001);
        let e = parse_action("SCMP_ACT_ERRNO", Some(4096)).unwrap_err();
        assert_eq!(
            e.to_string(),
            "seccomp: errnoRet 4096 of SCMP_ACT_ERRNO is above 4095"
        );
        let e = parse_action("SCMP_ACT_ALLOW", Some(1)).unwrap_err();
        assert_eq!(
            e.to_string(),
            "seccomp: errnoRet 1 given for SCMP_ACT_ALLOW, which takes none"
        );
        assert!(parse_action("ALLOW", None).is_err());
    }

    #[test]
    fn actions_are_described_by_their_words() {
        assert_eq!(describe_action(0), "SCMP_ACT_KILL_THREAD");
        assert_eq!(describe_action(0x0005_0026), "SCMP_ACT_ERRNO(38)");
        assert_eq!(describe_action(0x0100_0000), "0x01000000");
    }
}
