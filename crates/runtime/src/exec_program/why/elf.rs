//! As much of the ELF format (elf(5)) as it takes to name a missing loader or a wrong machine.

/// EI_CLASS: the size of addresses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Class {
    Bits32,
    Bits64,
}

/// The fields of an ELF header that matter here.
#[derive(Debug)]
pub(super) struct Header {
    class: Class,
    little_endian: bool,
    machine: u16,
    program_headers: u64,
    entry_size: u16,
    entries: u16,
}

/// Longest loader path that is read: the kernel's PATH_MAX.
const MAX_LOADER: u64 = 4096;

impl Header {
    /// The header at the start of a file, if it is a whole one.
    pub(super) fn parse(head: &[u8]) -> Option<Self> {
        let ident = head.strip_prefix(b"\x7fELF")?;
        let class = match ident.first()? {
            1 => Class::Bits32,
            2 => Class::Bits64,
            _ => return None,
        };
        let little_endian = *ident.get(1)? == 1;
        let field = |at32: usize, at64: usize, n32: usize, n64: usize| match class {
            Class::Bits32 => number(head, at32, n32, little_endian),
            Class::Bits64 => number(head, at64, n64, little_endian),
        };
        Some(Self {
            class,
            little_endian,
            machine: u16::try_from(field(18, 18, 2, 2)?).ok()?,
            program_headers: field(28, 32, 4, 8)?,
            entry_size: u16::try_from(field(42, 54, 2, 2)?).ok()?,
            entries: u16::try_from(field(44, 56, 2, 2)?).ok()?,
        })
    }

    /// The path in PT_INTERP; `read` gives bytes of the file by offset and length.
    pub(super) fn loader(&self, read: impl Fn(u64, usize) -> Option<Vec<u8>>) -> Option<String> {
        const PT_INTERP: u64 = 3;
        for n in 0..u64::from(self.entries) {
            let at = n
                .checked_mul(self.entry_size.into())?
                .checked_add(self.program_headers)?;
            let entry = read(at, self.entry_size.into())?;
            let field = |at32, at64, n32, n64| match self.class {
                Class::Bits32 => number(&entry, at32, n32, self.little_endian),
                Class::Bits64 => number(&entry, at64, n64, self.little_endian),
            };
            if field(0, 0, 4, 4)? == PT_INTERP {
                let (offset, size) = (field(4, 8, 4, 8)?, field(16, 32, 4, 8)?);
                let size = usize::try_from(size.min(MAX_LOADER)).ok()?;
                let bytes = read(offset, size)?;
                let name = bytes.split(|&b| b == 0).next()?;
                return Some(String::from_utf8_lossy(name).into_owned());
            }
        }
        None
    }

    /// Whether this machine's own programs have this class and machine.
    pub(super) fn is_native(&self) -> bool {
        let native = match std::env::consts::ARCH {
            "x86_64" => [(62, Class::Bits64), (3, Class::Bits32)].as_slice(),
            "aarch64" => &[(183, Class::Bits64)],
            "arm" => &[(40, Class::Bits32)],
            "riscv64" => &[(243, Class::Bits64)],
            "s390x" => &[(22, Class::Bits64)],
            "powerpc64" => &[(21, Class::Bits64)],
            "loongarch64" => &[(258, Class::Bits64)],
            _ => return true,
        };
        native.contains(&(self.machine, self.class))
    }

    /// e_machine in the words of uname(2).
    pub(super) fn machine_name(&self) -> String {
        let name = match (self.machine, self.class) {
            (3, _) => "x86",
            (8, _) => "mips",
            (20, _) => "powerpc",
            (21, _) => "powerpc64",
            (22, _) => "s390x",
            (40, _) => "arm",
            (62, Class::Bits64) => "x86_64",
            (62, Class::Bits32) => "x32",
            (183, _) => "aarch64",
            (243, Class::Bits64) => "riscv64",
            (243, Class::Bits32) => "riscv32",
            (258, _) => "loongarch64",
            (n, _) => return format!("ELF machine {n}"),
        };
        name.to_owned()
    }
}

fn number(bytes: &[u8], at: usize, length: usize, little_endian: bool) -> Option<u64> {
    let field = bytes.get(at..at.checked_add(length)?)?;
    let fold = |n: u64, &b: &u8| n << 8 | u64::from(b);
    Some(if little_endian {
        field.iter().rev().fold(0, fold)
    } else {
        field.iter().fold(0, fold)
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A 64-bit header (with class 2) of a little-endian executable without program headers.
    pub(in super::super) fn header(machine: u16, class: u8) -> Vec<u8> {
        let mut bytes = vec![0; 64];
        bytes[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', class, 1, 1]);
        bytes[16] = 2;
        bytes[18..20].copy_from_slice(&machine.to_le_bytes());
        bytes
    }

    #[test]
    fn our_own_test_program_is_native() {
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let header = Header::parse(&bytes[..256]).unwrap();
        assert!(header.is_native());
        assert_eq!(header.machine_name(), std::env::consts::ARCH);
        let read = |at, n| {
            let at = usize::try_from(at).ok()?;
            bytes.get(at..at.checked_add(n)?).map(<[u8]>::to_vec)
        };
        if let Some(loader) = header.loader(read) {
            assert!(std::path::Path::new(&loader).exists(), "{loader}");
        }
    }

    #[test]
    fn machines_by_name() {
        for (machine, class, name) in [
            (183, 2, "aarch64"),
            (62, 1, "x32"),
            (999, 2, "ELF machine 999"),
        ] {
            assert_eq!(
                Header::parse(&header(machine, class))
                    .unwrap()
                    .machine_name(),
                name
            );
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(tail in proptest::collection::vec(any::<u8>(), 0..300), class in 1_u8..3) {
            let mut bytes = b"\x7fELF".to_vec();
            bytes.push(class);
            bytes.extend(tail);
            if let Some(header) = Header::parse(&bytes) {
                let _ = header.loader(|at, n| {
                    let at = usize::try_from(at).ok()?;
                    bytes.get(at..at.checked_add(n)?).map(<[u8]>::to_vec)
                });
            }
        }
    }
}
