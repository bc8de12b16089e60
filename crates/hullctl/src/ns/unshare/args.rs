//! The command line of `hullctl ns unshare`, checked.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use spec::plan::NamespaceKind;

use super::super::args::{
    flag, group, kind_options, option, optional, optional_path, program, program_of, text, user,
};
use super::super::creds::{Environment, Identity};
use super::super::kinds::KINDS;
use super::maps::{self, Wanted};

/// What propagation the mounts of a new mount namespace get.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Propagation {
    /// Nothing comes in or goes out.
    Private,
    /// Both ways.
    Shared,
    /// Only in.
    Slave,
    /// As it was.
    Unchanged,
}

/// A checked command line.
#[derive(Debug)]
pub struct Plan {
    /// What is new.
    pub kinds: Vec<NamespaceKind>,
    /// What is bound to files.
    pub files: Vec<(NamespaceKind, PathBuf)>,
    /// The program is a child.
    pub fork: bool,
    /// It gets our SIGTERM and SIGINT.
    pub forward_signals: bool,
    /// It gets this signal when we end.
    pub kill_child: Option<i32>,
    /// Mount proc here.
    pub mount_proc: Option<PathBuf>,
    /// Mount binfmt_misc here.
    pub mount_binfmt: Option<PathBuf>,
    /// Register this format there.
    pub load_interp: Option<String>,
    /// Users of a new user namespace.
    pub users: Wanted,
    /// Groups of it.
    pub groups: Wanted,
    /// No setgroups(2) in it.
    pub deny_setgroups: bool,
    /// Who owns it.
    pub owner: Option<(u32, u32)>,
    /// Of the mounts.
    pub propagation: Propagation,
    /// chroot here.
    pub root: Option<PathBuf>,
    /// chdir here.
    pub workdir: Option<PathBuf>,
    /// Who the program is.
    pub identity: Identity,
    /// Seconds of CLOCK_MONOTONIC.
    pub monotonic: Option<i64>,
    /// Seconds of CLOCK_BOOTTIME.
    pub boottime: Option<i64>,
    /// The program's environment.
    pub environment: Environment,
    /// The program and its arguments.
    pub program: Vec<OsString>,
}

const EXAMPLES: &str = "\
Examples:
  hullctl ns unshare --fork --pid --mount-proc ps ax
      a process list with one process
  hullctl ns unshare -r id -u
      0: root in a user namespace of one's own, without being root
  hullctl ns unshare --uts=/run/ns/blue hostname blue
      a host name that stays: `hullctl ns enter --uts=/run/ns/blue hostname`
  hullctl ns unshare --time --fork --boottime 100000000 uptime
      a machine that has been up for years";

/// The definition.
pub fn command() -> Command {
    Command::new("unshare")
        .about("Run a program in new namespaces; the options are unshare(1)'s")
        .after_help(EXAMPLES)
        .args(kind_options("FILE", "New"))
        .args(process_options())
        .args(user_options())
        .args(place_options())
        .arg(program())
}

fn process_options() -> Vec<Arg> {
    vec![
        flag(
            "fork",
            "Fork: the program becomes a child, the first of a new pid namespace",
        )
        .short('f'),
        flag(
            "forward-signals",
            "Pass SIGTERM and SIGINT on to the child; implies --fork",
        ),
        optional(
            "kill-child",
            "SIGNAL",
            "Send the child this signal (KILL) when we end; implies --fork",
        ),
        option("setuid", "USER", "Run as this user").short('S'),
        option("setgid", "GROUP", "Run with this group alone").short('G'),
        flag("keep-caps", "Hand the capabilities down to the program"),
        flag("clear-env", "Start with an empty environment"),
        option(
            "whitelist-env",
            "LIST",
            "Keep these variables of it, separated by commas; implies --clear-env",
        ),
        option(
            "monotonic",
            "SECONDS",
            "Offset of the monotonic clock, with --time",
        )
        .value_parser(value_parser!(i64)),
        option(
            "boottime",
            "SECONDS",
            "Offset of the boot-time clock, with --time",
        )
        .value_parser(value_parser!(i64)),
    ]
}

fn user_options() -> Vec<Arg> {
    let ranges = |name, help| option(name, "RANGE", help).action(ArgAction::Append);
    vec![
        option(
            "map-user",
            "USER",
            "The caller is this user inside; implies --user",
        ),
        option(
            "map-group",
            "GROUP",
            "The caller's group is this one inside; implies --user",
        ),
        ranges(
            "map-users",
            "Map inner:outer:count, auto, subids or all users; implies --user",
        ),
        ranges(
            "map-groups",
            "Map inner:outer:count, auto, subids or all groups; implies --user",
        ),
        flag(
            "map-auto",
            "Map the first subordinate range of users and groups from 0 on",
        ),
        flag(
            "map-subids",
            "Map the subordinate ranges of users and groups to themselves",
        ),
        flag("map-root-user", "The caller is root inside; implies --user")
            .short('r')
            .overrides_with("map-current-user"),
        flag(
            "map-current-user",
            "The caller is itself inside; implies --user",
        )
        .short('c'),
        option(
            "owner",
            "UID:GID",
            "The user namespace belongs to this user; implies --user",
        ),
        option(
            "setgroups",
            "WORD",
            "Let setgroups(2) be allowed or denied inside",
        )
        .value_parser(["allow", "deny"]),
    ]
}

fn place_options() -> Vec<Arg> {
    vec![
        optional(
            "mount-proc",
            "DIR",
            "Mount proc at DIR (/proc); implies --mount",
        ),
        optional(
            "mount-binfmt",
            "DIR",
            "Mount binfmt_misc at DIR (/proc/sys/fs/binfmt_misc); implies --mount",
        ),
        option(
            "load-interp",
            "FORMAT",
            "Register a binary format inside; implies --mount-binfmt",
        )
        .short('l'),
        option("propagation", "WORD", "Propagation of the mounts inside")
            .value_parser(["private", "shared", "slave", "unchanged"])
            .default_value("private"),
        option("root", "DIR", "Root directory of the program")
            .short('R')
            .value_parser(value_parser!(PathBuf)),
        option("wd", "DIR", "Working directory of the program")
            .short('w')
            .value_parser(value_parser!(PathBuf)),
    ]
}

/// Checks what clap has parsed.
pub fn parse(m: &ArgMatches) -> Result<Plan> {
    let (users, groups) = (wanted(m, "user", user)?, wanted(m, "group", group)?);
    let owner = text(m, "owner").map(|t| parse_owner(&t)).transpose()?;
    let mount_proc = with_default(m, "mount-proc", "/proc");
    let load_interp = text(m, "load-interp");
    let mut mount_binfmt = with_default(m, "mount-binfmt", BINFMT);
    if load_interp.is_some() && mount_binfmt.is_none() {
        mount_binfmt = Some(PathBuf::from(BINFMT));
    }
    let mut kinds: Vec<NamespaceKind> = Vec::new();
    let mut files = Vec::new();
    for k in KINDS {
        let given = optional_path(m, k.long);
        let implied = match k.kind {
            NamespaceKind::User => !users.is_empty() || !groups.is_empty() || owner.is_some(),
            NamespaceKind::Mount => mount_proc.is_some() || mount_binfmt.is_some(),
            _ => false,
        };
        if given.is_some() || implied {
            kinds.push(k.kind);
        }
        if let Some(Some(file)) = given {
            files.push((k.kind, file));
        }
    }
    let setgroups = text(m, "setgroups");
    // Without rights a group can only be mapped where setgroups(2) is gone for good.
    let single_group = groups.own_as.is_some() && groups.ranges.is_empty();
    if single_group && setgroups.as_deref() == Some("allow") {
        bail!(
            "ns unshare: --setgroups=allow and --map-group exclude each other; map ranges with --map-groups"
        );
    }
    let kill_child = text(m, "kill-child").map(|t| kill_signal(&t)).transpose()?;
    let plan = Plan {
        fork: m.get_flag("fork") || kill_child.is_some() || m.get_flag("forward-signals"),
        forward_signals: m.get_flag("forward-signals"),
        kill_child,
        mount_proc,
        mount_binfmt,
        load_interp,
        deny_setgroups: setgroups.as_deref() == Some("deny") || single_group,
        users,
        groups,
        owner,
        propagation: propagation(m),
        root: m.get_one::<PathBuf>("root").cloned(),
        workdir: m.get_one::<PathBuf>("wd").cloned(),
        identity: identity(m)?,
        monotonic: m.get_one::<i64>("monotonic").copied(),
        boottime: m.get_one::<i64>("boottime").copied(),
        environment: environment(m),
        program: program_of(m)?,
        kinds,
        files,
    };
    check(&plan)?;
    Ok(plan)
}

const BINFMT: &str = "/proc/sys/fs/binfmt_misc";

impl Plan {
    /// Whether another process must do what this one may not once it is inside.
    pub fn needs_helper(&self) -> bool {
        let ranges = !self.users.ranges.is_empty() || !self.groups.ranges.is_empty();
        ranges || self.owner.is_some() || !self.files.is_empty()
    }
}

fn check(plan: &Plan) -> Result<()> {
    let clocks = plan.monotonic.is_some() || plan.boottime.is_some();
    if clocks && !plan.kinds.contains(&NamespaceKind::Time) {
        bail!(
            "ns unshare: --monotonic and --boottime set the clocks of a new time namespace; add --time"
        );
    }
    let has = |kind| plan.files.iter().any(|(k, _)| *k == kind);
    if has(NamespaceKind::Pid) && !plan.fork {
        bail!("ns unshare: --pid=FILE needs a first process to keep; add --fork");
    }
    if plan.deny_setgroups && !plan.kinds.contains(&NamespaceKind::User) {
        bail!("ns unshare: --setgroups is about a new user namespace; add --user");
    }
    Ok(())
}

fn with_default(m: &ArgMatches, name: &str, default: &str) -> Option<PathBuf> {
    optional_path(m, name).map(|given| given.unwrap_or_else(|| default.into()))
}

fn wanted(m: &ArgMatches, what: &str, number: fn(&str) -> Result<u32>) -> Result<Wanted> {
    let single = text(m, &format!("map-{what}"));
    let current = if what == "user" {
        rustix::process::geteuid().as_raw()
    } else {
        rustix::process::getegid().as_raw()
    };
    let own_as = match single {
        Some(name) => Some(number(&name)?),
        None if m.get_flag("map-root-user") => Some(0),
        None if m.get_flag("map-current-user") => Some(current),
        None => None,
    };
    let given = m.get_many::<String>(&format!("map-{what}s"));
    let given = given.unwrap_or_default().map(|t| maps::parse(t));
    let mut ranges = given
        .collect::<Result<Vec<_>>>()
        .with_context(|| format!("ns unshare: --map-{what}s"))?;
    if m.get_flag("map-auto") {
        ranges.push(maps::Source::Auto);
    }
    if m.get_flag("map-subids") {
        ranges.push(maps::Source::Subids);
    }
    Ok(Wanted {
        own_as: own_as.map(u64::from),
        ranges,
    })
}

fn parse_owner(given: &str) -> Result<(u32, u32)> {
    let parts = given.split_once(':');
    let (uid, gid) =
        parts.with_context(|| format!("ns unshare: --owner {given}: write UID:GID"))?;
    Ok((user(uid)?, group(gid)?))
}

fn kill_signal(given: &str) -> Result<i32> {
    let name = if given.is_empty() { "KILL" } else { given };
    runtime::kill::signal_number(name).context("ns unshare: --kill-child")
}

fn propagation(m: &ArgMatches) -> Propagation {
    match text(m, "propagation").as_deref() {
        Some("shared") => Propagation::Shared,
        Some("slave") => Propagation::Slave,
        Some("unchanged") => Propagation::Unchanged,
        _ => Propagation::Private,
    }
}

fn identity(m: &ArgMatches) -> Result<Identity> {
    Ok(Identity {
        uid: text(m, "setuid").map(|t| user(&t)).transpose()?,
        gid: text(m, "setgid").map(|t| group(&t)).transpose()?,
        keep_caps: m.get_flag("keep-caps"),
    })
}

fn environment(m: &ArgMatches) -> Environment {
    let list = text(m, "whitelist-env");
    if list.is_none() && !m.get_flag("clear-env") {
        return Environment::Kept;
    }
    let list = list.unwrap_or_default();
    let kept = list.split(',').filter(|name| !name.is_empty());
    let pairs = kept.filter_map(|name| Some((name.into(), std::env::var_os(name)?)));
    Environment::Given(pairs.collect())
}
