//! `/pause`, the first process of a pod: it holds the pod's namespaces and waits.
//!
//! The program is here as the bytes of its file, and needs no image: it ignores SIGCHLD, so that
//! the kernel reaps what is left to it where containers share its pid namespace, and sleeps.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use sys::Context as _;

use crate::Result;

/// Where the program is in its root file system.
pub const PROGRAM: &str = "/pause";

/// Puts a root file system with nothing but the program (and the places where /proc, /dev and
/// /sys are mounted) into the directory `root`, unless it is there. One is enough for all pods:
/// it is to be used read-only.
///
/// # Errors
/// The step that failed.
pub fn install(root: &Path) -> Result<()> {
    let program = root.join("pause");
    if std::fs::read(&program).is_ok_and(|found| found == image()) {
        return Ok(());
    }
    for name in ["proc", "dev", "sys", "etc"] {
        let dir = root.join(name);
        let mut builder = std::fs::DirBuilder::new();
        let made = builder.mode(0o755).recursive(true).create(&dir);
        made.context("mkdir", || dir.display().to_string())?;
    }
    // Whoever looks finds the whole program or none.
    let new = root.join(format!(".pause.{}", std::process::id()));
    let args = || new.display().to_string();
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o755);
    let mut file = file.open(&new).context("open", args)?;
    let written = file.write_all(&image()).context("write", args);
    drop(file);
    let named = written.and_then(|()| std::fs::rename(&new, &program).context("rename", args));
    if named.is_err() {
        // The first error is the one to report.
        let _ = std::fs::remove_file(&new);
    }
    Ok(named?)
}

/// What it does, as instructions, and then the argument of rt_sigaction(2).
#[cfg(target_arch = "x86_64")]
const CODE: &[u8] = &[
    0xb8, 13, 0, 0, 0, // mov eax, 13 (rt_sigaction)
    0xbf, 17, 0, 0, 0, // mov edi, 17 (SIGCHLD)
    0x48, 0x8d, 0x35, 23, 0, 0, 0, // lea rsi, [rip + 23] (the argument below)
    0x31, 0xd2, // xor edx, edx
    0x41, 0xba, 8, 0, 0, 0, // mov r10d, 8
    0x0f, 0x05, // syscall
    0xb8, 34, 0, 0, 0, // mov eax, 34 (pause)
    0x0f, 0x05, // syscall
    0xeb, 0xf7, // jmp to the mov before
    0, 0, 0, 0, // up to a multiple of 8
    1, 0, 0, 0, 0, 0, 0, 0, // SIG_IGN
    2, 0, 0, 0, 0, 0, 0, 0, // SA_NOCLDWAIT
    0, 0, 0, 0, 0, 0, 0, 0, // no restorer
    0, 0, 0, 0, 0, 0, 0, 0, // no signal blocked
];
#[cfg(target_arch = "x86_64")]
const MACHINE: u16 = 62;

#[cfg(target_arch = "aarch64")]
const CODE: &[u8] = &[
    0xc8, 0x10, 0x80, 0xd2, // mov x8, 134 (rt_sigaction)
    0x20, 0x02, 0x80, 0xd2, // mov x0, 17 (SIGCHLD)
    0x61, 0x01, 0x00, 0x10, // adr x1, 44 bytes on (the argument below)
    0x02, 0x00, 0x80, 0xd2, // mov x2, 0
    0x03, 0x01, 0x80, 0xd2, // mov x3, 8
    0x01, 0x00, 0x00, 0xd4, // svc 0
    0x28, 0x09, 0x80, 0xd2, // mov x8, 73 (ppoll)
    0x00, 0x00, 0x80, 0xd2, // mov x0, 0
    0x01, 0x00, 0x80, 0xd2, // mov x1, 0
    0x02, 0x00, 0x80, 0xd2, // mov x2, 0
    0x03, 0x00, 0x80, 0xd2, // mov x3, 0
    0x01, 0x00, 0x00, 0xd4, // svc 0
    0xfa, 0xff, 0xff, 0x17, // b to the mov of ppoll
    1, 0, 0, 0, 0, 0, 0, 0, // SIG_IGN
    2, 0, 0, 0, 0, 0, 0, 0, // SA_NOCLDWAIT
    0, 0, 0, 0, 0, 0, 0, 0, // no restorer
    0, 0, 0, 0, 0, 0, 0, 0, // no signal blocked
];
#[cfg(target_arch = "aarch64")]
const MACHINE: u16 = 183;

/// The file: an ELF header, two program headers (elf(5)), and the code.
fn image() -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 2 * 56;
    let size = HEADERS + CODE.len() as u64;
    let mut file = Vec::with_capacity(256);
    // 64 bits, little-endian, version 1.
    file.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    let half = |file: &mut Vec<u8>, n: u16| file.extend_from_slice(&n.to_le_bytes());
    let word = |file: &mut Vec<u8>, n: u32| file.extend_from_slice(&n.to_le_bytes());
    let long = |file: &mut Vec<u8>, n: u64| file.extend_from_slice(&n.to_le_bytes());
    half(&mut file, 2);
    half(&mut file, MACHINE);
    word(&mut file, 1);
    for value in [BASE + HEADERS, 64, 0] {
        long(&mut file, value);
    }
    word(&mut file, 0);
    for value in [64, 56, 2, 64, 0, 0] {
        half(&mut file, value);
    }
    // PT_LOAD, readable and executable: all of the file.
    word(&mut file, 1);
    word(&mut file, 5);
    for value in [0, BASE, BASE, size, size, 0x1000] {
        long(&mut file, value);
    }
    // PT_GNU_STACK, readable and writable: a stack that is not executable.
    word(&mut file, 0x6474_e551);
    word(&mut file, 6);
    for value in [0, 0, 0, 0, 0, 16] {
        long(&mut file, value);
    }
    file.extend_from_slice(CODE);
    file
}
