//! `hull checkpoint`.

use clap::{Arg, Command};

use crate::options::{command, id, path, switch, text, texts};

/// The definition.
#[must_use]
pub fn define() -> Command {
    command("checkpoint", "Save a running container to disk with criu")
        .arg(path("image-path", "DIR", "Where the image goes"))
        .arg(path("work-path", "DIR", "Where criu works and logs"))
        .arg(path("parent-path", "DIR", "Image of an earlier --pre-dump"))
        .arg(switch("leave-running", "Let the container go on"))
        .arg(switch("tcp-established", "Allow open TCP connections"))
        .arg(switch(
            "tcp-skip-in-flight",
            "Leave out TCP connections that are being made",
        ))
        .arg(switch(
            "link-remap",
            "Allow unlinked files to be linked again",
        ))
        .arg(switch("ext-unix-sk", "Allow external unix sockets"))
        .arg(switch("shell-job", "Allow shell jobs"))
        .arg(switch("lazy-pages", "Let memory be fetched by userfaultfd"))
        .arg(text(
            "status-fd",
            "FD",
            "criu writes a zero byte here when it is ready to serve pages",
        ))
        .arg(text(
            "page-server",
            "ADDRESS:PORT",
            "Address of a page server",
        ))
        .arg(switch("file-locks", "Allow file locks"))
        .arg(switch(
            "pre-dump",
            "Dump memory only and let the container go on",
        ))
        .arg(manage_cgroups_mode())
        .arg(texts(
            "empty-ns",
            "NAMESPACE",
            "Make this namespace, but do not restore its properties",
        ))
        .arg(switch(
            "auto-dedup",
            "Drop pages of earlier images that are saved again",
        ))
        .arg(id())
}

/// How criu treats control groups.
pub(super) fn manage_cgroups_mode() -> Arg {
    text(
        "manage-cgroups-mode",
        "MODE",
        "How criu treats control groups",
    )
    .value_parser(["soft", "full", "strict", "ignore"])
}
