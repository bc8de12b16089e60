//! Why execve(2) refused a file.
//!
//! ENOENT of a file that is there means that its interpreter is not: the commonest riddle that a
//! container gives its user. Here the file is read, with the rights the program would have had,
//! and the riddle's answer is put into words.

use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::fs::{
    CWD, FileType, Mode, OFlags, StatVfsMountFlags, getxattr, lstat, openat, readlink, stat,
    statvfs,
};
use rustix::io::Errno;

use super::executable;

mod elf;

/// As much as the kernel reads of a script's first line (BINPRM_BUF_SIZE).
const HEAD: usize = 256;

/// `: ` and the reason, or nothing where the errno says it all.
pub(super) fn why(path: &Path, errno: Errno) -> String {
    let reason = match errno {
        Errno::NOENT | Errno::NOTDIR => missing(path),
        Errno::ACCESS => forbidden(path),
        Errno::NOEXEC | Errno::LIBBAD => wrong_format(path),
        Errno::PERM => capabilities(path),
        _ => None,
    };
    reason.map_or_else(String::new, |r| format!(": {r}"))
}

/// The file or what it needs is missing.
fn missing(path: &Path) -> Option<String> {
    if stat(path).is_err() {
        lstat(path).ok()?;
        let target = readlink(path, Vec::new()).ok()?;
        let target = target.to_string_lossy().into_owned();
        return Some(format!(
            "it is a symbolic link to {target:?}, which does not exist"
        ));
    }
    let file = Contents::open(path)?;
    match file.interpreter()? {
        Needs::Script(name) if name.ends_with('\r') => Some(format!(
            "its first line ends with a carriage return (Windows line ending), so that the kernel looks for the interpreter {name:?}"
        )),
        Needs::Script(name) => Some(format!(
            "its first line names the interpreter {name:?}, which does not exist in the container"
        )),
        Needs::Loader(name) => Some(format!(
            "it is a dynamic program whose loader {name:?} does not exist in the container"
        )),
    }
}

/// The file or what it needs may not be executed.
fn forbidden(path: &Path) -> Option<String> {
    let found = stat(path).ok()?;
    match FileType::from_raw_mode(found.st_mode) {
        FileType::Directory => return Some("it is a directory".to_owned()),
        FileType::RegularFile => {}
        _ => return Some("it is not a regular file".to_owned()),
    }
    let mode = found.st_mode & 0o7777;
    if mode & 0o111 == 0 {
        return Some(format!("it has no execute permission (mode {mode:04o})"));
    }
    if is_noexec(path) {
        return Some("its file system is mounted noexec".to_owned());
    }
    let user = rustix::process::geteuid().as_raw();
    if path.to_str().is_some_and(|p| executable(p).is_err()) {
        return Some(format!(
            "its mode {mode:04o} (owner {}:{}) does not let user {user} execute it",
            found.st_uid, found.st_gid
        ));
    }
    let (Needs::Script(name) | Needs::Loader(name)) = Contents::open(path)?.interpreter()?;
    let deeper = forbidden(Path::new(&name))?;
    Some(format!(
        "its interpreter {name:?} cannot be executed: {deeper}"
    ))
}

fn is_noexec(path: &Path) -> bool {
    /// ST_NOEXEC of statvfs(3).
    const NOEXEC: StatVfsMountFlags = StatVfsMountFlags::from_bits_retain(8);
    statvfs(path).is_ok_and(|s| s.f_flag.contains(NOEXEC))
}

/// The file is to have capabilities at once (capabilities(7), "Safety checking for
/// capability-dumb binaries") that nobody in the container can have.
fn capabilities(path: &Path) -> Option<String> {
    const EFFECTIVE: u8 = 1;
    let mut value = [0; 24];
    let length = getxattr(path, "security.capability", &mut value[..]).ok()?;
    let word = |at: usize| Some(u32::from_le_bytes(value.get(at..at + 4)?.try_into().ok()?));
    // magic and flags, then permitted and inheritable of the low half, then of the high half.
    let high = if length >= 20 { word(12)? } else { 0 };
    let wanted = u64::from(word(4)?) | u64::from(high) << 32;
    let status = sys::file::read_text("/proc/self/status".as_ref()).ok()?;
    let bounding = status.lines().find_map(|l| l.strip_prefix("CapBnd:"))?;
    let lacking = wanted & !u64::from_str_radix(bounding.trim(), 16).ok()?;
    if value[0] & EFFECTIVE == 0 || lacking == 0 {
        return None;
    }
    let names = crate::identity::cap_names(lacking);
    Some(format!(
        "its file asks for {}, which the container does not have (getcap {})",
        names.join(", "),
        path.display()
    ))
}

/// The kernel does not know what to do with the contents.
fn wrong_format(path: &Path) -> Option<String> {
    let file = Contents::open(path)?;
    let head = &file.head;
    if head.is_empty() {
        return Some("the file is empty".to_owned());
    }
    if let Some(header) = elf::Header::parse(head) {
        let (theirs, ours) = (header.machine_name(), std::env::consts::ARCH);
        return Some(if header.is_native() {
            "it is a damaged ELF file, or of a type that is not executable".to_owned()
        } else {
            format!("it is built for {theirs}, and this machine is {ours}")
        });
    }
    if head.starts_with(b"\x7fELF") {
        return Some("it is a damaged ELF file".to_owned());
    }
    if head.starts_with(b"MZ") {
        return Some("it is a Windows program".to_owned());
    }
    if head.starts_with(b"\xef\xbb\xbf#!") {
        return Some("a byte order mark stands before its #!".to_owned());
    }
    if head.starts_with(b"#!") {
        return Some("its first line names no usable interpreter".to_owned());
    }
    let text = head.iter().all(|&b| b >= b' ' || b.is_ascii_whitespace());
    Some(if text {
        "it is a text file without a #! line".to_owned()
    } else {
        "it is neither a program nor a script".to_owned()
    })
}

/// What a file needs to be executed.
enum Needs {
    /// The word after `#!`.
    Script(String),
    /// PT_INTERP of an ELF file.
    Loader(String),
}

/// A file's beginning, and the file for what lies deeper.
struct Contents {
    file: std::fs::File,
    head: Vec<u8>,
}

impl Contents {
    fn open(path: &Path) -> Option<Self> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = std::fs::File::from(openat(CWD, path, flags, Mode::empty()).ok()?);
        let mut head = Vec::with_capacity(HEAD);
        let limit = u64::try_from(HEAD).unwrap_or(0);
        std::io::Read::by_ref(&mut &file)
            .take(limit)
            .read_to_end(&mut head)
            .ok()?;
        Some(Self { file, head })
    }

    fn interpreter(&self) -> Option<Needs> {
        if let Some(line) = self.head.strip_prefix(b"#!") {
            return script_interpreter(line).map(Needs::Script);
        }
        let header = elf::Header::parse(&self.head)?;
        let read = |offset: u64, length: usize| {
            let mut bytes = vec![0; length];
            self.file.read_exact_at(&mut bytes, offset).ok()?;
            Some(bytes)
        };
        header.loader(read).map(Needs::Loader)
    }
}

/// The interpreter in the rest of a `#!` line: execve(2) splits at blanks, and a carriage return
/// is no blank to it.
fn script_interpreter(rest: &[u8]) -> Option<String> {
    let line = rest.split(|&b| b == b'\n').next()?;
    let mut words = line.split(|&b| b == b' ' || b == b'\t');
    let word = words.find(|w| !w.is_empty())?;
    Some(String::from_utf8_lossy(word).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_word_after_the_magic() {
        let cases: [(&[u8], Option<&str>); 5] = [
            (b"/bin/sh\n", Some("/bin/sh")),
            (b" \t/usr/bin/env python3\n", Some("/usr/bin/env")),
            (b"/bin/sh\r\necho", Some("/bin/sh\r")),
            (b"/bin/bash", Some("/bin/bash")),
            (b"  \n/bin/sh", None),
        ];
        for (line, word) in cases {
            assert_eq!(script_interpreter(line).as_deref(), word);
        }
    }

    fn reason(name: &str, contents: &[u8], mode: u32) -> String {
        let path = std::env::temp_dir().join(format!("hull-why-{}-{name}", std::process::id()));
        std::fs::write(&path, contents).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        let program = super::super::Program {
            path: std::ffi::CString::new(path.to_str().unwrap()).unwrap(),
            argv: vec![c"x".to_owned()],
            envp: vec![],
        };
        // Another test's child may hold our write descriptor until its own execve.
        let text = loop {
            let text = program.exec().to_string();
            if !text.contains("text file busy") {
                break text;
            }
        };
        std::fs::remove_file(&path).unwrap();
        let (_, reason) = text.split_once(name).unwrap();
        reason.to_owned()
    }

    #[test]
    fn every_riddle_has_an_answer() {
        let arm = elf::tests::header(183, 2);
        let cases: [(&str, &[u8], &str); 8] = [
            (
                "shebang",
                b"#!/no/bash\n",
                "no such file or directory: its first line names the interpreter \"/no/bash\", which does not exist in the container",
            ),
            (
                "crlf",
                b"#!/bin/sh\r\necho\r\n",
                "no such file or directory: its first line ends with a carriage return (Windows line ending), so that the kernel looks for the interpreter \"/bin/sh\\r\"",
            ),
            (
                "arm",
                &arm,
                &format!(
                    "exec format error: it is built for aarch64, and this machine is {}",
                    std::env::consts::ARCH
                ),
            ),
            (
                "text",
                b"echo hello\n",
                "exec format error: it is a text file without a #! line",
            ),
            (
                "bytes",
                b"\x01\x02",
                "exec format error: it is neither a program nor a script",
            ),
            ("empty", b"", "exec format error: the file is empty"),
            (
                "bom",
                b"\xef\xbb\xbf#!/bin/sh\n",
                "exec format error: a byte order mark stands before its #!",
            ),
            (
                "windows",
                b"MZ\x90\x00",
                "exec format error: it is a Windows program",
            ),
        ];
        for (name, contents, text) in cases {
            assert_eq!(reason(name, contents, 0o755), format!(": {text}"));
        }
        let text = reason("mode", b"#!/bin/sh\n", 0o644);
        assert_eq!(
            text,
            ": permission denied: it has no execute permission (mode 0644)"
        );
        let text = reason("deep", b"#!/etc/passwd\n", 0o755);
        assert!(
            text.contains(
                "its interpreter \"/etc/passwd\" cannot be executed: it has no execute permission"
            ),
            "{text}"
        );
    }
}
