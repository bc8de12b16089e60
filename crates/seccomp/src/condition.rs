//! Conditions on arguments, and the code that tests them.

use crate::arch::Arch;
use crate::bpf::{Emitter, code};
use crate::words::Operator;

/// Offset of `args` in `struct seccomp_data` (linux/seccomp.h).
const ARGS: u32 = 16;

/// A condition on one argument, as wide as the architecture compares.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Condition {
    pub index: u32,
    pub operator: Operator,
    /// The value; of MASKED_EQ the masked value.
    pub value: u64,
    /// All ones but for MASKED_EQ.
    pub mask: u64,
}

/// Where a step goes on.
#[derive(Clone, Copy)]
enum To {
    /// The step behind it.
    Next,
    /// Behind the condition: it holds.
    Pass,
    /// Behind the rule: it does not.
    Fail,
}

#[derive(Clone, Copy)]
enum Step {
    Load(u32),
    And(u32),
    Test(u16, u32, To, To),
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "splits a value into its halves"
)]
const fn halves(value: u64) -> (u32, u32) {
    ((value >> 32) as u32, value as u32)
}

impl Condition {
    pub(crate) const fn new(index: u32, operator: Operator, value: u64, value_two: u64) -> Self {
        let (value, mask) = match operator {
            Operator::MaskedEq => (value_two & value, value),
            _ => (value, u64::MAX),
        };
        Self {
            index,
            operator,
            value,
            mask,
        }
    }

    /// The argument's low bits, under `mask`, are `value`.
    pub(crate) const fn low_bits(index: u32, mask: u32, value: u32) -> Self {
        Self::new(index, Operator::MaskedEq, mask as u64, value as u64)
    }

    /// As `arch` sees it: where arguments have 32 bits the high halves do not count, neither of
    /// the argument nor of the value (libseccomp cuts the value off in the same way).
    pub(crate) fn for_arch(mut self, arch: Arch) -> Self {
        if !arch.compares_64() {
            self.value &= u64::from(u32::MAX);
            self.mask &= u64::from(u32::MAX);
        }
        self
    }

    /// Holds for every argument.
    pub(crate) const fn is_tautology(&self) -> bool {
        matches!(self.operator, Operator::MaskedEq) && self.mask == 0
    }

    /// Emits the test: falls through where it holds, skips `fail` instructions behind itself
    /// where it does not.
    pub(crate) fn emit(&self, arch: Arch, fail: u8, out: &mut Emitter) {
        let base = ARGS + 8 * self.index;
        let (hi_at, lo_at) = if arch.little_endian() {
            (base + 4, base)
        } else {
            (base, base + 4)
        };
        let mut steps = Vec::with_capacity(6);
        if arch.compares_64() {
            self.steps_64(hi_at, lo_at, &mut steps);
        } else {
            self.steps_32(lo_at, &mut steps);
        }
        for (behind, step) in (0_u8..).zip(steps.iter().rev()) {
            let distance = |to: To| match to {
                To::Next => 0,
                To::Pass => behind,
                To::Fail => behind + fail,
            };
            match *step {
                Step::Load(offset) => out.load(offset),
                Step::And(mask) => out.and(mask),
                Step::Test(code, k, yes, no) => out.test(code, k, distance(yes), distance(no)),
            }
        }
    }

    /// The last test: on the low half, or on the whole of a 32-bit argument.
    fn low_test(&self) -> Step {
        use To::{Fail, Pass};
        let lo = halves(self.value).1;
        match self.operator {
            Operator::Eq | Operator::MaskedEq => Step::Test(code::JUMP_EQ, lo, Pass, Fail),
            Operator::Ne => Step::Test(code::JUMP_EQ, lo, Fail, Pass),
            Operator::Gt => Step::Test(code::JUMP_GT, lo, Pass, Fail),
            Operator::Ge => Step::Test(code::JUMP_GE, lo, Pass, Fail),
            Operator::Lt => Step::Test(code::JUMP_GE, lo, Fail, Pass),
            Operator::Le => Step::Test(code::JUMP_GT, lo, Fail, Pass),
        }
    }

    fn steps_32(&self, at: u32, steps: &mut Vec<Step>) {
        steps.push(Step::Load(at));
        let mask = halves(self.mask).1;
        if mask != u32::MAX {
            steps.push(Step::And(mask));
        }
        steps.push(self.low_test());
    }

    fn steps_64(&self, hi_at: u32, lo_at: u32, steps: &mut Vec<Step>) {
        use To::{Fail, Next, Pass};
        let (hi, _) = halves(self.value);
        let (hi_mask, lo_mask) = halves(self.mask);
        if hi_mask != 0 {
            steps.push(Step::Load(hi_at));
        }
        match self.operator {
            Operator::MaskedEq if hi_mask == 0 => {}
            Operator::Eq | Operator::MaskedEq => {
                if hi_mask != u32::MAX {
                    steps.push(Step::And(hi_mask));
                }
                steps.push(Step::Test(code::JUMP_EQ, hi, Next, Fail));
            }
            Operator::Ne => steps.push(Step::Test(code::JUMP_EQ, hi, Next, Pass)),
            Operator::Gt | Operator::Ge => {
                steps.push(Step::Test(code::JUMP_GT, hi, Pass, Next));
                steps.push(Step::Test(code::JUMP_EQ, hi, Next, Fail));
            }
            Operator::Lt | Operator::Le => {
                steps.push(Step::Test(code::JUMP_GT, hi, Fail, Next));
                steps.push(Step::Test(code::JUMP_EQ, hi, Next, Pass));
            }
        }
        if lo_mask != 0 {
            self.steps_32(lo_at, steps);
        }
    }
}
