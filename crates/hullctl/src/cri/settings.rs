//! Where the runtime is: options, environment, `/etc/crictl.yaml`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use clap::{Arg, ArgMatches, Command, value_parser};
use serde_json::{Map, Value};

use super::args::{duration, flag, number, option, parse_duration, text, time};

/// The file if no other is named.
const CONFIG: &str = "/etc/crictl.yaml";
/// Sockets that are looked for if none is named; ours first.
const SOCKETS: &[&str] = &[
    "/run/hull/hulld.sock",
    "/run/containerd/containerd.sock",
    "/run/crio/crio.sock",
    "/var/run/cri-dockerd.sock",
];
/// Keys of the file.
pub const KEYS: &[&str] = &[
    "runtime-endpoint",
    "image-endpoint",
    "timeout",
    "debug",
    "pull-image-on-create",
    "disable-pull-on-run",
    "max-retries",
];
const HEADING: &str = "For commands that speak CRI";

/// What a command needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The runtime's socket.
    pub runtime: PathBuf,
    /// The image service's socket.
    pub images: PathBuf,
    /// For a connection, and for calls that only look, if one was asked for.
    pub timeout: Option<Duration>,
    /// Say each call.
    pub debug: bool,
    /// `create` pulls.
    pub pull_on_create: bool,
    /// `run` does not.
    pub no_pull_on_run: bool,
    /// How often a call is made again that found nobody.
    pub retries: u32,
}

/// Adds the options to a program's.
pub fn globals(command: Command) -> Command {
    let options = [
        option(
            "config",
            "FILE",
            "Settings, YAML (default: $CRI_CONFIG_FILE, /etc/crictl.yaml)",
        )
        .short('c'),
        option(
            "runtime-endpoint",
            "SOCKET",
            "Socket of the runtime ($CONTAINER_RUNTIME_ENDPOINT)",
        )
        .short('r'),
        option(
            "image-endpoint",
            "SOCKET",
            "Socket for images (default: the runtime's; $IMAGE_SERVICE_ENDPOINT)",
        )
        .short('i'),
        duration("timeout", "For a connection, and for calls that only look").short('t'),
        flag("debug", "Say each call").short('D'),
        number(
            "max-retries",
            "How often a call that found no runtime is made again",
        )
        .value_parser(value_parser!(i64).range(0..=100)),
    ];
    command.args(options.map(|o: Arg| o.help_heading(HEADING)))
}

impl Settings {
    /// Puts options, environment and file together. `outer` are the program's own options,
    /// `inner` those of `hullctl cri`.
    pub fn find(outer: &ArgMatches, inner: Option<&ArgMatches>) -> Result<Self> {
        let pick = |name: &str| {
            let inner = inner.and_then(|m| m.try_get_one::<String>(name).ok().flatten());
            let given = inner.cloned().or_else(|| text(outer, name));
            given.or_else(|| std::env::var(variable(name)?).ok())
        };
        let sources = || inner.into_iter().chain([outer]);
        let path = config_path(pick("config"));
        let file = File::read(&path)?;
        let runtime = pick("runtime-endpoint").or_else(|| file.text("runtime-endpoint"));
        let runtime = match runtime {
            Some(endpoint) => socket(&endpoint)?,
            None => found_socket(SOCKETS)?,
        };
        let images = pick("image-endpoint").or_else(|| file.text("image-endpoint"));
        let images = match images {
            Some(endpoint) => socket(&endpoint)?,
            None => runtime.clone(),
        };
        let asked = sources().find_map(|m| time(m, "timeout"));
        let retries = sources().find_map(|m| super::args::integer(m, "max-retries"));
        let retries = retries
            .map(|n| n.to_string())
            .or_else(|| file.text("max-retries"));
        Ok(Settings {
            runtime,
            images,
            timeout: match asked {
                Some(time) => Some(time),
                None => file.timeout()?,
            },
            debug: sources().any(|m| m.get_flag("debug")) || file.truth("debug"),
            pull_on_create: file.truth("pull-image-on-create"),
            no_pull_on_run: file.truth("disable-pull-on-run"),
            retries: retries.and_then(|n| n.parse().ok()).unwrap_or(3),
        })
    }
}

/// Whether there is a runtime to ask, or somebody has said where one is to be.
pub fn has_runtime() -> bool {
    let named = |option| std::env::var(variable(option)?).ok();
    let in_file = || {
        let file = File::read(&config_path(named("config")));
        file.is_ok_and(|f| f.text("runtime-endpoint").is_some())
    };
    named("runtime-endpoint").is_some() || in_file() || found_socket(SOCKETS).is_ok()
}

/// The environment variable that stands for an option.
fn variable(name: &str) -> Option<&'static str> {
    Some(match name {
        "config" => "CRI_CONFIG_FILE",
        "runtime-endpoint" => "CONTAINER_RUNTIME_ENDPOINT",
        "image-endpoint" => "IMAGE_SERVICE_ENDPOINT",
        _ => return None,
    })
}

/// The file that is meant; the program's own directory has one where /etc has none.
pub fn config_path(named: Option<String>) -> PathBuf {
    if let Some(named) = named {
        return named.into();
    }
    let etc = PathBuf::from(CONFIG);
    let beside = std::env::current_exe()
        .ok()
        .and_then(|exe| Some(exe.parent()?.join("crictl.yaml")));
    match beside {
        Some(beside) if !etc.exists() && beside.exists() => beside,
        _ => etc,
    }
}

/// A socket's path from an endpoint: a path, or one behind `unix://`.
pub fn socket(endpoint: &str) -> Result<PathBuf> {
    let path = match endpoint.split_once("://") {
        None => endpoint,
        Some(("unix", path)) => path,
        Some((scheme, _)) => {
            bail!("endpoint {endpoint}: {scheme} is not supported; use unix://PATH")
        }
    };
    match path.starts_with('/') {
        true => Ok(path.into()),
        false => bail!("endpoint {endpoint}: no absolute path; write unix:///run/NAME.sock"),
    }
}

fn found_socket(candidates: &[&str]) -> Result<PathBuf> {
    let found = candidates.iter().find(|path| Path::new(path).exists());
    found.map(PathBuf::from).ok_or_else(|| {
        anyhow!(
            "no runtime: none of {} exists; start one, or name its socket with -r",
            candidates.join(", ")
        )
    })
}

/// The file's content.
#[derive(Debug, Default)]
pub struct File(pub Map<String, Value>);

impl File {
    /// Reads it; a file that does not exist is empty.
    pub fn read(path: &Path) -> Result<Self> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(File::default()),
            Err(e) => return Err(e).with_context(|| format!("read {}", path.display())),
        };
        let wrong = || format!("read {}", path.display());
        let value: Value = serde_saphyr::from_str(&text)
            .map_err(|e| anyhow!(super::output::one_line(&e.to_string())))
            .with_context(wrong)?;
        match value {
            Value::Object(map) => Ok(File(map)),
            Value::Null => Ok(File::default()),
            _ => bail!("{}: no keys and values", path.display()),
        }
    }

    /// A value's text; empty ones count as absent.
    pub fn text(&self, key: &str) -> Option<String> {
        let text = match self.0.get(key)? {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        (!text.is_empty() && text != "null").then_some(text)
    }

    fn truth(&self, key: &str) -> bool {
        self.0.get(key) == Some(&Value::Bool(true))
    }

    fn timeout(&self) -> Result<Option<Duration>> {
        let Some(text) = self.text("timeout") else {
            return Ok(None);
        };
        let time = parse_duration(&text).context("timeout")?;
        Ok((!time.is_zero()).then_some(time))
    }
}
