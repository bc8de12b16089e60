//! Architectures: their words, their audit numbers, and how a filter reads their calls.

use crate::Error;
use crate::syscalls::Table;

/// Set in the number of every x32 call (arch/x86/include/uapi/asm/unistd.h).
pub const X32_BIT: u32 = 0x4000_0000;

/// Flags in an `AUDIT_ARCH_…` number (linux/audit.h).
const BITS64: u32 = 0x8000_0000;
const LITTLE: u32 = 0x4000_0000;
const N32: u32 = 0x2000_0000;

/// An architecture a profile may name: `SCMP_ARCH_…`.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[expect(missing_docs, reason = "the words are the specification's")]
pub enum Arch {
    X86,
    X86_64,
    X32,
    Arm,
    Aarch64,
    Loongarch64,
    M68k,
    Mips,
    Mips64,
    Mips64n32,
    Mipsel,
    Mipsel64,
    Mipsel64n32,
    Parisc,
    Parisc64,
    Ppc,
    Ppc64,
    Ppc64le,
    Riscv64,
    S390,
    S390x,
    Sh,
    Sheb,
}

/// What is to be known of one architecture.
struct Facts {
    arch: Arch,
    word: &'static str,
    audit: u32,
    table: Table,
}

const fn facts(arch: Arch, word: &'static str, audit: u32, table: Table) -> Facts {
    Facts {
        arch,
        word,
        audit,
        table,
    }
}

/// In the order of [`Arch`]. The small numbers are ELF machine numbers (elf.h, EM_…).
static ARCHS: [Facts; 23] = [
    facts(Arch::X86, "SCMP_ARCH_X86", 3 | LITTLE, Table::X86),
    facts(
        Arch::X86_64,
        "SCMP_ARCH_X86_64",
        62 | BITS64 | LITTLE,
        Table::X86_64,
    ),
    // The kernel reports x32 as x86_64; the bit in the number tells them apart.
    facts(Arch::X32, "SCMP_ARCH_X32", 62 | BITS64 | LITTLE, Table::X32),
    facts(Arch::Arm, "SCMP_ARCH_ARM", 40 | LITTLE, Table::Arm),
    facts(
        Arch::Aarch64,
        "SCMP_ARCH_AARCH64",
        183 | BITS64 | LITTLE,
        Table::Aarch64,
    ),
    facts(
        Arch::Loongarch64,
        "SCMP_ARCH_LOONGARCH64",
        258 | BITS64 | LITTLE,
        Table::Loongarch64,
    ),
    facts(Arch::M68k, "SCMP_ARCH_M68K", 4, Table::M68k),
    facts(Arch::Mips, "SCMP_ARCH_MIPS", 8, Table::Mips),
    facts(Arch::Mips64, "SCMP_ARCH_MIPS64", 8 | BITS64, Table::Mips64),
    facts(
        Arch::Mips64n32,
        "SCMP_ARCH_MIPS64N32",
        8 | BITS64 | N32,
        Table::Mips64n32,
    ),
    facts(Arch::Mipsel, "SCMP_ARCH_MIPSEL", 8 | LITTLE, Table::Mips),
    facts(
        Arch::Mipsel64,
        "SCMP_ARCH_MIPSEL64",
        8 | BITS64 | LITTLE,
        Table::Mips64,
    ),
    facts(
        Arch::Mipsel64n32,
        "SCMP_ARCH_MIPSEL64N32",
        8 | BITS64 | LITTLE | N32,
        Table::Mips64n32,
    ),
    facts(Arch::Parisc, "SCMP_ARCH_PARISC", 15, Table::Parisc),
    facts(
        Arch::Parisc64,
        "SCMP_ARCH_PARISC64",
        15 | BITS64,
        Table::Parisc64,
    ),
    facts(Arch::Ppc, "SCMP_ARCH_PPC", 20, Table::Ppc),
    facts(Arch::Ppc64, "SCMP_ARCH_PPC64", 21 | BITS64, Table::Ppc64),
    facts(
        Arch::Ppc64le,
        "SCMP_ARCH_PPC64LE",
        21 | BITS64 | LITTLE,
        Table::Ppc64,
    ),
    facts(
        Arch::Riscv64,
        "SCMP_ARCH_RISCV64",
        243 | BITS64 | LITTLE,
        Table::Riscv64,
    ),
    facts(Arch::S390, "SCMP_ARCH_S390", 22, Table::S390),
    facts(Arch::S390x, "SCMP_ARCH_S390X", 22 | BITS64, Table::S390x),
    // Little-endian SH is the common one, and has the plain word.
    facts(Arch::Sh, "SCMP_ARCH_SH", 42 | LITTLE, Table::Sh),
    facts(Arch::Sheb, "SCMP_ARCH_SHEB", 42, Table::Sh),
];

impl Arch {
    /// Every architecture, in the order of the words' declaration.
    pub fn all() -> impl Iterator<Item = Self> {
        ARCHS.iter().map(|f| f.arch)
    }

    /// The architecture of a word of the specification.
    ///
    /// # Errors
    /// The word is not one of the 23.
    pub fn parse(word: &str) -> Result<Self, Error> {
        let facts = ARCHS.iter().find(|f| f.word == word);
        let facts = facts.ok_or_else(|| Error::UnknownArchitecture(word.to_owned()))?;
        Ok(facts.arch)
    }

    /// The one this program was built for.
    #[must_use]
    pub const fn native() -> Self {
        #[cfg(target_arch = "x86_64")]
        return Self::X86_64;
        #[cfg(target_arch = "aarch64")]
        return Self::Aarch64;
        #[cfg(target_arch = "riscv64")]
        return Self::Riscv64;
    }

    fn facts(self) -> &'static Facts {
        &ARCHS[self as usize]
    }

    /// `SCMP_ARCH_…`.
    #[must_use]
    pub fn word(self) -> &'static str {
        self.facts().word
    }

    /// `AUDIT_ARCH_…`: what the kernel puts into `seccomp_data.arch`.
    #[must_use]
    pub fn audit(self) -> u32 {
        self.facts().audit
    }

    /// Its system-call table.
    #[must_use]
    pub fn table(self) -> Table {
        self.facts().table
    }

    /// The architecture whose kernel runs this one's programs.
    const fn kernel(self) -> Self {
        match self {
            Self::X86 | Self::X32 => Self::X86_64,
            Self::Arm => Self::Aarch64,
            Self::Mips | Self::Mips64n32 => Self::Mips64,
            Self::Mipsel | Self::Mipsel64n32 => Self::Mipsel64,
            Self::Parisc => Self::Parisc64,
            Self::Ppc => Self::Ppc64,
            Self::S390 => Self::S390x,
            own => own,
        }
    }

    /// Whether one kernel can report both.
    pub(crate) fn shares_kernel(self, other: Self) -> bool {
        self.kernel() == other.kernel()
    }

    /// Whether arguments are compared as 64-bit values. x32 and n32 have 32-bit arguments
    /// although the kernel counts them as 64-bit architectures.
    pub(crate) fn compares_64(self) -> bool {
        let wide = self.audit() & BITS64 != 0;
        wide && !matches!(self, Self::X32 | Self::Mips64n32 | Self::Mipsel64n32)
    }

    /// Whether the low half of an argument is at the lower address.
    pub(crate) fn little_endian(self) -> bool {
        self.audit() & LITTLE != 0
    }

    /// Whether socket and System V IPC calls are also reached through socketcall(2) and ipc(2).
    pub(crate) fn multiplexes(self) -> bool {
        matches!(
            self.table(),
            Table::X86
                | Table::M68k
                | Table::Mips
                | Table::Ppc
                | Table::Ppc64
                | Table::S390
                | Table::S390x
                | Table::Sh
        )
    }
}
