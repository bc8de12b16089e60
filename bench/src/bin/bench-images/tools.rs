//! What pulls: each into directories of its own.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::registry::Registry;

/// What one pull took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pull {
    wall: f64,
    cpu: f64,
    peak: f64,
    disk: f64,
}

impl Pull {
    /// The medians, as columns.
    pub fn medians(all: &[Self]) -> String {
        let median = |of: fn(&Self) -> f64| median(all.iter().map(of).collect());
        format!(
            "{:>8.2} {:>8.2} {:>9.1} {:>9.1}",
            median(|p| p.wall),
            median(|p| p.cpu),
            median(|p| p.peak),
            median(|p| p.disk)
        )
    }
}

/// The middle one.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Something that pulls.
pub enum Tool {
    /// `hullctl image pull`.
    Hull(PathBuf),
    /// `skopeo copy`, then `umoci unpack`.
    SkopeoUmoci,
    /// `podman pull`.
    Podman,
    /// `ctr images pull`, with a containerd of its own.
    Containerd,
}

impl Tool {
    /// All that are installed.
    pub fn all(hullctl: &Path) -> Vec<Self> {
        let installed = |p: &str| Path::new("/usr/bin").join(p).exists();
        let mut all = vec![Self::Hull(hullctl.to_owned())];
        if installed("skopeo") && installed("umoci") {
            all.push(Self::SkopeoUmoci);
        }
        if installed("podman") {
            all.push(Self::Podman);
        }
        if installed("ctr") && installed("containerd") {
            all.push(Self::Containerd);
        }
        all
    }

    /// What it is called.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Hull(_) => "hull",
            Self::SkopeoUmoci => "skopeo+umoci",
            Self::Podman => "podman",
            Self::Containerd => "containerd",
        }
    }

    /// The commands that pull the image `name` into `fresh`.
    fn commands(&self, registry: &Registry, name: &str, fresh: &Path) -> Vec<Vec<String>> {
        let at = |sub: &str| fresh.join(sub).display().to_string();
        let words = |all: &[&str]| all.iter().map(|w| (*w).to_owned()).collect();
        let image = registry.image(name);
        match self {
            Self::Hull(program) => {
                let program = program.display().to_string();
                let store = at("store");
                vec![words(&[
                    &program,
                    "image",
                    "pull",
                    "-q",
                    "--tls-verify=false",
                    "--root",
                    &store,
                    &image,
                ])]
            }
            Self::SkopeoUmoci => {
                let from = format!("docker://{image}");
                let layout = format!("{}:{name}", at("oci"));
                let to = format!("oci:{layout}");
                let copy = [
                    "skopeo",
                    "--insecure-policy",
                    "copy",
                    "-q",
                    "--src-tls-verify=false",
                ];
                let bundle = at(&format!("bundle-{name}"));
                let unpack = ["umoci", "unpack", "--image", &layout, &bundle];
                vec![words(&[&copy[..], &[&from, &to]].concat()), words(&unpack)]
            }
            Self::Podman => {
                let pull = ["pull", "-q", "--tls-verify=false", &image];
                vec![podman(fresh, &pull)]
            }
            Self::Containerd => {
                let socket = at("containerd.sock");
                vec![words(&[
                    "ctr",
                    "-a",
                    &socket,
                    "images",
                    "pull",
                    "--plain-http",
                    &image,
                ])]
            }
        }
    }

    /// Pulls into `fresh`, with cold caches.
    pub fn pull(&self, registry: &Registry, name: &str, fresh: &Path) -> Result<Pull> {
        std::fs::create_dir_all(fresh)?;
        let daemon = match self {
            Self::Containerd => Some(Daemon::start(fresh)?),
            _ => None,
        };
        drop_caches()?;
        let began = Instant::now();
        let before = daemon.as_ref().map_or(Ok(0.0), Daemon::cpu)?;
        let mut took = Pull::default();
        for command in self.commands(registry, name, fresh) {
            let next = run(&command)?;
            took.cpu += next.cpu;
            took.peak = took.peak.max(next.peak);
        }
        took.wall = began.elapsed().as_secs_f64();
        if let Some(daemon) = daemon {
            took.cpu += daemon.cpu()? - before;
            took.peak = took.peak.max(daemon.peak()?);
        }
        took.disk = disk(fresh)?;
        Ok(took)
    }

    /// Megabytes on disk after several images were pulled into the same place.
    pub fn disk_of(&self, registry: &Registry, names: &[&str], fresh: &Path) -> Result<f64> {
        std::fs::create_dir_all(fresh)?;
        let _daemon = match self {
            Self::Containerd => Some(Daemon::start(fresh)?),
            _ => None,
        };
        for name in names {
            for command in self.commands(registry, name, fresh) {
                run(&command)?;
            }
        }
        disk(fresh)
    }

    /// Seconds from the command to the first line that a container of the image prints, with
    /// nothing in the store and cold caches; `None` where the tool runs none.
    pub fn first_line(&self, registry: &Registry, name: &str, fresh: &Path) -> Result<Option<f64>> {
        let image = registry.image(name);
        let program = ["echo", "hello"];
        let words = match self {
            Self::Hull(hullctl) => {
                let (hullctl, store) = (hullctl.display().to_string(), fresh.join("store"));
                let store = store.display().to_string();
                let run = [
                    &hullctl,
                    "run",
                    "--rm",
                    "--network",
                    "none",
                    "--store",
                    &store,
                ];
                let words = [&run[..], &[&image], &program].concat();
                words.into_iter().map(str::to_owned).collect()
            }
            Self::Podman => {
                let run = [
                    "run",
                    "--rm",
                    "-q",
                    "--network",
                    "none",
                    "--tls-verify=false",
                ];
                // More than the present limits cannot be had on every machine.
                let limits = [
                    "--ulimit",
                    "nofile=1000:1000",
                    "--ulimit",
                    "nproc=1000:1000",
                ];
                podman(fresh, &[&run[..], &limits, &[&image], &program].concat())
            }
            Self::SkopeoUmoci | Self::Containerd => return Ok(None),
        };
        std::fs::create_dir_all(fresh)?;
        drop_caches()?;
        first_line(&words, registry).map(Some)
    }
}

/// podman refuses a longer path than 50 characters. Nothing is in it between the commands.
fn podman_run() -> String {
    format!("/run/bench-images-{}", std::process::id())
}

/// podman with directories of its own. Debian's crun refuses to run where a cgroup v2 tree is
/// mounted beside version 1.
fn podman(fresh: &Path, rest: &[&str]) -> Vec<String> {
    let root = fresh.join("root").display().to_string();
    let run_root = podman_run();
    let own = [
        "podman",
        "--root",
        &root,
        "--runroot",
        &run_root,
        "--storage-driver",
        "overlay",
        "--runtime",
        "runc",
        "--cgroup-manager",
        "cgroupfs",
    ];
    let words = [&own[..], rest].concat();
    words.into_iter().map(str::to_owned).collect()
}

/// Seconds until a program prints a line.
fn first_line(words: &[String], registry: &Registry) -> Result<f64> {
    forget_podman();
    let (program, rest) = words.split_first().context("no command")?;
    let mut command = Command::new(program);
    command
        .args(rest)
        .env("CONTAINERS_REGISTRIES_CONF", &registry.trusted)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let began = Instant::now();
    let mut child = command.spawn().with_context(|| program.clone())?;
    let mut line = String::new();
    if let Some(out) = child.stdout.take() {
        BufReader::new(out).read_line(&mut line)?;
    }
    let took = began.elapsed().as_secs_f64();
    let out = child.wait_with_output()?;
    forget_podman();
    ensure!(
        out.status.success() && line == "hello\n",
        "{words:?} printed {line:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    Ok(took)
}

/// Empties the page cache.
pub fn drop_caches() -> Result<()> {
    rustix::fs::sync();
    Ok(std::fs::write("/proc/sys/vm/drop_caches", "3")?)
}

/// What podman notes while it runs belongs to one place of images.
fn forget_podman() {
    // It is not there before the first command.
    let _ = std::fs::remove_dir_all(podman_run());
}

/// Runs a program through `time`, which sees all of its children that it waited for.
fn run(words: &[String]) -> Result<Pull> {
    forget_podman();
    let figures = tempfile::NamedTempFile::new()?;
    let mut command = Command::new("/usr/bin/time");
    command
        .args(["--format=%U %S %M", "--output"])
        .arg(figures.path());
    command.args(words);
    let out = command
        .stdout(Stdio::null())
        .output()
        .context("/usr/bin/time: apt-get install time")?;
    forget_podman();
    ensure!(
        out.status.success(),
        "{words:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    let text = std::fs::read_to_string(figures.path())?;
    let numbers: Vec<f64> = text
        .split_whitespace()
        .filter_map(|w| w.parse().ok())
        .collect();
    let [user, system, kilobytes] = numbers.as_slice() else {
        bail!("/usr/bin/time said {text:?}");
    };
    Ok(Pull {
        wall: 0.0,
        cpu: user + system,
        peak: kilobytes / 1024.0,
        disk: 0.0,
    })
}

/// Megabytes on disk, of what a tool keeps of the image.
fn disk(dir: &Path) -> Result<f64> {
    let out = Command::new("du")
        .args(["-sk"])
        .arg(dir)
        .output()
        .context("du")?;
    let text = String::from_utf8(out.stdout)?;
    let first = text.split_whitespace().next().unwrap_or_default();
    Ok(first.parse::<f64>().context("du")? / 1024.0)
}

/// A containerd of its own.
struct Daemon(Child);

impl Daemon {
    fn start(fresh: &Path) -> Result<Self> {
        let at = |sub: &str| fresh.join(sub).display().to_string();
        let config = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = {:?}\n",
            at("root"),
            at("state"),
            at("containerd.sock")
        );
        std::fs::write(at("config.toml"), config)?;
        let mut command = Command::new("containerd");
        command.args(["--config", &at("config.toml")]);
        let daemon = Self(
            command
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()?,
        );
        for _ in 0..200 {
            if Path::new(&at("containerd.sock")).exists() {
                std::thread::sleep(Duration::from_millis(300));
                return Ok(daemon);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("containerd does not come up");
    }

    /// Seconds of all its threads and of children that it waited for.
    fn cpu(&self) -> Result<f64> {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id()))?;
        let after_name = text.rsplit(") ").next().unwrap_or_default();
        let fields: Vec<f64> = after_name
            .split(' ')
            .filter_map(|w| w.parse().ok())
            .collect();
        // utime, stime, cutime, cstime; the state, a letter, is not among these.
        Ok(fields.iter().skip(10).take(4).sum::<f64>() / 100.0)
    }

    fn peak(&self) -> Result<f64> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = text
            .lines()
            .find_map(|l| l.strip_prefix("VmHWM:"))
            .unwrap_or("0 kB");
        let kilobytes = line
            .split_whitespace()
            .next()
            .unwrap_or("0")
            .parse::<f64>()?;
        Ok(kilobytes / 1024.0)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
