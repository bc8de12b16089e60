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

const CALLS: usize = ROWS.len();

/// The rows' names. Not as references: hundreds of those would have to be relocated whenever the
/// program starts, which costs more than all else that is done with them.
static NAMES: [Name; CALLS] = {
    let mut names = [Name::EMPTY; CALLS];
    let mut row = 0;
    while row < CALLS {
        names[row] = Name::new(ROWS[row].0);
        row += 1;
    }
    names
};

/// The rows' numbers.
static NUMBERS: [[u32; Table::ALL.len()]; CALLS] = {
    let mut numbers = [[0; Table::ALL.len()]; CALLS];
    let mut row = 0;
    while row < CALLS {
        numbers[row] = ROWS[row].1;
        row += 1;
    }
    numbers
};

/// The name of a call, padded.
struct Name {
    text: [u8; Self::LONGEST],
    length: usize,
}

impl Name {
    const LONGEST: usize = {
        let mut longest = 0;
        let mut row = 0;
        while row < CALLS {
            if ROWS[row].0.len() > longest {
                longest = ROWS[row].0.len();
            }
            row += 1;
        }
        longest
    };
    const EMPTY: Self = Self {
        text: [0; Self::LONGEST],
        length: 0,
    };

    const fn new(name: &str) -> Self {
        let mut made = Self::EMPTY;
        while made.length < name.len() {
            made.text[made.length] = name.as_bytes()[made.length];
            made.length += 1;
        }
        made
    }

    fn bytes(&self) -> &[u8] {
        &self.text[..self.length]
    }

    fn text(&'static self) -> &'static str {
        // It was made from one.
        std::str::from_utf8(self.bytes()).unwrap_or_default()
    }
}

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
        let name = name.as_bytes();
        let behind = NAMES.iter().skip(self.next).take(4);
        let near = behind.zip(self.next..).find(|(n, _)| n.bytes() == name);
        let at = match near {
            Some((_, at)) => at,
            None => NAMES.binary_search_by(|n| n.bytes().cmp(name)).ok()?,
        };
        self.next = at + 1;
        Some(Row(&NUMBERS[at]))
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
        let row = NUMBERS
            .iter()
            .position(|row| Row(row).number(self) == Some(number));
        row.map(|at| NAMES[at].text())
    }
}

/// All names, sorted.
pub fn names() -> impl Iterator<Item = &'static str> {
    NAMES.iter().map(Name::text)
}
