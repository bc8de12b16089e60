//! From a checked profile to a program.
//!
//! The kernel hands a filter the number of a call, its architecture, and its arguments. The
//! program dispatches on the architecture, then searches the number among **ranges**: for every
//! architecture the numbers from 0 to 2³²−1 are cut into ranges with one outcome each, adjacent
//! ranges with the same outcome are one. Gaps between named calls, numbers beyond the newest
//! named call, and the numbers of the x32 side of x86_64 are ranges like all others.

use spec::oci::Seccomp;

use crate::arch::Arch;
use crate::bpf::{Emitter, Instruction, MAX_INSTRUCTIONS, code};
use crate::lower::Lowered;
use crate::ranges::{Outcome, Ranges, first_number};
use crate::words::action;
use crate::{Error, Filter, Options};

/// Offsets in `struct seccomp_data` (linux/seccomp.h).
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
/// A call of an architecture that the profile does not list (libseccomp's default).
const FOREIGN: u32 = action::KILL_THREAD;

/// Compiles with the defaults of [`Options`].
///
/// # Errors
/// The profile contradicts the specification, or is too long for the kernel.
pub fn compile(profile: &Seccomp) -> Result<Filter, Error> {
    compile_with(profile, &Options::default())
}

/// Compiles.
///
/// # Errors
/// The profile contradicts the specification, or is too long for the kernel.
pub fn compile_with(profile: &Seccomp, options: &Options) -> Result<Filter, Error> {
    let lowered = Lowered::new(profile, options)?;
    let program = program(&lowered, options);
    if program.len() > MAX_INSTRUCTIONS {
        return Err(Error::TooLong(program.len()));
    }
    Ok(Filter {
        program,
        flags: lowered.flags,
        notify: lowered.notify,
        warnings: lowered.warnings,
    })
}

/// Emits all (from the end to the start, see [`Emitter`]).
fn program(lowered: &Lowered<'_>, options: &Options) -> Vec<Instruction> {
    let mut out = Emitter::default();
    out.ret(FOREIGN);
    let mut audits: Vec<u32> = Vec::with_capacity(lowered.archs.len());
    for arch in &lowered.archs {
        if !audits.contains(&arch.audit()) {
            audits.push(arch.audit());
        }
    }
    // The native architecture is tested first, so it is emitted last.
    for audit in audits.into_iter().rev() {
        let end = out.len();
        section(lowered, audit, options, &mut out);
        let length = out.len() - end;
        out.skip_unless(code::JUMP_EQ, audit, length);
    }
    out.load(ARCH);
    out.finish()
}

/// All calls of one `AUDIT_ARCH_…`.
fn section(lowered: &Lowered<'_>, audit: u32, options: &Options, out: &mut Emitter) {
    let mut ranges = Ranges::default();
    // x32 calls come as x86_64 with a bit in the number: two sides of one number line.
    let sides: &[Arch] = if audit == Arch::X86_64.audit() {
        &[Arch::X86_64, Arch::X32]
    } else {
        let found = lowered.archs.iter().find(|a| a.audit() == audit);
        found.map_or(&[], std::slice::from_ref)
    };
    for arch in sides {
        if lowered.archs.contains(arch) {
            ranges.add_calls(lowered, *arch, options);
        } else {
            ranges.push(first_number(*arch), Outcome::Return(FOREIGN));
            // -1 is nobody's number: a tracer that wants a call not to be made leaves it.
            ranges.push(u32::MAX, Outcome::Return(lowered.default_action));
        }
    }
    search(ranges.as_slice(), lowered.default_action, out);
    out.load(NUMBER);
}

/// Emits the search among `ranges` (one at least): half of them at every test.
fn search(ranges: &[(u32, Outcome)], default_action: u32, out: &mut Emitter) {
    match ranges {
        [] => {}
        [(_, outcome)] => outcome.emit(default_action, out),
        _ => {
            let (low, high) = ranges.split_at(ranges.len() / 2);
            search(high, default_action, out);
            let end = out.len();
            search(low, default_action, out);
            let low_length = out.len() - end;
            let first_high = high.first().map_or(0, |(start, _)| *start);
            out.skip_if(code::JUMP_GE, first_high, low_length);
        }
    }
}
