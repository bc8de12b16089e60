//! `hull restore`.

use clap::{ArgMatches, Command};
use runtime::Result;
use runtime::become_program::Descriptors;
use runtime::create::{Request, Start};
use runtime::criu::{RestoreRequest, restore};

use crate::Context;
use crate::context::id as id_of;
use crate::options::{command, given, given_path, id, is_on, path, switch, text, texts};

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

/// Restores it.
///
/// # Errors
/// Those of [`restore`].
pub fn run(context: &Context, matches: &ArgMatches) -> Result<u8> {
    super::protect(Descriptors::default())?;
    let root = context.make_root()?;
    let request = RestoreRequest {
        create: Request {
            id: id_of(matches)?,
            bundle: given_path(matches, "bundle").unwrap_or_else(|| ".".into()),
            console_socket: given_path(matches, "console-socket"),
            pidfd_socket: None,
            pid_file: given_path(matches, "pid-file"),
            no_pivot: is_on(matches, "no-pivot"),
            no_new_keyring: false,
            descriptors: Descriptors::default(),
            systemd_cgroup: context.systemd_cgroup,
            rootless: context.rootless,
            notify_socket: None,
            start: if is_on(matches, "detach") {
                Start::Detached
            } else {
                Start::Attached
            },
        },
        common: super::checkpoint::common(matches)?,
        no_subreaper: is_on(matches, "no-subreaper"),
        lsm_profile: given(matches, "lsm-profile").map(str::to_owned),
        lsm_mount_context: given(matches, "lsm-mount-context").map(str::to_owned),
    };
    let code = restore(&root, &request, &mut |w| context.warn(w))?;
    Ok(u8::try_from(code).unwrap_or(u8::MAX))
}
