//! `hull exec`.

use std::path::Path;

use cgroup::SubCgroups;
use clap::{Arg, ArgMatches, Command};
use runtime::exec::{Request, User, Wanted, Wish, exec, parse_id};
use runtime::{Doing as _, Result};
use sys::Context as _;

use super::create::descriptors;
use crate::Context;
use crate::options::{
    all, command, given, given_path, id, is_on, number, path, switch, text, texts,
};

/// The definition.
#[must_use]
pub fn define() -> Command {
    command("exec", "Run a command in a running container")
        .arg(path(
            "console-socket",
            "PATH",
            "Unix socket that takes the master of the pseudo-terminal",
        ))
        .arg(path(
            "pidfd-socket",
            "PATH",
            "Unix socket that takes a pidfd of the process",
        ))
        .arg(text("cwd", "DIR", "Working directory inside the container"))
        .arg(texts("env", "NAME=VALUE", "Set an environment variable").short('e'))
        .arg(switch("tty", "Attach a pseudo-terminal").short('t'))
        .arg(text("user", "UID[:GID]", "Run as this user").short('u'))
        .arg(texts("additional-gids", "GID", "Add a supplementary group").short('g'))
        .arg(
            path(
                "process",
                "FILE",
                "Read the process from this JSON document",
            )
            .short('p'),
        )
        .arg(switch("detach", "Do not wait for the process").short('d'))
        .arg(path(
            "pid-file",
            "FILE",
            "Write the pid of the process to this file",
        ))
        .arg(text(
            "process-label",
            "LABEL",
            "SELinux label of the process",
        ))
        .arg(text(
            "apparmor",
            "PROFILE",
            "AppArmor profile of the process",
        ))
        .arg(switch("no-new-privs", "Set no_new_privs"))
        .arg(texts("cap", "CAPABILITY", "Add a capability").short('c'))
        .arg(number(
            "preserve-fds",
            "Pass on N more descriptors than standard input, output and error",
        ))
        .arg(switch("ignore-paused", "Run in a paused container too"))
        .arg(texts(
            "cgroup",
            "[CTL,..:]PATH",
            "Run in this cgroup below the container's",
        ))
        .arg(id())
        .arg(
            Arg::new("command")
                .value_name("COMMAND")
                .num_args(0..)
                .trailing_var_arg(true)
                .allow_hyphen_values(true)
                .help("Command and its arguments"),
        )
}

/// Runs it.
///
/// # Errors
/// Those of [`exec`].
pub fn run(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let doing = || "exec failed";
    let descriptors = descriptors(matches);
    super::protect(descriptors).doing(doing)?;
    let code = act(context, matches).doing(doing)?;
    Ok(u8::try_from(code).unwrap_or(u8::MAX))
}

fn act(context: &Context, matches: &ArgMatches) -> Result<i32> {
    let container = context.container(matches)?;
    let cgroups: Vec<&str> = all(matches, "cgroup").collect();
    let request = Request {
        process: match given_path(matches, "process") {
            Some(file) => Wanted::Document(Box::new(document(&file)?)),
            None => Wanted::Wish(wish(matches)?),
        },
        console_socket: given_path(matches, "console-socket"),
        pidfd_socket: given_path(matches, "pidfd-socket"),
        pid_file: given_path(matches, "pid-file"),
        detach: is_on(matches, "detach"),
        descriptors: descriptors(matches),
        ignore_paused: is_on(matches, "ignore-paused"),
        cgroups: SubCgroups::parse(&cgroups)?,
    };
    exec(&container, request, &mut |w| context.warn(w))
}

fn document(path: &Path) -> Result<spec::oci::Process> {
    let bytes = std::fs::read(path).context("open", || path.display().to_string())?;
    Ok(spec::parse_process(&bytes)?)
}

fn wish(matches: &ArgMatches) -> Result<Wish> {
    let owned = |name: &'static str| all(matches, name).map(str::to_owned).collect();
    let one = |name| given(matches, name).map(str::to_owned);
    let gids = all(matches, "additional-gids").map(|gid| parse_id("additional gid", gid));
    Ok(Wish {
        args: owned("command"),
        cwd: one("cwd"),
        env: owned("env"),
        terminal: is_on(matches, "tty"),
        user: given(matches, "user").map(User::parse).transpose()?,
        additional_gids: gids.collect::<Result<_>>()?,
        selinux_label: one("process-label"),
        apparmor_profile: one("apparmor"),
        no_new_privileges: is_on(matches, "no-new-privs"),
        capabilities: owned("cap"),
    })
}
