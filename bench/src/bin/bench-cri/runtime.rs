//! The runtimes that are measured, on one stage: a network namespace of its own, the image in both
//! stores, the same directory.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use cri_api::v1::runtime_service_client::RuntimeServiceClient;
use cri_suite::{Daemon, IMAGE};
use rustix::process::{Pid, Signal, kill_process};
use tonic::transport::Channel;

/// Where Debian has the plugins.
const PLUGINS: &str = "/usr/lib/cni";

/// A runtime that serves.
#[derive(Debug)]
pub struct Runtime {
    /// What it is called.
    pub name: &'static str,
    /// Its process.
    pub pid: i32,
    /// Where its sockets and logs are.
    pub dir: PathBuf,
    /// The control group of its pods.
    pub parent: String,
    socket: PathBuf,
    /// The cpuacct group of the daemon and what it starts beside pods.
    account: PathBuf,
}

impl Runtime {
    /// The hulld of the stage.
    pub fn hulld(stage: &Daemon) -> Result<Self> {
        Self::new(stage, "hulld", stage.pid(), stage.dir.join("hulld.sock"))
    }

    fn new(stage: &Daemon, name: &'static str, pid: i32, socket: PathBuf) -> Result<Self> {
        let account = PathBuf::from(format!("/sys/fs/cgroup/cpuacct/{}.{name}", stage.token));
        std::fs::create_dir(&account).with_context(|| account.display().to_string())?;
        std::fs::write(account.join("cgroup.procs"), pid.to_string())?;
        Ok(Self {
            name,
            pid,
            dir: stage.dir.clone(),
            parent: format!("/{}/{name}", stage.token),
            socket,
            account,
        })
    }

    /// A client on a connection of its own.
    pub fn client(&self) -> Result<RuntimeServiceClient<Channel>> {
        let channel = cri_api::connect(&self.socket)?;
        Ok(RuntimeServiceClient::new(channel).max_decoding_message_size(cri_api::MESSAGE_LIMIT))
    }

    /// Milliseconds of processor that it and its pods have used.
    pub fn cpu_ms(&self) -> Result<f64> {
        let usage = |group: &Path| -> Result<f64> {
            let text = std::fs::read_to_string(group.join("cpuacct.usage"))
                .with_context(|| group.display().to_string())?;
            Ok(text.trim().parse::<f64>()? / 1e6)
        };
        let pods = PathBuf::from(format!("/sys/fs/cgroup/cpuacct{}", self.parent));
        Ok(usage(&self.account)? + usage(&pods)?)
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        // Its processes go back to where they came from, or have ended.
        let procs = std::fs::read_to_string(self.account.join("cgroup.procs")).unwrap_or_default();
        for pid in procs.lines() {
            let _ = std::fs::write("/sys/fs/cgroup/cpuacct/cgroup.procs", pid);
        }
        let _ = std::fs::remove_dir(&self.account);
    }
}

/// A containerd of its own, with the bridge plugin.
#[derive(Debug)]
pub struct Containerd {
    child: Child,
    shims: String,
}

impl Containerd {
    /// Starts it on the stage, with the stage's image.
    pub async fn start(stage: &Daemon) -> Result<(Self, Runtime)> {
        ensure!(
            Path::new(PLUGINS).join("bridge").exists(),
            "{PLUGINS}/bridge: apt-get install containernetworking-plugins"
        );
        let dir = stage.dir.join("containerd");
        std::fs::create_dir_all(dir.join("net.d"))?;
        std::fs::write(dir.join("net.d/10-bridge.conflist"), network(stage))?;
        std::fs::write(dir.join("config.toml"), config(stage, &dir))?;
        let log = std::fs::File::create(dir.join("log"))?;
        let child = Command::new("nsenter")
            .arg(format!("--net=/run/netns/{}", stage.token))
            .arg("containerd")
            .arg("--config")
            .arg(dir.join("config.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("nsenter containerd")?;
        let pid = i32::try_from(child.id())?;
        let socket = dir.join("containerd.sock");
        let shims = socket.display().to_string();
        let daemon = Self { child, shims };
        let runtime = Runtime::new(stage, "containerd", pid, socket)?;
        let mut client = runtime.client()?;
        for _ in 0..200 {
            let ready = client.status(cri_api::v1::StatusRequest::default());
            let ready = ready.await.ok().and_then(|s| s.into_inner().status);
            if ready
                .is_some_and(|s| s.conditions.len() >= 2 && s.conditions.iter().all(|c| c.status))
            {
                load(stage, &dir)?;
                return Ok((daemon, runtime));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!("containerd does not come up: {}", dir.join("log").display());
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let shim = String::from_utf8_lossy(&line).contains(&self.shims);
            let pid = entry.file_name().to_string_lossy().parse().ok();
            if let (true, Some(pid)) = (shim, pid.and_then(Pid::from_raw)) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}

fn network(stage: &Daemon) -> String {
    serde_json::json!({
        "cniVersion": "1.0.0",
        "name": stage.token,
        "plugins": [{
            "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true,
            "ipam": {
                "type": "host-local",
                "dataDir": stage.dir.join("containerd/addresses"),
                "ranges": [[{"subnet": "10.98.0.0/16"}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }, {"type": "portmap", "capabilities": {"portMappings": true}}],
    })
    .to_string()
}

fn config(stage: &Daemon, dir: &Path) -> String {
    let run = stage.dir.join("run/containerd");
    let (run, dir) = (run.display(), dir.display());
    // Without CAP_SYS_RESOURCE no process can be made harder to kill than it is.
    format!(
        "version = 2\nroot = \"{dir}/root\"\nstate = \"{run}\"\n\
         [grpc]\naddress = \"{dir}/containerd.sock\"\n\
         [ttrpc]\naddress = \"{dir}/containerd.sock.ttrpc\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = \"{IMAGE}\"\n\
         restrict_oom_score_adj = true\nstream_server_port = \"0\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\n\
         runtime_type = \"io.containerd.runc.v2\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc.options]\n\
         Root = \"{run}/runc\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\".cni]\nbin_dir = \"{PLUGINS}\"\n\
         conf_dir = \"{dir}/net.d\"\n"
    )
}

/// Puts the stage's image into its store.
fn load(stage: &Daemon, dir: &Path) -> Result<()> {
    let archive = dir.join("image.tar").display().to_string();
    let from = format!("oci:{}", stage.dir.join("layout").display());
    let to = format!("docker-archive:{archive}:{IMAGE}");
    let socket = dir.join("containerd.sock").display().to_string();
    let import = [
        "ctr", "-a", &socket, "-n", "k8s.io", "images", "import", &archive,
    ];
    for words in [&["skopeo", "copy", "-q", &from, &to][..], &import] {
        let (code, text) = stage.in_network(words);
        ensure!(code == 0, "{words:?}: {text}");
    }
    Ok(())
}
