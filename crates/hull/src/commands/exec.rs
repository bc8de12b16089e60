//! `hull exec`.

use clap::{Arg, Command};

use crate::options::{command, id, number, path, switch, text, texts};

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
