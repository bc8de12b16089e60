//! The command line of `hullctl run`, checked.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::ArgMatches;
use net::PortMapping;

use super::carrier::Program;
use super::units;
use super::volume::Volume;

/// What to run.
#[derive(Debug)]
pub enum Target {
    /// This machine's own root file system.
    Host,
    /// A bundle: a directory with a `config.json`.
    Bundle(PathBuf),
    /// An image, by any of its names.
    Image(String),
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Host => f.write_str("host"),
            Self::Bundle(dir) => write!(f, "{}", dir.display()),
            Self::Image(name) => f.write_str(name),
        }
    }
}

/// When to fetch an image.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pull {
    /// Where the store does not have it.
    Missing,
    /// Each time.
    Always,
    /// Not at all.
    Never,
}

/// A container's network.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NetworkMode {
    /// Its own, attached to our bridge.
    Bridge,
    /// Its own, with nothing but loopback.
    None,
    /// This machine's.
    Host,
    /// Its own, carried by a program in user space.
    UserSpace(Program),
}

/// A checked command line.
#[derive(Debug)]
pub struct RunArgs {
    /// What to run.
    pub target: Target,
    /// Container id.
    pub id: String,
    /// Where the runtime keeps its state.
    pub root: Option<PathBuf>,
    /// Where images and containers are kept.
    pub store: PathBuf,
    /// Show what is isolated and how.
    pub explain: bool,
    /// Do not stay.
    pub detach: bool,
    /// Remove it when it has ended.
    pub remove: bool,
    /// When to fetch the image.
    pub pull: Pull,
    /// Do not say what killed it.
    pub quiet: bool,
    /// What the container is to be.
    pub settings: Settings,
}

/// What the container is to be.
#[derive(Clone, Debug)]
pub struct Settings {
    /// argv of the program; for an image what replaces its own.
    pub command: Vec<String>,
    /// In place of the image's entrypoint.
    pub entrypoint: Option<String>,
    /// Give it a pseudo-terminal.
    pub terminal: bool,
    /// Keep standard input open.
    pub interactive: bool,
    /// A small init as process 1.
    pub init: bool,
    /// In a user namespace of its own.
    pub userns: bool,
    /// Host name inside.
    pub hostname: Option<String>,
    /// Additional environment, `NAME=VALUE`.
    pub env: Vec<String>,
    /// Working directory.
    pub workdir: Option<String>,
    /// Names or numbers.
    pub user: Option<String>,
    /// Its root cannot be written to.
    pub read_only: bool,
    /// Limits.
    pub limits: Limits,
    /// Capabilities to add to the usual ones.
    pub cap_add: Vec<String>,
    /// Capabilities to take from them.
    pub cap_drop: Vec<String>,
    /// What else keeps it in.
    pub security: Security,
    /// Directories of the machine.
    pub volumes: Vec<Volume>,
    /// Its network; `None`: what is usual for the target.
    pub network: Option<NetworkMode>,
    /// Ports of the machine that lead to it.
    pub ports: Vec<PortMapping>,
}

/// What it may use.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Bytes.
    pub memory: Option<i64>,
    /// Microseconds of processor time in each [`units::PERIOD`].
    pub cpu_quota: Option<i64>,
    /// Tasks.
    pub pids: Option<i64>,
    /// Bytes of /dev/shm.
    pub shm: Option<i64>,
}

/// The system-call filter.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Filter {
    /// The one built in.
    Default,
    /// None.
    Unconfined,
    /// A profile's file.
    File(PathBuf),
}

/// What keeps it in, besides namespaces and capabilities.
#[derive(Clone, Debug)]
pub struct Security {
    /// The system-call filter.
    pub filter: Filter,
    /// Programs cannot gain privileges.
    pub no_new_privileges: bool,
    /// AppArmor profile.
    pub apparmor: Option<String>,
}

/// Checks what clap has parsed.
pub fn parse(m: &ArgMatches) -> Result<RunArgs> {
    let target = target(&text(m, "target").unwrap_or_default());
    let settings = settings(m, &target)?;
    let remove = m.get_flag("rm");
    let args = RunArgs {
        id: text(m, "name").unwrap_or_else(|| made_up_id(&target)),
        root: m.get_one::<PathBuf>("root").cloned(),
        store: crate::image::store_root(m.get_one::<PathBuf>("store").cloned()),
        explain: m.get_flag("explain"),
        quiet: m.get_flag("quiet"),
        detach: m.get_flag("detach"),
        remove,
        pull: match text(m, "pull").as_deref() {
            Some("always") => Pull::Always,
            Some("never") => Pull::Never,
            _ => Pull::Missing,
        },
        settings,
        target,
    };
    check(&args)?;
    Ok(args)
}

/// What does not go together.
fn check(args: &RunArgs) -> Result<()> {
    let is_image = matches!(args.target, Target::Image(_));
    if args.detach && !is_image {
        bail!(
            "run: --detach is for images; a bundle is run in the background by `hull run --detach`"
        );
    }
    if args.detach && args.explain {
        bail!("run: --explain stays with the container: leave out --detach");
    }
    let settings = &args.settings;
    let bridged =
        settings.network == Some(NetworkMode::Bridge) || (settings.network.is_none() && is_image);
    if !settings.ports.is_empty() && !bridged {
        bail!("run: --publish needs --network bridge: there is nothing for the port to lead to");
    }
    if !is_image && settings.network == Some(NetworkMode::Bridge) {
        bail!("run: --network bridge is for images; host and bundles have none or the machine's");
    }
    Ok(())
}

fn target(word: &str) -> Target {
    let path = Path::new(word);
    let is_bundle = word.starts_with(['.', '/']) || path.join("config.json").is_file();
    match word {
        "host" => Target::Host,
        _ if is_bundle => Target::Bundle(path.to_owned()),
        _ => Target::Image(word.to_owned()),
    }
}

fn settings(m: &ArgMatches, target: &Target) -> Result<Settings> {
    let mut command = words(m, "command");
    if command.first().is_some_and(|w| w == "--") {
        command.remove(0);
    }
    if command.is_empty() && matches!(target, Target::Host) {
        command.push(std::env::var("SHELL").unwrap_or_else(|_| "/bin/sh".to_owned()));
    }
    let limits = Limits {
        memory: text(m, "memory")
            .map(|s| units::bytes("memory", &s))
            .transpose()?,
        cpu_quota: text(m, "cpus").map(|s| units::quota(&s)).transpose()?,
        pids: m.get_one::<i64>("pids-limit").copied(),
        shm: text(m, "shm-size")
            .map(|s| units::bytes("shm-size", &s))
            .transpose()?,
    };
    Ok(Settings {
        command,
        entrypoint: text(m, "entrypoint"),
        terminal: m.get_flag("tty"),
        interactive: m.get_flag("interactive"),
        init: m.get_flag("init"),
        userns: text(m, "userns").is_some_and(|mode| mode == "auto"),
        hostname: text(m, "hostname"),
        env: environment(m)?,
        workdir: text(m, "workdir"),
        user: text(m, "user"),
        read_only: m.get_flag("read-only"),
        limits,
        cap_add: capabilities(&words(m, "cap-add"))?,
        cap_drop: capabilities(&words(m, "cap-drop"))?,
        security: security(m, target)?,
        volumes: words(m, "volume")
            .iter()
            .map(|v| Volume::parse(v))
            .collect::<Result<_>>()?,
        network: text(m, "network").map(|mode| match mode.as_str() {
            "bridge" => NetworkMode::Bridge,
            "host" => NetworkMode::Host,
            "pasta" => NetworkMode::UserSpace(Program::Pasta),
            "slirp4netns" => NetworkMode::UserSpace(Program::Slirp4netns),
            _ => NetworkMode::None,
        }),
        ports: words(m, "publish")
            .iter()
            .map(|p| p.parse().with_context(|| format!("run: --publish {p}")))
            .collect::<Result<_>>()?,
    })
}

fn environment(m: &ArgMatches) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for path in words(m, "env-file") {
        let file =
            std::fs::read_to_string(&path).with_context(|| format!("run: --env-file {path}"))?;
        let meant = |l: &&str| !l.is_empty() && !l.starts_with('#');
        lines.extend(file.lines().map(str::trim).filter(meant).map(str::to_owned));
    }
    lines.extend(words(m, "env"));
    let mut env = Vec::new();
    for line in lines {
        match line.split_once('=') {
            Some(("", _)) => bail!("run: --env {line}: no name; write NAME=VALUE"),
            Some(_) => env.push(line),
            // As it is here; what is not set here is not set there.
            None => env.extend(
                std::env::var(&line)
                    .ok()
                    .map(|value| format!("{line}={value}")),
            ),
        }
    }
    Ok(env)
}

fn capabilities(names: &[String]) -> Result<Vec<String>> {
    let known = runtime::identity::cap_names(u64::MAX);
    let full = |name: &String| {
        let upper = name.to_ascii_uppercase();
        if upper == "ALL" || upper.starts_with("CAP_") {
            upper
        } else {
            format!("CAP_{upper}")
        }
    };
    let names: Vec<String> = names
        .iter()
        .flat_map(|n| n.split(','))
        .map(str::to_owned)
        .collect();
    let names: Vec<String> = names.iter().map(full).collect();
    match names
        .iter()
        .find(|n| *n != "ALL" && !known.contains(&n.as_str()))
    {
        Some(name) => bail!("run: {name}: no such capability; see capabilities(7)"),
        None => Ok(names),
    }
}

fn security(m: &ArgMatches, target: &Target) -> Result<Security> {
    let mut security = Security {
        filter: if m.get_flag("no-seccomp") {
            Filter::Unconfined
        } else {
            Filter::Default
        },
        // An image may bring programs that are meant to gain privileges, as podman lets them.
        no_new_privileges: matches!(target, Target::Host),
        apparmor: None,
    };
    for option in words(m, "security-opt") {
        let (key, value) = option.split_once(['=', ':']).unwrap_or((&option, ""));
        match (key, value) {
            ("seccomp", "unconfined") => security.filter = Filter::Unconfined,
            ("seccomp", file) if !file.is_empty() => security.filter = Filter::File(file.into()),
            ("no-new-privileges", "" | "true") => security.no_new_privileges = true,
            ("no-new-privileges", "false") => security.no_new_privileges = false,
            ("apparmor", "unconfined") | ("label", "disable") => {}
            ("apparmor", profile) if !profile.is_empty() => {
                security.apparmor = Some(profile.to_owned());
            }
            _ => bail!(
                "run: --security-opt {option}: not understood; seccomp=unconfined|FILE, \
                 no-new-privileges, apparmor=PROFILE or label=disable"
            ),
        }
    }
    Ok(security)
}

fn text(m: &ArgMatches, name: &str) -> Option<String> {
    m.get_one::<String>(name).cloned()
}

fn words(m: &ArgMatches, name: &str) -> Vec<String> {
    m.get_many::<String>(name)
        .unwrap_or_default()
        .cloned()
        .collect()
}

/// An id nobody else has: the processes of two containers of one name do not live at the same
/// time, and what a container leaves has its own number in it.
fn made_up_id(target: &Target) -> String {
    let what = match target {
        Target::Host => "host".to_owned(),
        Target::Bundle(dir) => dir
            .canonicalize()
            .ok()
            .and_then(|d| d.file_name().map(|n| n.to_string_lossy().into_owned()))
            .unwrap_or_else(|| "bundle".to_owned()),
        Target::Image(name) => {
            let last = name.rsplit('/').next().unwrap_or_default();
            let word = last.split([':', '@']).next().unwrap_or_default();
            let nanos = sys::trace::now() & 0xffff;
            return format!("{}-{}-{nanos:04x}", clean(word), std::process::id());
        }
    };
    format!("{}-{}", clean(&what), std::process::id())
}

fn clean(word: &str) -> String {
    word.chars()
        .filter(|c| c.is_ascii_alphanumeric() || "_-.".contains(*c))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::command;

    fn parsed(words: &[&str]) -> Result<RunArgs> {
        parse(&command().try_get_matches_from(words)?)
    }

    #[test]
    fn words_after_the_target_are_the_command() {
        let args = parsed(&["run", "--explain", "host", "--", "ls", "-l"]).unwrap();
        assert!(args.explain);
        assert_eq!(args.settings.command, ["ls", "-l"]);
        let args = parsed(&["run", "host", "-m", "1k", "sh", "-c", "true"]).unwrap();
        assert_eq!(args.settings.limits.memory, Some(1024));
        assert_eq!(args.settings.command, ["sh", "-c", "true"]);
    }

    #[test]
    fn what_podman_users_type() {
        let args = parsed(&[
            "run",
            "-it",
            "--rm",
            "--name",
            "x",
            "-p",
            "8080:80",
            "-v",
            "/a:/b:ro",
            "-e",
            "A=1",
            "--cap-drop",
            "all",
            "--cap-add",
            "net_raw",
            "--cpus",
            "0.5",
            "--userns=auto",
            "nginx:1",
            "sh",
        ])
        .unwrap();
        assert!(matches!(&args.target, Target::Image(name) if name == "nginx:1"));
        let s = &args.settings;
        assert!(s.terminal && s.interactive && s.userns && args.remove);
        assert_eq!(
            (s.cap_drop.join(","), s.cap_add.join(",")),
            ("ALL".into(), "CAP_NET_RAW".into())
        );
        assert_eq!((s.ports.len(), s.volumes.len()), (1, 1));
        assert_eq!(s.limits.cpu_quota, Some(50_000));
    }

    #[test]
    fn contradictions_are_refused() {
        for (words, says) in [
            (&["run", "-d", "host"][..], "for images"),
            (
                &["run", "-p", "1:1", "--network", "host", "x"],
                "--network bridge",
            ),
            (&["run", "--cap-add", "fly", "x"], "CAP_FLY"),
            (&["run", "-e", "=1", "x"], "no name"),
            (&["run", "--security-opt", "magic", "x"], "not understood"),
            (&["run", "-v", "rel/ative:/x", "x"], "volume"),
        ] {
            let error = format!("{:#}", parsed(words).unwrap_err());
            assert!(error.contains(says), "{words:?}: {error}");
        }
    }
}
