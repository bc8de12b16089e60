//! The kernel's side of a filter: an interpreter of the BPF that seccomp takes.

#![expect(
    clippy::cast_possible_truncation,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use seccomp::Instruction;

/// In `Data::arch`: the low half of an argument is at the lower address.
const LITTLE: u32 = 0x4000_0000;

/// `struct seccomp_data`.
#[derive(Clone, Copy, Debug)]
pub struct Data {
    pub nr: u32,
    pub arch: u32,
    pub args: [u64; 6],
}

impl Data {
    fn word(&self, offset: u32) -> u32 {
        match offset {
            0 => self.nr,
            4 => self.arch,
            16..64 if offset.is_multiple_of(4) => {
                let arg = self.args[(offset as usize - 16) / 8];
                let low_first = self.arch & LITTLE != 0;
                let low = offset.is_multiple_of(8) == low_first;
                if low { arg as u32 } else { (arg >> 32) as u32 }
            }
            _ => panic!("load of {offset}, where no field that filters use begins"),
        }
    }
}

/// Runs a program; panics on whatever the kernel's checker would refuse.
pub fn run(program: &[Instruction], data: &Data) -> u32 {
    let (mut pc, mut a, mut x) = (0_usize, 0_u32, 0_u32);
    loop {
        let i = program[pc];
        pc += 1;
        let operand = if i.code & 0x08 == 0 { i.k } else { x };
        let mut branch = |taken: bool| pc += usize::from(if taken { i.jt } else { i.jf });
        match i.code {
            0x20 => a = data.word(i.k),
            0x00 => a = i.k,
            0x54 | 0x5c => a &= operand,
            0x44 | 0x4c => a |= operand,
            0x07 => x = a,
            0x87 => a = x,
            0x05 => pc += i.k as usize,
            0x15 | 0x1d => branch(a == operand),
            0x25 | 0x2d => branch(a > operand),
            0x35 | 0x3d => branch(a >= operand),
            0x45 | 0x4d => branch(a & operand != 0),
            0x06 => return i.k,
            0x16 => return a,
            code => panic!("instruction {pc}: unknown code {code:#x}"),
        }
    }
}

/// What the kernel's checker demands of every program: known length, jumps inside, a return last.
pub fn check(program: &[Instruction]) {
    assert!((1..=seccomp::MAX_INSTRUCTIONS).contains(&program.len()));
    for (pc, i) in program.iter().enumerate() {
        let behind = program.len() - pc - 1;
        let far = match i.code {
            0x05 => i.k as usize,
            code if code & 7 == 5 => usize::from(i.jt.max(i.jf)),
            _ => continue,
        };
        assert!(far < behind, "instruction {pc} jumps past the end");
    }
    assert_eq!(program.last().unwrap().code & 7, 6, "the end is no return");
}
