//! What the release program rests on where it is linked with musl (build.rs): Rust's standard
//! library for this target was compiled for glibc, and passes glibc's structures and numbers to
//! musl's functions. Both have them from the kernel's headers, so that they are the same; here both
//! libraries' own headers say whether they are, for all that the program's calls pass.

#![cfg(target_arch = "x86_64")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::path::Path;
use std::process::Command;

/// Structures with the fields that are used.
const STRUCTURES: &[(&str, &[&str])] = &[
    (
        "struct stat",
        &[
            "st_dev",
            "st_ino",
            "st_nlink",
            "st_mode",
            "st_uid",
            "st_gid",
            "st_rdev",
            "st_size",
            "st_blksize",
            "st_blocks",
            "st_atim",
            "st_mtim",
            "st_ctim",
        ],
    ),
    (
        "struct dirent",
        &["d_ino", "d_off", "d_reclen", "d_type", "d_name"],
    ),
    ("struct sigaction", &["sa_sigaction", "sa_mask", "sa_flags"]),
    (
        "siginfo_t",
        &[
            "si_signo",
            "si_errno",
            "si_code",
            "si_pid",
            "si_uid",
            "si_status",
            "si_addr",
        ],
    ),
    ("stack_t", &["ss_sp", "ss_flags", "ss_size"]),
    (
        "struct msghdr",
        &[
            "msg_name",
            "msg_namelen",
            "msg_iov",
            "msg_iovlen",
            "msg_control",
            "msg_controllen",
            "msg_flags",
        ],
    ),
    ("struct cmsghdr", &["cmsg_len", "cmsg_level", "cmsg_type"]),
    ("struct iovec", &["iov_base", "iov_len"]),
    ("struct pollfd", &["fd", "events", "revents"]),
    ("struct sockaddr_un", &["sun_family", "sun_path"]),
    ("struct sockaddr_storage", &["ss_family"]),
    ("struct timespec", &["tv_sec", "tv_nsec"]),
    (
        "struct flock",
        &["l_type", "l_whence", "l_start", "l_len", "l_pid"],
    ),
    ("struct winsize", &["ws_row", "ws_col"]),
    ("struct rlimit", &["rlim_cur", "rlim_max"]),
    (
        "struct signalfd_siginfo",
        &["ssi_signo", "ssi_pid", "ssi_status"],
    ),
    (
        "Elf64_Phdr",
        &[
            "p_type", "p_flags", "p_offset", "p_vaddr", "p_filesz", "p_memsz",
        ],
    ),
    (
        "struct dl_phdr_info",
        &["dlpi_addr", "dlpi_name", "dlpi_phdr", "dlpi_phnum"],
    ),
    // Their contents are the library's own.
    ("sigset_t", &[]),
    ("pthread_attr_t", &[]),
    ("pthread_t", &[]),
    ("pthread_key_t", &[]),
    ("posix_spawnattr_t", &[]),
    ("posix_spawn_file_actions_t", &[]),
    ("off_t", &[]),
    ("mode_t", &[]),
    ("socklen_t", &[]),
    ("time_t", &[]),
];

/// Numbers that are passed to functions which are more than a system call, or come back from them.
const NUMBERS: &[&str] = &[
    "_SC_PAGESIZE",
    "_SC_NPROCESSORS_ONLN",
    "_SC_CLK_TCK",
    "_SC_GETPW_R_SIZE_MAX",
    "_SC_IOV_MAX",
    "POSIX_SPAWN_SETPGROUP",
    "POSIX_SPAWN_SETSIGDEF",
    "POSIX_SPAWN_SETSIGMASK",
    "SIG_BLOCK",
    "SIG_UNBLOCK",
    "SIG_SETMASK",
    "SA_SIGINFO",
    "SA_ONSTACK",
    "SA_RESTART",
    "SS_DISABLE",
    "F_GETFD",
    "F_SETFD",
    "F_GETFL",
    "F_SETFL",
    "F_DUPFD",
    "F_DUPFD_CLOEXEC",
    "F_GETLK",
    "F_SETLK",
    "F_SETLKW",
    "O_CLOEXEC",
    "O_DIRECTORY",
    "O_NOFOLLOW",
    "O_CREAT",
    "O_EXCL",
    "O_TRUNC",
    "O_APPEND",
    "O_NONBLOCK",
    "AT_FDCWD",
    "AT_REMOVEDIR",
    "AT_SYMLINK_NOFOLLOW",
    "AT_PHDR",
    "AT_PHNUM",
    "AT_PAGESZ",
    "AT_HWCAP",
    "P_PID",
    "P_PIDFD",
    "WEXITED",
    "WNOHANG",
    "WSTOPPED",
    "WNOWAIT",
    "MAP_FAILED",
    "MAP_FIXED",
    "MAP_ANONYMOUS",
    "MAP_STACK",
    "MAP_POPULATE",
    "MREMAP_MAYMOVE",
    "MREMAP_FIXED",
    "POLLIN",
    "POLLHUP",
    "POLLERR",
    "POLLNVAL",
    "SOL_SOCKET",
    "SO_PEERCRED",
    "SCM_RIGHTS",
    "MSG_NOSIGNAL",
    "MSG_CMSG_CLOEXEC",
    "SOCK_SEQPACKET",
    "SOCK_CLOEXEC",
    "CLOCK_MONOTONIC",
    "CLOCK_REALTIME",
    "SIGCHLD",
    "SIGPIPE",
    "SIGSEGV",
    "SIGBUS",
    "EINTR",
    "ENOSYS",
    "ERANGE",
    "EOPNOTSUPP",
    "ENOTSUP",
    "EWOULDBLOCK",
];

fn source() -> String {
    let mut text = String::from(
        "#define _GNU_SOURCE
#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
int main(void) {
",
    );
    for (name, fields) in STRUCTURES {
        text += &format!("printf(\"{name} %zu\\n\", sizeof({name}));\n");
        for field in *fields {
            text += &format!("printf(\"{name}.{field} at %zu\\n\", offsetof({name}, {field}));\n");
        }
    }
    for name in NUMBERS {
        text += &format!("printf(\"{name} %ld\\n\", (long)({name}));\n");
    }
    text + "return 0;\n}\n"
}

fn answers(compiler: &str, dir: &Path) -> String {
    let (source_file, program) = (dir.join("abi.c"), dir.join(compiler));
    std::fs::write(&source_file, source()).unwrap();
    let mut compile = Command::new(compiler);
    compile.arg("-o").arg(&program).arg(&source_file);
    let out = compile.output();
    let out = out.unwrap_or_else(|e| panic!("{compiler}: {e}; `make deps` installs it"));
    let complaints = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{compiler}: {complaints}");
    let out = Command::new(&program).output().unwrap();
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn both_libraries_pass_the_same() {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let [glibc, musl] = ["gcc", "musl-gcc"].map(|compiler| answers(compiler, dir));
    let different: Vec<(&str, &str)> = glibc
        .lines()
        .zip(musl.lines())
        .filter(|(a, b)| a != b)
        .collect();
    assert_eq!(different, [], "glibc's, musl's");
    assert_eq!(glibc.lines().count(), musl.lines().count());
    assert!(glibc.contains("struct stat 144\n"));
}
