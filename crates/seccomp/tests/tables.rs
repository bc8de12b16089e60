//! The generator of `src/generated/syscalls.rs`, and the proof that the file is what it makes.
//!
//! `HULL_WRITE_TABLES=1 cargo test -p seccomp --test tables` writes the file. Sources are kernel
//! headers in two forms: the constants of the crate linux-raw-sys (already in the lock file, by
//! way of rustix), and, for the architectures it lacks, the headers of Debian's packages
//! `linux-libc-dev-{hppa,sh4,s390x,mips}-cross`, looked for below `HULL_CROSS_HEADERS` (default
//! `/`). Where those are absent, the committed columns are kept.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use seccomp::{Table, syscalls};

/// Calls newer than the headers of linux-raw-sys. Since Linux 5.1 a new call has one number on
/// every architecture (Documentation/process/adding-syscalls.rst), so one number is enough.
const NEWER: [(&str, u32); 2] = [("listns", 470), ("rseq_slice_yield", 471)];
/// The last number in the Debian headers (Linux 6.1); later ones are completed as said above.
const LAST_IN_CROSS_HEADERS: u32 = 450;

type Column = BTreeMap<String, u32>;

enum Source {
    /// Directory of linux-raw-sys.
    Crate(&'static str),
    /// Header below the root of cross headers, and the architecture's base number.
    Header(&'static str, u32),
}

const fn source(table: Table) -> Source {
    match table {
        Table::X86 => Source::Crate("x86"),
        Table::X86_64 => Source::Crate("x86_64"),
        Table::X32 => Source::Crate("x32"),
        Table::Arm => Source::Crate("arm"),
        Table::Aarch64 => Source::Crate("aarch64"),
        Table::Loongarch64 => Source::Crate("loongarch64"),
        Table::M68k => Source::Crate("m68k"),
        Table::Mips => Source::Crate("mips"),
        Table::Mips64 => Source::Crate("mips64"),
        Table::Mips64n32 => Source::Header("mips-linux-gnu/include/asm/unistd_n32.h", 6000),
        Table::Parisc => Source::Header("hppa-linux-gnu/include/asm/unistd_32.h", 0),
        Table::Parisc64 => Source::Header("hppa-linux-gnu/include/asm/unistd_64.h", 0),
        Table::Ppc => Source::Crate("powerpc"),
        Table::Ppc64 => Source::Crate("powerpc64"),
        Table::Riscv64 => Source::Crate("riscv64"),
        Table::S390 => Source::Header("s390x-linux-gnu/include/asm/unistd_32.h", 0),
        Table::S390x => Source::Crate("s390x"),
        Table::Sh => Source::Header("sh4-linux-gnu/include/asm/unistd_32.h", 0),
    }
}

/// A constant of the headers, where it is a system call.
fn call(table: Table, constant: &str, number: u32) -> Option<(String, u32)> {
    // The ARM-private calls have their own prefix and range.
    let name = match constant.strip_prefix("__ARM_NR_") {
        Some("BASE") | None => constant.strip_prefix("__NR_")?,
        Some(name) => name,
    };
    let placeholder = |prefix: &str| {
        name.strip_prefix(prefix)
            .is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()) && !rest.is_empty())
    };
    let is_count = name == "syscalls" || name == "arch_specific_syscall";
    let is_base = name.bytes().any(|b| b.is_ascii_uppercase());
    if is_count || is_base || placeholder("reserved") || placeholder("unused") {
        return None;
    }
    let number = if matches!(table, Table::X32) {
        number & !seccomp::X32_BIT
    } else {
        number
    };
    Some((name.to_owned(), number))
}

fn from_crate(table: Table, text: &str) -> Column {
    let lines = text.lines().filter_map(|l| l.strip_prefix("pub const "));
    let parsed = lines.filter_map(|l| {
        let (name, value) = l.split_once(": u32 = ")?;
        call(table, name, value.strip_suffix(';')?.parse().ok()?)
    });
    parsed.collect()
}

fn from_header(table: Table, text: &str, base: u32) -> Column {
    let lines = text.lines().filter_map(|l| l.strip_prefix("#define "));
    let parsed = lines.filter_map(|l| {
        let (name, value) = l.split_once(char::is_whitespace)?;
        // MIPS writes (__NR_Linux + 5).
        let value = value.trim().trim_end_matches(')');
        let (base, value) = match value.rsplit_once(" + ") {
            Some((_, offset)) => (base, offset),
            None => (0, value),
        };
        call(table, name, base + value.parse::<u32>().ok()?)
    });
    parsed.collect()
}

/// Where cargo unpacked linux-raw-sys.
fn raw_sys() -> PathBuf {
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let out = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline", "--locked"])
        .args(["--filter-platform", &platform])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "cargo metadata: {text}");
    let metadata: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let package = packages.iter().find(|p| p["name"] == "linux-raw-sys");
    let manifest = package.unwrap()["manifest_path"].as_str().unwrap();
    Path::new(manifest).parent().unwrap().join("src")
}

/// What is committed, for a column whose source is not on this machine.
fn committed(table: Table) -> Column {
    let named = syscalls::names().filter_map(|n| Some((n.to_owned(), table.number(n)?)));
    named
        .map(|(n, number)| {
            let number = if matches!(table, Table::X32) {
                number & !seccomp::X32_BIT
            } else {
                number
            };
            (n, number)
        })
        .collect()
}

/// The calls that the crate's x86, aarch64, s390x and m68k tables agree upon.
fn common(raw: &Path) -> Column {
    let tables = [Table::X86, Table::Aarch64, Table::S390x, Table::M68k];
    let columns = tables.map(|t| from_crate(t, &read_crate(raw, t)));
    let (first, rest) = columns.split_first().unwrap();
    let agreed = first
        .iter()
        .filter(|(n, v)| rest.iter().all(|c| c.get(*n) == Some(*v)));
    let newer = NEWER.map(|(n, v)| (n.to_owned(), v));
    agreed.map(|(n, v)| (n.clone(), *v)).chain(newer).collect()
}

fn read_crate(raw: &Path, table: Table) -> String {
    let Source::Crate(dir) = source(table) else {
        unreachable!("not a table of the crate")
    };
    std::fs::read_to_string(raw.join(dir).join("general.rs")).unwrap()
}

fn column(table: Table, raw: &Path, common: &Column) -> Column {
    let (mut column, base, last) = match source(table) {
        Source::Crate(_) => {
            let base = match table {
                Table::Mips => 4000,
                Table::Mips64 => 5000,
                _ => 0,
            };
            (from_crate(table, &read_crate(raw, table)), base, u32::MAX)
        }
        Source::Header(path, base) => {
            let root = std::env::var("HULL_CROSS_HEADERS").unwrap_or_else(|_| "/".to_owned());
            let path = Path::new(&root).join("usr").join(path);
            let Ok(text) = std::fs::read_to_string(&path) else {
                println!("{} is absent: {table:?} is kept", path.display());
                return committed(table);
            };
            (from_header(table, &text, base), base, LAST_IN_CROSS_HEADERS)
        }
    };
    for (name, number) in common {
        let newer = NEWER.iter().any(|(n, _)| n == name);
        if newer || *number > last {
            column.entry(name.clone()).or_insert(base + number);
        }
    }
    column
}

fn render(columns: &[(Table, Column)]) -> String {
    let names: BTreeSet<&String> = columns.iter().flat_map(|(_, c)| c.keys()).collect();
    let mut text = String::from(
        "//! System-call numbers by name and architecture.\n\
         //!\n\
         //! @generated from kernel headers by `tests/tables.rs`, which says how.\n\
         \n\
         /// Not a call of this architecture.\n\
         const N: u32 = u32::MAX;\n\
         \n\
         /// Sorted by name; the columns are in the order of [`crate::Table`].\n",
    );
    let count = names.len();
    let width = columns.len();
    writeln!(
        text,
        "pub(crate) static ROWS: [(&str, [u32; {width}]); {count}] = ["
    )
    .unwrap();
    for name in names {
        let cell = |c: &Column| c.get(name).map_or_else(|| "N".to_owned(), u32::to_string);
        let cells: Vec<String> = columns.iter().map(|(_, c)| cell(c)).collect();
        writeln!(text, "    (\"{name}\", [{}]),", cells.join(", ")).unwrap();
    }
    text.push_str("];\n");
    text
}

#[test]
fn the_committed_tables_are_what_the_sources_say() {
    let raw = raw_sys();
    let common = common(&raw);
    let columns = Table::ALL.map(|t| (t, column(t, &raw, &common)));
    let text = render(&columns);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/generated/syscalls.rs");
    if std::env::var_os("HULL_WRITE_TABLES").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap();
    assert!(
        committed == text,
        "run with HULL_WRITE_TABLES=1 and look at the difference"
    );
}
