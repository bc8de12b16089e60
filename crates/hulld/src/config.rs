//! `hull.toml` and its drop-ins: what can be set, with what it is without.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use pods::oci::cgroup::Driver;
use serde::{Deserialize, Serialize};

/// Where the file is unless another is named.
pub const DEFAULT_FILE: &str = "/etc/hull/hull.toml";

/// Everything.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// The program itself.
    pub daemon: Daemon,
    /// Exec, attach and port-forward.
    pub streaming: Streaming,
    /// Containers.
    pub containers: Containers,
    /// External runtimes by the name of their handler.
    pub handlers: BTreeMap<String, Handler>,
    /// Images.
    pub images: Images,
    /// Metrics.
    pub metrics: Metrics,
    /// The status page.
    pub status: Status,
    /// Who asked for what.
    pub audit: Audit,
    /// The pods' network, in the words of its own crate.
    pub network: toml::Table,
}

/// The program itself. Changes need a restart, but for the log level.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Daemon {
    /// The CRI's socket.
    pub socket: PathBuf,
    /// The group that may use the socket beside root: a name or an id.
    pub socket_group: String,
    /// State that outlives the machine: images, records, events.
    pub state: PathBuf,
    /// State of this boot: supervisors, bundles.
    pub run: PathBuf,
    /// State root of the runtime, where `hull list` looks.
    pub runtime_root: PathBuf,
    /// The program `hull`; empty: beside this program, else in PATH.
    pub hull: PathBuf,
    /// Workers of the asynchronous runtime.
    pub workers: usize,
    /// Threads for calls that may block.
    pub blocking_threads: usize,
    /// What is logged: a level, or directives like `info,pods=debug`.
    pub log: String,
    /// `text` or `json`.
    pub log_format: LogFormat,
    /// Seconds that running operations get to end when the daemon is to end.
    pub shutdown_seconds: u64,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

impl Default for Daemon {
    fn default() -> Self {
        Self {
            socket: "/run/hull/hulld.sock".into(),
            socket_group: String::new(),
            state: "/var/lib/hull".into(),
            run: "/run/hulld".into(),
            runtime_root: "/run/hull".into(),
            hull: PathBuf::new(),
            workers: 2,
            blocking_threads: 512,
            log: "info".to_owned(),
            log_format: LogFormat::Text,
            shutdown_seconds: 20,
        }
    }
}

/// Exec, attach and port-forward.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Streaming {
    /// Where the server listens; port 0 is any free one.
    pub listen: SocketAddr,
    /// What clients are told to connect to, if that is another address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advertise: Option<SocketAddr>,
    /// A certificate and those above it, PEM; empty: plain HTTP.
    pub tls_certificate: PathBuf,
    /// Its key, PEM.
    pub tls_key: PathBuf,
    /// Clients must have a certificate of this authority, PEM; empty: none.
    pub tls_client_ca: PathBuf,
    /// Refuse TLS 1.2.
    pub tls_only_1_3: bool,
    /// A connection without data for so many seconds is closed; 0: never.
    pub idle_seconds: u64,
}

impl Default for Streaming {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            advertise: None,
            tls_certificate: PathBuf::new(),
            tls_key: PathBuf::new(),
            tls_client_ca: PathBuf::new(),
            tls_only_1_3: false,
            idle_seconds: 4 * 3600,
        }
    }
}

/// Containers. All of it is taken over by a reload, for what is made from then on.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Containers {
    /// `cgroupfs` or `systemd`; the kubelet asks for it.
    pub cgroup_driver: Driver,
    /// Where pods go that name no control group; with systemd a slice. Empty: `/hull`, with
    /// systemd `hull.slice`.
    pub cgroup_parent: String,
    /// The handler of pods that ask for none; `hull` is built in.
    pub default_handler: String,
    /// Capabilities of a container that asks for none.
    pub default_capabilities: Vec<String>,
    /// The filter called RuntimeDefault; empty: the one built in.
    pub seccomp_profile: PathBuf,
    /// The AppArmor profile called RuntimeDefault, where it is loaded.
    pub apparmor_profile: String,
    /// Most tasks in a container; 0 is no limit.
    pub pids_limit: i64,
    /// Limits of processes: `nofile = [soft, hard]`.
    pub ulimits: BTreeMap<String, [u64; 2]>,
    /// Sysctls of every pod that has the namespace for them.
    pub sysctls: BTreeMap<String, String>,
    /// Where CDI files lie.
    pub cdi_dirs: Vec<PathBuf>,
    /// Size of a pod's `/dev/shm` in bytes.
    pub shm_size: u64,
    /// Rename a log that would grow beyond so many bytes, beside what the kubelet does; 0: never.
    pub log_max_bytes: u64,
    /// Keep so many of those.
    pub log_max_files: u32,
    /// Drop log lines that come faster than so many bytes a second, and say how many; 0: never.
    pub log_rate: u64,
    /// The most that ExecSync keeps of each output.
    pub exec_output_max: u64,
    /// Privileged containers get no devices of the machine.
    pub privileged_without_devices: bool,
    /// cgroup v2 groups may be written to inside containers.
    pub cgroup_writable: bool,
    /// An operation that is in one stage for so many seconds counts as stalled.
    pub stalled_seconds: u64,
}

impl Default for Containers {
    fn default() -> Self {
        Self {
            cgroup_driver: Driver::Cgroupfs,
            cgroup_parent: String::new(),
            default_handler: pods::BUILT_IN.to_owned(),
            default_capabilities: pods::oci::capabilities::DEFAULT.map(str::to_owned).to_vec(),
            seccomp_profile: PathBuf::new(),
            apparmor_profile: "hull-default".to_owned(),
            pids_limit: 0,
            ulimits: BTreeMap::new(),
            sysctls: BTreeMap::new(),
            cdi_dirs: vec!["/etc/cdi".into(), "/var/run/cdi".into()],
            shm_size: 64 << 20,
            log_max_bytes: 0,
            log_max_files: 5,
            log_rate: 0,
            exec_output_max: 16 << 20,
            privileged_without_devices: false,
            cgroup_writable: false,
            stalled_seconds: 30,
        }
    }
}

/// An external runtime.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Handler {
    /// The program.
    pub path: PathBuf,
    /// Its `--root`; absent: its own default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<PathBuf>,
}

/// Images.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Images {
    /// Images that garbage collection leaves alone.
    pub pinned: Vec<String>,
}

/// Metrics.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Metrics {
    /// Where `/metrics` is served; absent: nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
}

/// The status page: what runs, for a person who looks. It can be read, and changes nothing.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Status {
    /// Its socket, as `curl --unix-socket` takes it; empty: `status.sock` beside the supervisors.
    pub socket: PathBuf,
    /// A loopback address and port for browsers; absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
}

/// The audit log: who asked for what. Changes need a restart.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Audit {
    /// Whether there is one.
    pub enabled: bool,
    /// Its file; empty: `audit.log` in `daemon.state`.
    pub file: PathBuf,
    /// Rename it when it would grow beyond so many bytes; 0: never.
    pub max_bytes: u64,
    /// Keep so many of those.
    pub max_files: u32,
    /// The socket of systemd's journal, which is told too where it is there; empty: never.
    pub journal: PathBuf,
}

impl Default for Audit {
    fn default() -> Self {
        Self {
            enabled: true,
            file: PathBuf::new(),
            max_bytes: 16 << 20,
            max_files: 5,
            journal: "/run/systemd/journal/socket".into(),
        }
    }
}

impl Config {
    /// The configuration in a file and its drop-ins (`FILE.d/*.toml`, by name). A file that is
    /// not named and not there is no error.
    pub fn load(file: Option<&Path>) -> Result<Self> {
        let path = file.unwrap_or_else(|| Path::new(DEFAULT_FILE));
        let mut table = match fs::read_to_string(path) {
            Ok(text) => parse(path, &text)?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && file.is_none() => {
                toml::Table::new()
            }
            Err(e) => return Err(e).with_context(|| format!("read({})", path.display())),
        };
        let mut directory = path.as_os_str().to_owned();
        directory.push(".d");
        for part in drop_ins(Path::new(&directory))? {
            let text =
                fs::read_to_string(&part).with_context(|| format!("read({})", part.display()))?;
            merge(&mut table, parse(&part, &text)?);
        }
        let config: Self = table
            .try_into()
            .with_context(|| format!("{} and its drop-ins", path.display()))?;
        config.check()?;
        Ok(config)
    }

    /// Where pods go that name no control group.
    pub fn cgroup_parent(&self) -> &str {
        match (
            self.containers.cgroup_parent.as_str(),
            self.containers.cgroup_driver,
        ) {
            ("", Driver::Cgroupfs) => "/hull",
            ("", Driver::Systemd) => "hull.slice",
            (named, _) => named,
        }
    }

    fn check(&self) -> Result<()> {
        for (what, path) in [
            ("daemon.socket", &self.daemon.socket),
            ("daemon.state", &self.daemon.state),
            ("daemon.run", &self.daemon.run),
            ("daemon.runtime-root", &self.daemon.runtime_root),
        ] {
            if !path.is_absolute() {
                bail!("{what} = {path:?}: must be an absolute path");
            }
        }
        if self.daemon.workers == 0 || self.daemon.blocking_threads < 8 {
            bail!("daemon.workers: at least 1, daemon.blocking-threads: at least 8");
        }
        if self.streaming.tls_certificate.as_os_str().is_empty()
            != self.streaming.tls_key.as_os_str().is_empty()
        {
            bail!("streaming.tls-certificate and streaming.tls-key: both or none");
        }
        if self.status.listen.is_some_and(|a| !a.ip().is_loopback()) {
            bail!(
                "status.listen: it tells names and addresses to whoever asks; only loopback is allowed"
            );
        }
        self.network()?;
        self.settings().map(drop)
    }

    /// Where the status page is served.
    pub fn status_socket(&self) -> PathBuf {
        if self.status.socket.as_os_str().is_empty() {
            return self.daemon.run.join("status.sock");
        }
        self.status.socket.clone()
    }

    /// The audit log's part; none where it is switched off.
    pub fn audit(&self) -> Option<cri::audit::Options> {
        let a = &self.audit;
        a.enabled.then(|| cri::audit::Options {
            file: if a.file.as_os_str().is_empty() {
                self.daemon.state.join("audit.log")
            } else {
                a.file.clone()
            },
            max_bytes: a.max_bytes,
            max_files: a.max_files,
            journal: Some(a.journal.clone()).filter(|p| !p.as_os_str().is_empty()),
        })
    }

    /// The network's part.
    pub fn network(&self) -> Result<net::Config> {
        let mut config: net::Config = self.network.clone().try_into().context("[network]")?;
        let kept = || self.daemon.state.join("subnets");
        config.subnets_file = config.subnets_file.or_else(|| Some(kept()));
        config.check().context("[network]")?;
        Ok(config)
    }
}

fn parse(path: &Path, text: &str) -> Result<toml::Table> {
    text.parse()
        .with_context(|| format!("parse({})", path.display()))
}

fn drop_ins(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e).with_context(|| format!("readdir({})", dir.display())),
    };
    let mut all: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
    all.retain(|p| p.extension().is_some_and(|x| x == "toml"));
    all.sort();
    Ok(all)
}

/// Tables are merged key by key; anything else is replaced.
fn merge(into: &mut toml::Table, from: toml::Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(toml::Value::Table(old)), toml::Value::Table(new)) => merge(old, new),
            (_, value) => drop(into.insert(key, value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_valid_and_is_read_back() {
        let text = toml::to_string(&Config::default()).unwrap();
        let back: Config = toml::from_str(&text).unwrap();
        back.check().unwrap();
        assert_eq!(toml::to_string(&back).unwrap(), text);
    }

    #[test]
    fn the_driver_alone_can_be_changed() {
        let with = |text: &str| {
            let config: Config = toml::from_str(text).unwrap();
            Ok::<_, anyhow::Error>(config.settings()?.cgroup_parent)
        };
        assert_eq!(with("").unwrap(), "/hull");
        let systemd = "[containers]\ncgroup-driver = \"systemd\"\n";
        assert_eq!(with(systemd).unwrap(), "hull.slice");
        let named = |parent: &str| with(&format!("{systemd}cgroup-parent = \"{parent}\"\n"));
        assert_eq!(named("own.slice").unwrap(), "own.slice");
        let error = format!("{:#}", named("/own").unwrap_err());
        assert!(error.contains("cgroup-driver = \"cgroupfs\""), "{error}");
    }

    #[test]
    fn drop_ins_change_single_keys() {
        let dir = std::env::temp_dir().join(format!("hulld-config.{}", std::process::id()));
        let file = dir.join("hull.toml");
        fs::create_dir_all(dir.join("hull.toml.d")).unwrap();
        fs::write(&file, "[containers]\npids-limit = 5\nshm-size = 1\n").unwrap();
        fs::write(
            dir.join("hull.toml.d/10.toml"),
            "[containers]\npids-limit = 7\n",
        )
        .unwrap();
        fs::write(dir.join("hull.toml.d/notes.txt"), "not toml").unwrap();
        let config = Config::load(Some(&file)).unwrap();
        assert_eq!(
            (config.containers.pids_limit, config.containers.shm_size),
            (7, 1)
        );
        fs::write(dir.join("hull.toml.d/20.toml"), "[containers]\nnope = 7\n").unwrap();
        let error = format!("{:#}", Config::load(Some(&file)).unwrap_err());
        assert!(error.contains("nope"), "{error}");
        fs::remove_dir_all(&dir).unwrap();
    }
}
