//! A root file system for a container: busybox and the probe.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::host;

const DIRS: &[&str] = &[
    "bin", "dev", "etc", "proc", "root", "run", "sys", "tmp", "usr/bin", "var", "mnt", "data",
];

/// The applets that tests use; nearly all of busybox is left out to keep this quick.
const APPLETS: &[&str] = &[
    "[", "awk", "basename", "cat", "chgrp", "chmod", "chown", "cut", "date", "dd", "dirname",
    "dmesg", "echo", "env", "expr", "false", "find", "free", "grep", "head", "hostname", "id",
    "ifconfig", "ionice", "ip", "kill", "linux32", "ln", "ls", "mkdir", "mkfifo", "mknod", "mount",
    "mv", "nice", "nproc", "od", "ping", "printf", "ps", "pwd", "readlink", "realpath", "renice",
    "rm", "rmdir", "sed", "seq", "setpriv", "sh", "sleep", "sort", "stat", "stty", "su", "swapoff",
    "sync", "sysctl", "tail", "taskset", "tee", "test", "timeout", "touch", "tr", "true",
    "truncate", "tty", "umount", "uname", "uniq", "unshare", "usleep", "wc", "wget", "which",
    "whoami", "xargs", "yes",
];

/// Makes one at `root`.
///
/// # Panics
/// Where that fails: busybox-static is missing, or the disk is full.
pub fn make(root: &Path) {
    for dir in DIRS {
        std::fs::create_dir_all(root.join(dir)).expect("make a directory of the root");
    }
    let bin = root.join("bin");
    // cp(1) copies, not we: a descriptor open for writing here could be inherited by another
    // test's fork for a moment, and the program would be `text file busy`.
    let copied = Command::new("cp")
        .arg("--")
        .args([busybox(), &probe()])
        .arg(&bin)
        .status()
        .expect("run cp");
    assert!(
        copied.success(),
        "cannot copy programs to {}",
        bin.display()
    );
    for applet in APPLETS {
        symlink("busybox", bin.join(applet)).expect("make a symlink of busybox");
    }
    let etc = root.join("etc");
    let passwd = "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n";
    let group = "root:x:0:\nuser:x:1000:\nextra:x:2000:user\n";
    std::fs::write(etc.join("passwd"), passwd).expect("write passwd");
    std::fs::write(etc.join("group"), group).expect("write group");
    rustix::fs::chmod(root.join("tmp"), rustix::fs::Mode::from_raw_mode(0o1777))
        .expect("chmod tmp");
}

/// The statically linked busybox of the host.
fn busybox() -> &'static Path {
    static BUSYBOX: OnceLock<PathBuf> = OnceLock::new();
    BUSYBOX.get_or_init(|| {
        ["/usr/bin/busybox", "/bin/busybox"]
            .iter()
            .map(PathBuf::from)
            .find(|p| p.exists())
            .expect("no busybox: apt-get install busybox-static")
    })
}

/// The probe, built beside this test program.
fn probe() -> PathBuf {
    let probe = host::build_dir().join("probe");
    assert!(probe.exists(), "{} is missing", probe.display());
    probe
}
