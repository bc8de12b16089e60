//! The number line of one architecture, cut into ranges with one outcome each.

use crate::Options;
use crate::arch::{Arch, X32_BIT};
use crate::bpf::Emitter;
use crate::condition::Condition;
use crate::lower::Lowered;
use crate::syscalls::Table;
use crate::words::action;

const ENOSYS: u32 = action::ERRNO | 38;
/// Private calls of ARM (cacheflush and others) have numbers from here on; they say nothing
/// about how new a call is.
const ARM_PRIVATE: u64 = 0x000f_0000;
/// Behind the last number.
const END: u64 = 1 << 32;

/// What a number leads to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    /// The action, whatever the arguments.
    Return(u32),
    /// The first alternative that holds decides, else the default action.
    Check(Arch, Vec<Alternative>),
}

/// Conditions that must all hold, and the action then.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Alternative {
    conditions: Vec<Condition>,
    action: u32,
}

/// First numbers of ranges with their outcomes, ascending; no two neighbours are equal.
#[derive(Debug, Default)]
pub(crate) struct Ranges(Vec<(u32, Outcome)>);

/// A rule that names a call: the call's number, the rule's place, and the condition that selects
/// the call where the number is a multiplexer's.
type Entry = (u32, usize, Option<Condition>);

/// Where an architecture's numbers begin.
pub(crate) const fn first_number(arch: Arch) -> u32 {
    if matches!(arch, Arch::X32) {
        X32_BIT
    } else {
        0
    }
}

/// Behind the last number of an architecture.
fn end_of(arch: Arch) -> u64 {
    if arch == Arch::X86_64 {
        u64::from(X32_BIT)
    } else {
        END
    }
}

impl Outcome {
    /// Emits what is done once the number is known.
    pub(crate) fn emit(&self, default_action: u32, out: &mut Emitter) {
        let (arch, alternatives) = match self {
            Self::Return(action) => return out.ret(*action),
            Self::Check(arch, alternatives) => (*arch, alternatives),
        };
        out.ret(default_action);
        for alternative in alternatives.iter().rev() {
            let end = out.len();
            out.ret(alternative.action);
            for condition in alternative.conditions.iter().rev() {
                // An alternative has one condition for each of six arguments at most, and a
                // condition six instructions at most: never near 255.
                let to_end = u8::try_from(out.len() - end).unwrap_or(u8::MAX);
                condition.emit(arch, to_end, out);
            }
        }
    }
}

impl Ranges {
    pub(crate) fn as_slice(&self) -> &[(u32, Outcome)] {
        &self.0
    }

    /// Begins a range.
    pub(crate) fn push(&mut self, start: u32, outcome: Outcome) {
        if self.0.last().is_none_or(|(_, last)| *last != outcome) {
            self.0.push((start, outcome));
        }
    }

    /// Adds all numbers of `arch`.
    pub(crate) fn add_calls(&mut self, lowered: &Lowered<'_>, arch: Arch, options: &Options) {
        let (mut entries, newest) = entries(lowered, arch);
        entries.sort_by_key(|(number, ..)| *number);
        let newest = newest.filter(|_| options.enosys && !is_permissive(lowered.default_action));
        let unknown = unknown_numbers(arch, newest);
        let default = Outcome::Return(lowered.default_action);
        let mut next = u64::from(first_number(arch));
        for same in entries.chunk_by(|a, b| a.0 == b.0) {
            let number = same[0].0;
            self.add_gap(next, u64::from(number), &unknown, &default);
            self.push(number, outcome(lowered, arch, same));
            next = u64::from(number) + 1;
        }
        self.add_gap(next, end_of(arch), &unknown, &default);
    }

    /// Adds the numbers from `from` up to `to` that no rule is for.
    fn add_gap(&mut self, from: u64, to: u64, unknown: &[(u64, u64)], default: &Outcome) {
        let mut next = from;
        for (start, end) in unknown {
            let (start, end) = ((*start).max(next), (*end).min(to));
            if start < end {
                self.add(next, start, default);
                self.add(start, end, &Outcome::Return(ENOSYS));
                next = end;
            }
        }
        self.add(next, to, default);
    }

    fn add(&mut self, from: u64, to: u64, outcome: &Outcome) {
        if let (true, Ok(start)) = (from < to, u32::try_from(from)) {
            self.push(start, outcome.clone());
        }
    }
}

/// The rules for numbers of `arch`, and the largest number that the profile names.
fn entries(lowered: &Lowered<'_>, arch: Arch) -> (Vec<Entry>, Option<u32>) {
    let table = arch.table();
    let mut entries = Vec::with_capacity(lowered.named.len());
    let mut newest = None;
    for (call, place) in &lowered.named {
        let number = call.row.number(table);
        if number.is_some_and(|n| arch != Arch::Arm || u64::from(n) < ARM_PRIVATE) {
            newest = newest.max(number);
        }
        let Some(place) = *place else { continue };
        if let Some(number) = number {
            entries.push((number, place, None));
        }
        if let Some((row, condition)) = call.multiplexer
            && arch.multiplexes()
            && let Some(number) = row.number(table)
        {
            entries.push((number, place, Some(condition)));
        }
    }
    (entries, newest)
}

/// Numbers of calls that the profile's author cannot have known, from `from` up to `to`: those
/// above the newest call that the profile names (the rule of runc). A program that tries such a
/// call is told that it is not there and goes another way, where EPERM would make it give up.
fn unknown_numbers(arch: Arch, newest: Option<u32>) -> Vec<(u64, u64)> {
    let Some(newest) = newest else {
        return Vec::new();
    };
    let end = match arch {
        Arch::Arm => ARM_PRIVATE,
        arch => end_of(arch),
    };
    let newer = (u64::from(newest) + 1, end);
    // s390 reports numbers above 255 that it does not know as 0.
    match arch.table() {
        Table::S390 | Table::S390x => vec![(0, 1), newer],
        _ => vec![newer],
    }
}

/// Calls that no rule names succeed, or a tracer decides: then nothing is unknown.
const fn is_permissive(default_action: u32) -> bool {
    matches!(
        default_action & action::MASK,
        action::ALLOW | action::LOG | action::TRACE
    )
}

/// What the rules for one number come to.
///
/// The first rule without conditions decides alone, wherever it stands among the others (so
/// libseccomp has it); the same goes for one call below a multiplexer. Among rules with conditions
/// the first that holds decides.
fn outcome(lowered: &Lowered<'_>, arch: Arch, entries: &[Entry]) -> Outcome {
    let mut alternatives: Vec<Alternative> = Vec::new();
    // Rules for calls below a multiplexer that have no conditions of their own.
    let mut plain = 0;
    for (_, place, selector) in entries {
        let rule = &lowered.rules[*place];
        for conditions in &rule.alternatives {
            let own = conditions
                .iter()
                .filter(|c| selector.is_none() || c.index != 0);
            let seen = selector.iter().chain(own).map(|c| c.for_arch(arch));
            let conditions: Vec<Condition> = seen.filter(|c| !c.is_tautology()).collect();
            if conditions.is_empty() {
                return Outcome::Return(rule.action);
            }
            if alternatives.iter().all(|a| a.conditions != conditions) {
                let is_plain = selector.is_some() && conditions.len() == 1;
                let action = rule.action;
                let at = if is_plain { plain } else { alternatives.len() };
                alternatives.insert(at, Alternative { conditions, action });
                plain += usize::from(is_plain);
            }
        }
    }
    Outcome::Check(arch, alternatives)
}
