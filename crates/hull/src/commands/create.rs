//! `hull create`.

use clap::{ArgMatches, Command};
use runtime::Result;
use runtime::become_program::Descriptors;
use runtime::create::{Request, Start};

use crate::Context;
use crate::context::id as id_of;
use crate::options::{command, given_path, id, is_on, number, path, switch};

/// The definition.
#[must_use]
pub fn define() -> Command {
    with_options(command(
        "create",
        "Create a container: everything but the start of its program",
    ))
}

/// The options that `create` and `run` share.
pub(super) fn with_options(command: Command) -> Command {
    command
        .arg(
            path(
                "bundle",
                "DIR",
                "Directory of the bundle [default: the current one]",
            )
            .short('b'),
        )
        .arg(path(
            "console-socket",
            "PATH",
            "Unix socket that takes the master of the pseudo-terminal",
        ))
        .arg(path(
            "pidfd-socket",
            "PATH",
            "Unix socket that takes a pidfd of the container",
        ))
        .arg(path(
            "pid-file",
            "FILE",
            "Write the pid of the container to this file",
        ))
        .arg(switch(
            "no-pivot",
            "Enter the root without pivot_root, for a root on a ramdisk",
        ))
        .arg(switch(
            "no-new-keyring",
            "Keep the session keyring of the caller",
        ))
        .arg(number(
            "preserve-fds",
            "Pass on N more descriptors than standard input, output and error",
        ))
        .arg(id())
}

/// What they ask for.
pub(super) fn request(context: &Context, matches: &ArgMatches, start: Start) -> Result<Request> {
    let bundle = given_path(matches, "bundle");
    Ok(Request {
        id: id_of(matches)?,
        bundle: bundle.unwrap_or_else(|| ".".into()),
        console_socket: given_path(matches, "console-socket"),
        pidfd_socket: given_path(matches, "pidfd-socket"),
        pid_file: given_path(matches, "pid-file"),
        no_pivot: is_on(matches, "no-pivot"),
        no_new_keyring: is_on(matches, "no-new-keyring"),
        descriptors: descriptors(matches),
        systemd_cgroup: context.systemd_cgroup,
        rootless: context.rootless,
        notify_socket: std::env::var("NOTIFY_SOCKET").ok(),
        start,
    })
}

/// Descriptors to pass on: those of socket activation, then `--preserve-fds`. The former are meant
/// for the process that `LISTEN_PID` names (sd_listen_fds(3)), not for all that inherit them.
pub(super) fn descriptors(matches: &ArgMatches) -> Descriptors {
    let number = |name| std::env::var(name).ok().and_then(|n| n.parse::<u32>().ok());
    let ours = number("LISTEN_PID") == Some(std::process::id());
    Descriptors {
        listen: number("LISTEN_FDS").filter(|_| ours).unwrap_or(0),
        more: matches.get_one("preserve-fds").copied().unwrap_or(0),
    }
}

/// Creates it.
///
/// # Errors
/// Those of [`runtime::create::create`].
pub fn run(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let request = request(context, matches, Start::Later)?;
    super::protect(request.descriptors)?;
    let root = context.make_root()?;
    runtime::create::create(&root, &request, &mut |w| context.warn(w))?;
    Ok(0)
}
