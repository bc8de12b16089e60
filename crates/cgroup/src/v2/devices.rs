//! Device rules as a BPF program (bpf(2), BPF_PROG_TYPE_CGROUP_DEVICE).
//!
//! The program holds the rights given so far in a register, goes through the rules in order, and
//! allows the access when all rights it needs are given: the meaning of [`crate::devices`] word
//! for word, with nothing that it could not say.

use std::os::fd::AsFd;

use spec::oci::DeviceRule;
use sys::bpf::{self, Insn};
use sys::{Errno, trace};

use crate::devices::{ALL, Kind, Rule, parse};
use crate::dir::Dir;
use crate::error::Result;

/// Puts the rules in force, in one step for whoever runs in the group already.
pub(crate) fn apply(dir: &Dir, rules: &[DeviceRule]) -> Result<()> {
    let program = emit(&parse(rules)?);
    let attach = || attach(dir, &program);
    trace::step(
        "bpf",
        || format!("{} device rules on {:?}", rules.len(), dir.path()),
        attach,
    )
}

fn attach(dir: &Dir, program: &[Insn]) -> Result<()> {
    let cgroup = dir.fd()?;
    let new = bpf::load_cgroup_device(program)?;
    let old = bpf::cgroup_device_programs(cgroup)?;
    if let [only] = &old[..] {
        match replace(cgroup, new.as_fd(), only.as_fd()) {
            Err(e) if matches!(e.errno, Errno::INVAL | Errno::NOSYS) => {}
            other => return Ok(other?),
        }
    }
    // Every attached program must allow an access, so there is no moment without rules.
    bpf::attach_cgroup_device(cgroup, new.as_fd(), None)?;
    for program in &old {
        bpf::detach_cgroup_device(cgroup, program.as_fd())?;
    }
    Ok(())
}

fn replace(
    cgroup: std::os::fd::BorrowedFd<'_>,
    new: std::os::fd::BorrowedFd<'_>,
    old: std::os::fd::BorrowedFd<'_>,
) -> sys::Result<()> {
    sys::knob::check("bpf_f_replace")
        .map_err(|e| sys::Error::new("bpf", "BPF_PROG_ATTACH, BPF_F_REPLACE", e))?;
    bpf::attach_cgroup_device(cgroup, new, Some(old))
}

// Operation codes of linux/bpf_common.h and linux/bpf.h.
const LOAD_WORD: u8 = 0x61;
const MOVE_REGISTER: u8 = 0xbf;
const MOVE: u8 = 0xb7;
const AND: u8 = 0x57;
const AND_REGISTER: u8 = 0x5f;
const OR: u8 = 0x47;
const SHIFT_RIGHT: u8 = 0x77;
const JUMP_NOT_EQUAL: u8 = 0x55;
const JUMP_EQUAL_REGISTER: u8 = 0x1d;
const EXIT: u8 = 0x95;

/// What the registers hold. 1 is the pointer to struct bpf_cgroup_dev_ctx, by convention.
const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
const ACCESS: u8 = 2;
const KIND: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const GIVEN: u8 = 6;

fn insn(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Insn {
    Insn {
        code,
        registers: from << 4 | to,
        offset,
        immediate,
    }
}

/// Writes the program.
fn emit(rules: &[Rule]) -> Vec<Insn> {
    // access_type is (access << 16) | kind.
    let mut program = vec![
        insn(LOAD_WORD, ACCESS, CONTEXT, 0, 0),
        insn(MOVE_REGISTER, KIND, ACCESS, 0, 0),
        insn(AND, KIND, 0, 0, 0xffff),
        insn(SHIFT_RIGHT, ACCESS, 0, 0, 16),
        insn(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        insn(LOAD_WORD, MINOR, CONTEXT, 8, 0),
        insn(MOVE, GIVEN, 0, 0, 0),
    ];
    for rule in rules {
        program.extend(emit_rule(rule));
    }
    program.extend([
        insn(AND_REGISTER, GIVEN, ACCESS, 0, 0),
        insn(MOVE, RESULT, 0, 0, 1),
        insn(JUMP_EQUAL_REGISTER, GIVEN, ACCESS, 1, 0),
        insn(MOVE, RESULT, 0, 0, 0),
        insn(EXIT, 0, 0, 0, 0),
    ]);
    program
}

fn emit_rule(rule: &Rule) -> Vec<Insn> {
    let kind = rule.devices.kind.map(|kind| match kind {
        Kind::Block => 1,
        Kind::Char => 2,
    });
    let wanted = [
        (KIND, kind),
        (MAJOR, rule.devices.major),
        (MINOR, rule.devices.minor),
    ];
    let wanted = wanted
        .iter()
        .filter_map(|&(reg, v)| v.map(|v| (reg, i32::try_from(v))));
    let mut tests = Vec::new();
    for (register, value) in wanted {
        // The kernel's device numbers have 12 and 20 bits: a larger one matches nothing.
        let Ok(value) = value else { return Vec::new() };
        tests.push((register, value));
    }
    let mut code = Vec::with_capacity(tests.len() + 1);
    for (distance, (register, value)) in (1_i16..).zip(tests.iter().rev()) {
        code.push(insn(JUMP_NOT_EQUAL, *register, 0, distance, *value));
    }
    code.reverse();
    code.push(if rule.allow {
        insn(OR, GIVEN, 0, 0, i32::from(rule.access))
    } else {
        insn(AND, GIVEN, 0, 0, i32::from(ALL & !rule.access))
    });
    code
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::devices::tests::{rule, some_devices, some_rules};
    use crate::devices::{Access, Devices, rights};

    /// Runs a program as the kernel would; panics on anything it should not contain.
    fn run(program: &[Insn], device: Devices, access: Access) -> u64 {
        let kind = match device.kind.unwrap() {
            Kind::Block => 1,
            Kind::Char => 2,
        };
        let context = [
            u32::from(access) << 16 | kind,
            device.major.unwrap(),
            device.minor.unwrap(),
        ];
        let mut r = [0_u64; 11];
        let mut at = 0_usize;
        while let Some(i) = program.get(at) {
            at += 1;
            let (to, from) = (usize::from(i.registers & 15), usize::from(i.registers >> 4));
            let immediate = i64::from(i.immediate).cast_unsigned();
            let mut jump = |taken: bool| {
                if taken {
                    at += usize::try_from(i.offset).unwrap();
                }
            };
            match i.code {
                LOAD_WORD => {
                    assert_eq!(from, usize::from(CONTEXT));
                    r[to] = context[usize::try_from(i.offset).unwrap() / 4].into();
                }
                MOVE_REGISTER => r[to] = r[from],
                MOVE => r[to] = immediate,
                AND => r[to] &= immediate,
                AND_REGISTER => r[to] &= r[from],
                OR => r[to] |= immediate,
                SHIFT_RIGHT => r[to] >>= immediate,
                JUMP_NOT_EQUAL => jump(r[to] != immediate),
                JUMP_EQUAL_REGISTER => jump(r[to] == r[from]),
                EXIT => return r[0],
                other => panic!("unexpected operation {other:#x}"),
            }
        }
        panic!("the program does not end");
    }

    #[test]
    fn numbers_that_no_device_has() {
        let rules = [
            rule(true, "c", 0xffff_ffff, 1, "r"),
            rule(true, "b", 8, 0, "r"),
        ];
        let program = emit(&parse(&rules).unwrap());
        assert_eq!(program.len(), 12 + 4);
    }

    proptest! {
        #[test]
        fn means_what_the_rules_mean(rules in some_rules()) {
            let rules = parse(&rules).unwrap();
            let program = emit(&rules);
            for device in some_devices() {
                let given = rights(&rules, device);
                for access in 1..=ALL {
                    let want = u64::from(given & access == access);
                    prop_assert_eq!(run(&program, device, access), want);
                }
            }
        }
    }
}
