//! A profile's rules, checked and with words turned into numbers.

use spec::oci::{Seccomp, SyscallArg, SyscallRule};

use crate::condition::Condition;
use crate::syscalls::{Finder, Row};
use crate::words::{action, flag, parse_action, parse_flag, parse_operator};
use crate::{Arch, Error, Options, multiplex};

/// A profile without words.
#[derive(Debug)]
pub(crate) struct Lowered<'p> {
    pub default_action: u32,
    /// The native architecture first, then those of the profile that its kernel knows; each once.
    pub archs: Vec<Arch>,
    pub flags: u32,
    pub notify: bool,
    pub rules: Vec<Rule>,
    /// Calls named by any rule, with the rule's place in `rules`; `None` where the rule is
    /// passed over because it says what the default says.
    pub named: Vec<(Call, Option<usize>)>,
    /// Names that no table has.
    pub unknown: Vec<&'p str>,
    /// What the caller should tell the user.
    pub warnings: Vec<String>,
}

/// A call in all tables.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub row: Row,
    pub multiplexer: Option<(Row, Condition)>,
}

/// What happens when one of `alternatives` holds.
#[derive(Debug)]
pub(crate) struct Rule {
    pub action: u32,
    /// All conditions of one alternative must hold; an empty one always does.
    pub alternatives: Vec<Vec<Condition>>,
}

impl<'p> Lowered<'p> {
    pub(crate) fn new(profile: &'p Seccomp, options: &Options) -> Result<Self, Error> {
        let default_action = parse_action(&profile.default_action, profile.default_errno_ret)?;
        if default_action == action::NOTIFY {
            return Err(Error::Notify("as the default action"));
        }
        let mut lowered = Self {
            default_action,
            archs: archs(profile, options.native)?,
            flags: 0,
            notify: false,
            rules: Vec::with_capacity(profile.syscalls.len()),
            named: Vec::with_capacity(512),
            unknown: Vec::new(),
            warnings: Vec::new(),
        };
        let mut finder = Finder::default();
        for rule in &profile.syscalls {
            lowered.add(rule, &mut finder)?;
        }
        if options.strict
            && let Some(name) = lowered.unknown.first()
        {
            return Err(Error::UnknownSyscall((*name).to_owned()));
        }
        if !lowered.unknown.is_empty() {
            let names = lowered.unknown.join(", ");
            let warning = format!("seccomp: unknown system calls are passed over: {names}");
            lowered.warnings.push(warning);
        }
        lowered.set_flags(profile.flags.as_deref())?;
        Ok(lowered)
    }

    fn add(&mut self, rule: &'p SyscallRule, finder: &mut Finder) -> Result<(), Error> {
        let action = parse_action(&rule.action, rule.errno_ret)?;
        let alternatives = alternatives(rule)?;
        let notify = action == action::NOTIFY;
        // A rule that says what the default says is passed over: it shadows nothing.
        let place = (action != self.default_action).then_some(self.rules.len());
        for name in &rule.names {
            if name.is_empty() {
                return Err(Error::EmptyName);
            }
            // The process that installs the filter has yet to tell its parent the listener's
            // descriptor number.
            if notify && name == "write" {
                return Err(Error::Notify("for write"));
            }
            match finder.find(name) {
                Some(row) => self.named.push((Call::new(row, name), place)),
                None => self.unknown.push(name),
            }
        }
        self.notify |= notify && !rule.names.is_empty();
        if place.is_some() {
            self.rules.push(Rule {
                action,
                alternatives,
            });
        }
        Ok(())
    }

    fn set_flags(&mut self, words: Option<&[String]>) -> Result<(), Error> {
        // Where a profile says nothing of flags, runc asks for SPEC_ALLOW; an empty list is an
        // answer.
        self.flags = match words {
            None => flag::SPEC_ALLOW,
            Some(words) => words
                .iter()
                .try_fold(0, |bits, word| Ok::<_, Error>(bits | parse_flag(word)?))?,
        };
        if self.notify {
            self.flags |= flag::NEW_LISTENER;
            // The kernel refuses the two together unless told how a failure is to look.
            if self.flags & flag::TSYNC != 0 {
                self.flags |= flag::TSYNC_ESRCH;
            }
        } else if self.flags & flag::WAIT_KILLABLE_RECV != 0 {
            self.flags &= !flag::WAIT_KILLABLE_RECV;
            let warning = "seccomp: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV has no meaning \
                           without SCMP_ACT_NOTIFY";
            self.warnings.push(warning.to_owned());
        }
        Ok(())
    }
}

impl Call {
    fn new(row: Row, name: &str) -> Self {
        let multiplexer = multiplex::find(name);
        Self {
            row,
            multiplexer: multiplexer
                .and_then(|(name, when)| Some((Finder::default().find(name)?, when))),
        }
    }
}

fn archs(profile: &Seccomp, native: Arch) -> Result<Vec<Arch>, Error> {
    let mut archs = vec![native];
    for word in &profile.architectures {
        let arch = Arch::parse(word)?;
        // What this machine's kernel cannot report needs no code.
        if arch.shares_kernel(native) && !archs.contains(&arch) {
            archs.push(arch);
        }
    }
    Ok(archs)
}

/// The conditions of a rule. One argument can be compared once in a rule; where a rule compares
/// one twice, each of its conditions counts as a rule of its own (so runc has it).
fn alternatives(rule: &SyscallRule) -> Result<Vec<Vec<Condition>>, Error> {
    let condition = |arg: &SyscallArg| {
        if arg.index > 5 {
            return Err(Error::ArgumentIndex {
                name: rule.names.first().cloned().unwrap_or_default(),
                index: arg.index,
            });
        }
        let operator = parse_operator(&arg.op)?;
        Ok(Condition::new(
            arg.index,
            operator,
            arg.value,
            arg.value_two,
        ))
    };
    let conditions = rule.args.iter().map(condition);
    let mut conditions = conditions.collect::<Result<Vec<_>, _>>()?;
    conditions.sort_by_key(|c| c.index);
    let repeated = conditions.windows(2).any(|w| w[0].index == w[1].index);
    Ok(if repeated {
        conditions.into_iter().map(|c| vec![c]).collect()
    } else {
        vec![conditions]
    })
}
