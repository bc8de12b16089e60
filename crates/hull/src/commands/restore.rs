//! `hull restore`.

use clap::Command;

use crate::options::{command, id, path, switch, text, texts};

/// The definition.
#[must_use]
pub fn define() -> Command {
    command(
        "restore",
        "Restore a container from an image that checkpoint made",
    )
    .arg(path(
        "console-socket",
        "PATH",
        "Unix socket that takes the master of the pseudo-terminal",
    ))
    .arg(path("image-path", "DIR", "Where the image is"))
    .arg(path("work-path", "DIR", "Where criu works and logs"))
    .arg(switch("tcp-established", "Allow open TCP connections"))
    .arg(switch("ext-unix-sk", "Allow external unix sockets"))
    .arg(switch("shell-job", "Allow shell jobs"))
    .arg(switch("file-locks", "Allow file locks"))
    .arg(super::checkpoint::manage_cgroups_mode())
    .arg(
        path(
            "bundle",
            "DIR",
            "Directory of the bundle [default: the current one]",
        )
        .short('b'),
    )
    .arg(switch("detach", "Do not wait for the container").short('d'))
    .arg(path(
        "pid-file",
        "FILE",
        "Write the pid of the container to this file",
    ))
    .arg(switch(
        "no-subreaper",
        "Do not become the reaper of orphaned processes",
    ))
    .arg(switch(
        "no-pivot",
        "Enter the root without pivot_root, for a root on a ramdisk",
    ))
    .arg(texts(
        "empty-ns",
        "NAMESPACE",
        "Make this namespace, but do not restore its properties",
    ))
    .arg(switch(
        "auto-dedup",
        "Drop pages from the image once they are restored",
    ))
    .arg(switch("lazy-pages", "Let memory be fetched by userfaultfd"))
    .arg(text(
        "lsm-profile",
        "TYPE:LABEL",
        "Label of the restored processes, selinux or apparmor",
    ))
    .arg(text(
        "lsm-mount-context",
        "CONTEXT",
        "Security context of the restored mounts",
    ))
    .arg(id())
}
