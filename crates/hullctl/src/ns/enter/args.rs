//! The command line of `hullctl ns enter`, checked.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::{Arg, ArgMatches, Command, value_parser};
use spec::plan::NamespaceKind;

use super::super::args::{
    flag, group, kind_options, option, optional, optional_path, program, program_of, text, user,
};
use super::super::creds::Identity;
use super::super::kinds::KINDS;

/// Whose namespaces.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The process.
    pub pid: i32,
    /// The inode of its pidfd, if it was given: another process with the pid has another one.
    pub inode: Option<u64>,
}

/// Where one namespace is found.
#[derive(Clone, Debug)]
pub enum Place {
    /// The target's.
    Target,
    /// At this file.
    File(PathBuf),
    /// By its number (`ns ls` shows none; ioctl NS_GET_ID tells it).
    Number(u64),
}

/// A directory of the target's, or one of our own choice.
#[derive(Clone, Debug)]
pub enum Directory {
    /// The target's.
    Target,
    /// This one.
    Given(PathBuf),
}

/// A checked command line.
#[derive(Debug)]
pub struct Plan {
    /// The process, if one was named.
    pub target: Option<Target>,
    /// All namespaces of the target that are not ours.
    pub all: bool,
    /// These.
    pub places: Vec<(NamespaceKind, Place)>,
    /// The network namespace of this descriptor of the target's.
    pub net_socket: Option<i32>,
    /// The user namespace that owns the others.
    pub user_parent: bool,
    /// Root.
    pub root: Option<Directory>,
    /// Working directory, as seen from outside.
    pub workdir: Option<Directory>,
    /// Working directory, as seen from inside.
    pub inner_workdir: Option<PathBuf>,
    /// The target's environment.
    pub target_env: bool,
    /// Do not fork before the program.
    pub no_fork: bool,
    /// The target's security context.
    pub follow_context: bool,
    /// Join the target's control groups.
    pub join_cgroup: bool,
    /// Keep user and group ids.
    pub preserve_credentials: bool,
    /// Who the program is.
    pub identity: Identity,
    /// The program and its arguments.
    pub program: Vec<OsString>,
}

const EXAMPLES: &str = "\
Examples:
  hullctl ns enter --target 4711 --all
      a shell where process 4711 is
  hullctl ns enter -t 4711 --net ss -tln
      its listening sockets, with the tools of this machine
  hullctl ns enter --net=/run/netns/blue ip addr
      in a network namespace that `hullctl ns add` or `ip netns add` made
  hullctl ns enter -t 4711 -a --join-cgroup sh
      a shell that is counted and limited like process 4711";

/// The definition.
pub fn command() -> Command {
    Command::new("enter")
        .about("Run a program in the namespaces of others; the options are nsenter(1)'s")
        .after_help(EXAMPLES)
        .arg(
            flag(
                "all",
                "All namespaces of the target that are not ours already",
            )
            .short('a'),
        )
        .arg(
            option(
                "target",
                "PID[:INODE]",
                "The process; with the inode of its pidfd, only that one",
            )
            .short('t'),
        )
        .args(kind_options("FILE|:ID", "Enter the"))
        .args(more_options())
        .arg(program())
}

fn more_options() -> Vec<Arg> {
    let path = |name, help| optional(name, "DIR", help);
    vec![
        option(
            "net-socket",
            "FD",
            "Enter the network namespace of this descriptor of the target's",
        )
        .short('N')
        .value_parser(value_parser!(i32)),
        flag(
            "user-parent",
            "Enter the user namespace that owns the others",
        ),
        option(
            "setuid",
            "USER",
            "Run as this user (root, when a user namespace is entered)",
        )
        .short('S'),
        option(
            "setgid",
            "GROUP",
            "Run with this group alone (root's, when a user namespace is entered)",
        )
        .short('G'),
        flag("keep-caps", "Hand the capabilities down to the program"),
        flag(
            "preserve-credentials",
            "Leave user and group ids as they are",
        ),
        path("root", "Root directory: the target's, or DIR").short('r'),
        path(
            "wd",
            "Working directory: the target's, or DIR as seen from outside",
        )
        .short('w'),
        path("wdns", "Working directory as seen from inside").short('W'),
        flag("env", "With the target's environment").short('e'),
        flag(
            "no-fork",
            "Do not fork before the program, even for a pid namespace",
        )
        .short('F'),
        flag("follow-context", "With the target's SELinux context").short('Z'),
        flag("join-cgroup", "Join the target's control groups").short('c'),
    ]
}

/// Checks what clap has parsed.
pub fn parse(m: &ArgMatches) -> Result<Plan> {
    let target = text(m, "target").map(|t| parse_target(&t)).transpose()?;
    let mut places = Vec::new();
    for k in KINDS {
        if let Some(given) = text(m, k.long) {
            places.push((k.kind, parse_place(&given)?));
        }
    }
    let directory = |name: &str| {
        optional_path(m, name).map(|given| given.map_or(Directory::Target, Directory::Given))
    };
    let plan = Plan {
        all: m.get_flag("all"),
        net_socket: m.get_one::<i32>("net-socket").copied(),
        user_parent: m.get_flag("user-parent"),
        root: directory("root"),
        workdir: directory("wd"),
        inner_workdir: optional_path(m, "wdns").map(|given| given.unwrap_or_else(|| "/".into())),
        target_env: m.get_flag("env"),
        no_fork: m.get_flag("no-fork"),
        follow_context: m.get_flag("follow-context"),
        join_cgroup: m.get_flag("join-cgroup"),
        preserve_credentials: m.get_flag("preserve-credentials"),
        identity: Identity {
            uid: text(m, "setuid").map(|t| user(&t)).transpose()?,
            gid: text(m, "setgid").map(|t| group(&t)).transpose()?,
            keep_caps: m.get_flag("keep-caps"),
        },
        program: program_of(m)?,
        target,
        places,
    };
    if plan.target.is_none() && plan.needs_target() {
        bail!("ns enter: whose? Name a process with --target PID, or a file with --KIND=FILE");
    }
    Ok(plan)
}

impl Plan {
    fn needs_target(&self) -> bool {
        let of_target = |d: &Option<Directory>| matches!(d, Some(Directory::Target));
        self.all
            || self.net_socket.is_some()
            || self.target_env
            || self.follow_context
            || self.join_cgroup
            || of_target(&self.root)
            || of_target(&self.workdir)
            || self.places.iter().any(|(_, p)| matches!(p, Place::Target))
    }
}

fn parse_target(given: &str) -> Result<Target> {
    let (pid, inode) = match given.split_once(':') {
        Some((pid, inode)) => (pid, Some(inode)),
        None => (given, None),
    };
    let wrong = || format!("ns enter: --target {given}: write PID or PID:INODE");
    let pid = pid.parse().with_context(wrong)?;
    let inode = inode.map(str::parse).transpose().with_context(wrong)?;
    Ok(Target { pid, inode })
}

fn parse_place(given: &str) -> Result<Place> {
    if given.is_empty() {
        return Ok(Place::Target);
    }
    match given.strip_prefix(':') {
        Some(number) => {
            let wrong = || format!("ns enter: {given}: write :ID, a namespace's number");
            Ok(Place::Number(number.parse().with_context(wrong)?))
        }
        None => Ok(Place::File(given.into())),
    }
}
