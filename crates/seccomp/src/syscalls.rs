//! System calls by name and number.

use crate::arch::X32_BIT;
use crate::generated::syscalls::ROWS;

/// Stands for the tables: another one where any number in them is another.
pub(crate) const VERSION: u32 = {
    let mut hash: u32 = 0x811c_9dc5;
    let mut row = 0;
    while row < ROWS.len() {
        let mut column = 0;
        while column < Table::ALL.len() {
            // FNV-1a, a word at a time.
            hash = (hash ^ ROWS[row].1[column]).wrapping_mul(0x0100_0193);
            column += 1;
        }
        row += 1;
    }
    hash
};

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

/// Finds rows. Profiles list names in order, so that the next one sought is mostly a few rows
/// behind the last one found.
#[derive(Debug, Default)]
pub(crate) struct Finder {
    next: usize,
}

impl Finder {
    /// Finds a call that at least one architecture has.
    pub(crate) fn find(&mut self, name: &str) -> Option<Row> {
        let behind = ROWS.iter().skip(self.next).take(4);
        let near = behind.zip(self.next..).find(|((n, _), _)| *n == name);
        let at = match near {
            Some((_, at)) => at,
            None => ROWS.binary_search_by(|(n, _)| (*n).cmp(name)).ok()?,
        };
        self.next = at + 1;
        Some(Row(&ROWS[at].1))
    }
}

impl Row {
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
        Finder::default().find(name)?.number(self)
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
