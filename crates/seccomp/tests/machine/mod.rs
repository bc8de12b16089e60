//! The kernel's side of a filter: an interpreter of the BPF that seccomp takes.

use seccomp::Instruction;

/// `struct seccomp_data`.
#[derive(Clone, Copy, Debug)]
pub struct Data {
    pub nr: u32,
    pub arch: u32,
    pub args: [u64; 6],
}

impl Data {
    fn word(&self, offset: u32) -> u32 {
        let mut bytes = [0_u8; 64];
        bytes[0..4].copy_from_slice(&self.nr.to_ne_bytes());
        bytes[4..8].copy_from_slice(&self.arch.to_ne_bytes());
        for (i, arg) in self.args.iter().enumerate() {
            bytes[16 + 8 * i..24 + 8 * i].copy_from_slice(&arg.to_ne_bytes());
        }
        assert!(offset % 4 == 0, "unaligned load at {offset}");
        let at = offset as usize;
        u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap())
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
