//! Classic BPF: instructions, and the emitter.

/// Most instructions the kernel takes (BPF_MAXINSNS of linux/bpf_common.h).
pub const MAX_INSTRUCTIONS: usize = 4096;

/// The codes a filter of ours is made of (linux/bpf_common.h).
pub(crate) mod code {
    /// BPF_LD | BPF_W | BPF_ABS.
    pub const LOAD: u16 = 0x20;
    /// BPF_ALU | BPF_AND | BPF_K.
    pub const AND: u16 = 0x54;
    /// BPF_JMP | BPF_JA.
    pub const JUMP: u16 = 0x05;
    /// BPF_JMP | BPF_JEQ | BPF_K.
    pub const JUMP_EQ: u16 = 0x15;
    /// BPF_JMP | BPF_JGT | BPF_K.
    pub const JUMP_GT: u16 = 0x25;
    /// BPF_JMP | BPF_JGE | BPF_K.
    pub const JUMP_GE: u16 = 0x35;
    /// BPF_RET | BPF_K.
    pub const RETURN: u16 = 0x06;
}

/// One instruction: `struct sock_filter` of linux/filter.h.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// Instructions skipped when a test holds.
    pub jt: u8,
    /// Instructions skipped when it does not.
    pub jf: u8,
    /// The operand.
    pub k: u32,
}

impl Instruction {
    /// As the kernel reads it, in this machine's byte order.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 8] {
        let [c0, c1] = self.code.to_ne_bytes();
        let [k0, k1, k2, k3] = self.k.to_ne_bytes();
        [c0, c1, self.jt, self.jf, k0, k1, k2, k3]
    }

    /// The inverse of [`Self::to_bytes`].
    #[must_use]
    pub const fn from_bytes(b: [u8; 8]) -> Self {
        Self {
            code: u16::from_ne_bytes([b[0], b[1]]),
            jt: b[2],
            jf: b[3],
            k: u32::from_ne_bytes([b[4], b[5], b[6], b[7]]),
        }
    }
}

/// A program under construction, **from its end to its start**: whatever a jump skips has been
/// emitted before the jump, so every distance is known when it is needed.
#[derive(Debug, Default)]
pub(crate) struct Emitter {
    reversed: Vec<Instruction>,
}

impl Emitter {
    /// Instructions so far; the difference of two is a jump's distance.
    pub(crate) fn len(&self) -> usize {
        self.reversed.len()
    }

    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) {
        self.reversed.push(Instruction { code, jt, jf, k });
    }

    pub(crate) fn load(&mut self, offset: u32) {
        self.push(code::LOAD, 0, 0, offset);
    }

    pub(crate) fn and(&mut self, mask: u32) {
        self.push(code::AND, 0, 0, mask);
    }

    pub(crate) fn ret(&mut self, value: u32) {
        self.push(code::RETURN, 0, 0, value);
    }

    /// A test with both ways near.
    pub(crate) fn test(&mut self, code: u16, k: u32, yes: u8, no: u8) {
        self.push(code, yes, no, k);
    }

    /// Skips the last `skip` instructions where the test holds. A test can skip 255; where that
    /// is too few, it steps over a jump that has 32 bits for its distance.
    pub(crate) fn skip_if(&mut self, code: u16, k: u32, skip: usize) {
        if let Ok(near) = u8::try_from(skip) {
            self.push(code, near, 0, k);
        } else {
            self.jump(skip);
            self.push(code, 0, 1, k);
        }
    }

    /// Skips the last `skip` instructions unless the test holds.
    pub(crate) fn skip_unless(&mut self, code: u16, k: u32, skip: usize) {
        if let Ok(near) = u8::try_from(skip) {
            self.push(code, 0, near, k);
        } else {
            self.jump(skip);
            self.push(code, 1, 0, k);
        }
    }

    fn jump(&mut self, skip: usize) {
        // Beyond u32 the program is refused for its length anyway.
        self.push(code::JUMP, 0, 0, u32::try_from(skip).unwrap_or(u32::MAX));
    }

    /// The program, in order.
    pub(crate) fn finish(mut self) -> Vec<Instruction> {
        self.reversed.reverse();
        self.reversed
    }
}
