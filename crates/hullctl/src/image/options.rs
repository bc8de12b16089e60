//! Options that several image commands share: how to reach registries, which platform, which
//! policy, which store.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use image::config::{AuthFiles, CertDirs, Credentials, Policy};
use image::registry::{Access, Retry};
use image::store::{DEFAULT_ROOT, ImageRecord, Store, StoreOptions};
use image::{Platform, Reference};

/// How long a command waits for another that writes the store.
const WAIT: Duration = Duration::from_secs(30);

/// Names of the options for one side of a transfer.
pub struct Side {
    creds: &'static str,
    username: &'static str,
    password: &'static str,
    token: &'static str,
    no_creds: &'static str,
    authfile: &'static str,
    cert_dir: &'static str,
    tls_verify: &'static str,
}

/// Options of a command with one side.
pub const ONE: Side = Side {
    creds: "creds",
    username: "username",
    password: "password",
    token: "registry-token",
    no_creds: "no-creds",
    authfile: "authfile",
    cert_dir: "cert-dir",
    tls_verify: "tls-verify",
};

/// Options of the side that is read.
pub const SRC: Side = Side {
    creds: "src-creds",
    username: "src-username",
    password: "src-password",
    token: "src-registry-token",
    no_creds: "src-no-creds",
    authfile: "src-authfile",
    cert_dir: "src-cert-dir",
    tls_verify: "src-tls-verify",
};

/// Options of the side that is written.
pub const DEST: Side = Side {
    creds: "dest-creds",
    username: "dest-username",
    password: "dest-password",
    token: "dest-registry-token",
    no_creds: "dest-no-creds",
    authfile: "dest-authfile",
    cert_dir: "dest-cert-dir",
    tls_verify: "dest-tls-verify",
};

/// A flag.
pub fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .action(ArgAction::SetTrue)
        .help(help)
}

/// An option with a value.
pub fn option(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).help(help)
}

/// A positional argument.
pub fn argument(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).value_name(value).help(help)
}

/// `--name`, `--name=true`, `--name=false`.
fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true")
        .value_parser(value_parser!(bool))
        .value_name("true|false")
        .help(help)
}

fn path(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    option(name, value, help).value_parser(value_parser!(PathBuf))
}

/// Adds the options of a side.
pub fn with_side(command: Command, side: &Side) -> Command {
    command
        .arg(option(
            side.creds,
            "USER[:PASSWORD]",
            "Credentials for the registry",
        ))
        .arg(option(side.username, "USER", "User name for the registry"))
        .arg(option(
            side.password,
            "PASSWORD",
            "Password for the registry",
        ))
        .arg(option(side.token, "TOKEN", "Bearer token for the registry"))
        .arg(flag(side.no_creds, "Without credentials"))
        .arg(path(side.authfile, "FILE", "File of credentials"))
        .arg(path(
            side.cert_dir,
            "DIR",
            "Directory of *.crt, *.cert and *.key",
        ))
        .arg(switch(
            side.tls_verify,
            "Demand TLS and check certificates (default: as registries.conf says, else true)",
        ))
}

/// Adds `--retry-times` and `--retry-delay`.
pub fn with_retry(command: Command) -> Command {
    command
        .arg(
            option("retry-times", "N", "Repetitions of a request that failed")
                .value_parser(value_parser!(u32))
                .default_value("5"),
        )
        .arg(
            option(
                "retry-delay",
                "SECONDS",
                "Pause before the first; it doubles each time",
            )
            .value_parser(value_parser!(f64))
            .default_value("1"),
        )
}

/// Adds `--platform` and skopeo's three `--override-*`.
pub fn with_platform(command: Command) -> Command {
    command
        .arg(option(
            "platform",
            "OS/ARCH[/VARIANT]",
            "Image for this platform instead of this machine's",
        ))
        .arg(option(
            "override-os",
            "OS",
            "The platform's operating system",
        ))
        .arg(option("override-arch", "ARCH", "The platform's CPU"))
        .arg(option(
            "override-variant",
            "VARIANT",
            "The platform's variant of the CPU",
        ))
}

/// Adds `--policy` and `--insecure-policy`.
pub fn with_policy(command: Command) -> Command {
    command
        .arg(path("policy", "FILE", "Use this policy.json"))
        .arg(
            flag("insecure-policy", "Accept images whatever policy.json says")
                .conflicts_with("policy"),
        )
}

/// Adds `--root`, the store's directory.
pub fn with_store(command: Command) -> Command {
    command.arg(path(
        "root",
        "DIR",
        "Where the images are [default: $HULL_STORE, or /var/lib/hull]",
    ))
}

/// A word or nothing.
pub fn text(m: &ArgMatches, name: &str) -> Option<String> {
    m.try_get_one::<String>(name).ok().flatten().cloned()
}

/// A word that clap has made sure of.
pub fn required(m: &ArgMatches, name: &str) -> String {
    text(m, name).unwrap_or_default()
}

/// All words of an argument.
pub fn words(m: &ArgMatches, name: &str) -> Vec<String> {
    let values = m.try_get_many::<String>(name).ok().flatten();
    values.unwrap_or_default().cloned().collect()
}

/// How to reach registries, as the command line says.
pub fn access(m: &ArgMatches, side: &Side) -> Result<Access> {
    let file = |name| m.get_one::<PathBuf>(name).cloned();
    let mut access = Access::system()?;
    if let Some(authfile) = file(side.authfile) {
        access = access.with_auth_files(AuthFiles::only(authfile));
    }
    if let Some(dir) = file(side.cert_dir) {
        access = access.with_certs(CertDirs::exact(dir));
    }
    if let Some(verify) = m.get_one::<bool>(side.tls_verify) {
        access = access.with_tls_verify(*verify);
    }
    let user = text(m, side.username).map(|user| Credentials::Basic {
        user,
        password: text(m, side.password).unwrap_or_default(),
    });
    let given = [
        text(m, side.creds).map(|c| Credentials::parse(&c)),
        user,
        text(m, side.token).map(Credentials::Bearer),
    ];
    let mut given = given.into_iter().flatten();
    match (given.next(), given.next(), m.get_flag(side.no_creds)) {
        (None, _, false) => {}
        (None, _, true) => access = access.with_credentials(None),
        (Some(one), None, false) => access = access.with_credentials(Some(one)),
        _ => bail!(
            "--{}, --{}, --{} and --{}: give one of them",
            side.creds,
            side.username,
            side.token,
            side.no_creds
        ),
    }
    Ok(access.with_retry(retry(m)?))
}

/// Repetitions, as the command line says.
pub fn retry(m: &ArgMatches) -> Result<Retry> {
    let usual = Retry::default();
    let times = m.try_get_one::<u32>("retry-times").ok().flatten();
    let seconds = m.try_get_one::<f64>("retry-delay").ok().flatten();
    let delay = match seconds {
        None => usual.delay,
        Some(s) => match Duration::try_from_secs_f64(*s) {
            Ok(delay) => delay,
            Err(_) => bail!("--retry-delay {s}: not a number of seconds"),
        },
    };
    Ok(Retry {
        times: times.copied().unwrap_or(usual.times),
        delay,
    })
}

/// The platform, as the command line says.
pub fn platform(m: &ArgMatches) -> Result<Platform> {
    let host = Platform::host();
    let mut platform = match text(m, "platform") {
        Some(text) => Platform::parse(&text)?,
        None => host,
    };
    if let Some(os) = text(m, "override-os") {
        platform.os = os;
    }
    if let Some(arch) = text(m, "override-arch") {
        let os = platform.os;
        platform = Platform::parse(&arch)?;
        platform.os = os;
    }
    if let Some(variant) = text(m, "override-variant") {
        platform.variant = variant;
    }
    Ok(platform)
}

/// The policy, as the command line says.
pub fn policy(m: &ArgMatches) -> Result<Policy> {
    if m.get_flag("insecure-policy") {
        return Ok(Policy::accept_anything());
    }
    Ok(match m.get_one::<PathBuf>("policy") {
        Some(file) => Policy::load(file)?,
        None => Policy::system()?,
    })
}

/// Where the store is: what HULL_STORE says, else `/var/lib/hull`, for a user who is not root
/// below their home.
pub fn store_root(given: Option<PathBuf>) -> PathBuf {
    let named = || std::env::var_os("HULL_STORE").map(PathBuf::from);
    if let Some(root) = given.or_else(named) {
        return root;
    }
    let share = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from);
    let share =
        share.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/share")));
    match share {
        Some(share) if runtime::is_rootless() => share.join("hull"),
        _ => PathBuf::from(DEFAULT_ROOT),
    }
}

/// The image that a person names: by what the store calls it, or by a short name of
/// registries.conf, as `pull` takes it.
pub fn find(store: &Store, name: &str) -> image::Result<ImageRecord> {
    store.find(&whole_name(store, name))
}

/// What the store calls an image of this name, if it has it by a short name only.
pub fn whole_name(store: &Store, name: &str) -> String {
    let own = || name.to_owned();
    if Reference::has_host(name) || !store.find(name).is_err_and(|e| e.is_missing()) {
        return own();
    }
    // Without a configuration that can be read there are no short names; `pull` says so.
    let candidates = Access::system().and_then(|access| access.registries().candidates(name));
    let candidates = candidates.unwrap_or_default().into_iter();
    let mut names = candidates.map(|reference| reference.to_string());
    names
        .find(|whole| store.find(whole).is_ok())
        .unwrap_or_else(own)
}

/// Opens the store to change it; waits for another command that does.
pub fn store(m: &ArgMatches) -> Result<Store> {
    let root = store_root(m.get_one::<PathBuf>("root").cloned());
    let options = StoreOptions {
        wait: WAIT,
        rootless: runtime::is_rootless(),
        ..StoreOptions::default()
    };
    Ok(Store::open_with(&root, &options)?)
}

/// Opens the store to look at it.
pub fn store_to_read(m: &ArgMatches) -> Result<Store> {
    let root = store_root(m.get_one::<PathBuf>("root").cloned());
    Ok(Store::open_read_only(&root)?)
}
