//! System calls by name and number.

use crate::arch::X32_BIT;
use crate::generated::syscalls::ROWS;

/// A table of system calls; architectures that differ in byte order only share one.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[expect(missing_docs, reason = "named like the architectures")]
pub enum Table {
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
    Parisc,
    Parisc64,
    Ppc,
    Ppc64,
    Riscv64,
    S390,
    S390x,
    Sh,
}

/// One call in all tables.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row(&'static [u32; Table::ALL.len()]);

impl Row {
    /// Finds a call that at least one architecture has.
    pub(crate) fn find(name: &str) -> Option<Self> {
        let at = ROWS.binary_search_by(|(n, _)| (*n).cmp(name)).ok()?;
        Some(Self(&ROWS[at].1))
    }

    /// Its number as the kernel reports it.
    pub(crate) fn number(self, table: Table) -> Option<u32> {
        let number = self.0[table as usize];
        let bit = if table == Table::X32 { X32_BIT } else { 0 };
        (number != u32::MAX).then_some(number | bit)
    }
}

impl Table {
    /// In the order of the generated columns.
    pub const ALL: [Self; 18] = [
        Self::X86,
        Self::X86_64,
        Self::X32,
        Self::Arm,
        Self::Aarch64,
        Self::Loongarch64,
        Self::M68k,
        Self::Mips,
        Self::Mips64,
        Self::Mips64n32,
        Self::Parisc,
        Self::Parisc64,
        Self::Ppc,
        Self::Ppc64,
        Self::Riscv64,
        Self::S390,
        Self::S390x,
        Self::Sh,
    ];

    /// The number of a call, as the kernel reports it in `seccomp_data.nr`.
    #[must_use]
    pub fn number(self, name: &str) -> Option<u32> {
        Row::find(name)?.number(self)
    }

    /// The name of a number.
    #[must_use]
    pub fn name(self, number: u32) -> Option<&'static str> {
        let row = ROWS
            .iter()
            .find(|(_, row)| Row(row).number(self) == Some(number));
        row.map(|(name, _)| *name)
    }
}

/// All names, sorted.
pub fn names() -> impl Iterator<Item = &'static str> {
    ROWS.iter().map(|(name, _)| *name)
}
