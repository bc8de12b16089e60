//! A hulld of one's own.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use cri_api::v1;
use cri_api::v1::image_service_client::ImageServiceClient;
use cri_api::v1::runtime_service_client::RuntimeServiceClient;
use rustix::process::Pid;
use tonic::transport::Channel;

use crate::{creation, image_maker, until};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// What differs from the usual daemon.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// More lines of hull.toml.
    pub config: String,
    /// What it logs, if not as much as helps with a failed test.
    pub log: Option<String>,
    /// What belongs below /run is on a tmpfs, as there.
    pub tmpfs: bool,
}

/// The daemon and its stage.
#[derive(Debug)]
pub struct Daemon {
    /// Directory of everything.
    pub dir: PathBuf,
    /// Name of everything that has one.
    pub token: String,
    child: Option<Child>,
}

/// Where the programs are: `HULL_PROGRAMS`, else where cargo puts them.
#[must_use]
pub fn programs_dir() -> PathBuf {
    if let Some(dir) = std::env::var_os("HULL_PROGRAMS") {
        return dir.into();
    }
    let test = std::env::current_exe().unwrap();
    test.parent().and_then(Path::parent).unwrap().to_owned()
}

fn ip(args: &[&str]) {
    let output = Command::new("ip").args(args).output().unwrap();
    assert!(
        output.status.success(),
        "ip {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

impl Daemon {
    /// Starts one with an image in its store.
    pub async fn start(options: Options) -> Self {
        let number = COUNT.fetch_add(1, Ordering::SeqCst);
        let token = format!("hcri{}x{number}", std::process::id());
        let dir = std::env::temp_dir().join(&token);
        fs::create_dir_all(dir.join("logs")).unwrap();
        let mut daemon = Self {
            dir,
            token,
            child: None,
        };
        daemon.lay_out(&options);
        daemon.launch().await;
        daemon
    }

    fn lay_out(&self, options: &Options) {
        let dir = self.dir.display();
        let token = &self.token;
        let log = options.log.as_deref().unwrap_or("info,pods=debug");
        let config = format!(
            "[daemon]\nsocket = \"{dir}/hulld.sock\"\nstate = \"{dir}/state\"\nrun = \"{dir}/run\"\n\
             runtime-root = \"{dir}/runtime\"\nlog = \"{log}\"\n\
             [network]\nbridge = \"br0\"\nbackend = \"builtin\"\nowner = \"{token}\"\n\
             subnet4 = \"10.99.0.0/16\"\nnetns-dir = \"{dir}/netns\"\n\
             [containers]\ncgroup-parent = \"/{token}\"\n{}\n",
            options.config
        );
        fs::write(self.dir.join("hull.toml"), config).unwrap();
        for place in ["run", "runtime"].iter().filter(|_| options.tmpfs) {
            let place = self.dir.join(place);
            fs::create_dir(&place).unwrap();
            let flags = rustix::mount::MountFlags::NOSUID | rustix::mount::MountFlags::NODEV;
            rustix::mount::mount("tmpfs", &place, "tmpfs", flags, c"mode=0755").unwrap();
        }
        let registries: String = [5000, 5001]
            .map(|port| format!("[[registry]]\nlocation = \"127.0.0.1:{port}\"\ninsecure = true\n"))
            .concat();
        fs::write(self.dir.join("registries.conf"), registries).unwrap();
        image_maker::install(&self.dir.join("state"), &self.dir);
        // An uplink that leads nowhere: pods have a gateway, and nothing leaves.
        ip(&["netns", "add", token]);
        ip(&["-n", token, "link", "set", "lo", "up"]);
        ip(&["-n", token, "link", "add", "up0", "type", "bridge"]);
        ip(&["-n", token, "addr", "add", "192.0.2.2/24", "dev", "up0"]);
        ip(&["-n", token, "link", "set", "up0", "up"]);
        ip(&["-n", token, "route", "add", "default", "via", "192.0.2.1"]);
    }

    /// Starts the program, and waits until it answers.
    pub async fn launch(&mut self) {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log())
            .unwrap();
        let child = Command::new("nsenter")
            .arg(format!("--net=/run/netns/{}", self.token))
            .arg(programs_dir().join("hulld"))
            .env(
                "CONTAINERS_REGISTRIES_CONF",
                self.dir.join("registries.conf"),
            )
            .arg("--config")
            .arg(self.dir.join("hull.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        until("hulld serves", async || {
            if let Some(status) = self.child.as_mut().unwrap().try_wait().unwrap() {
                panic!(
                    "hulld ended: {status}: {}",
                    fs::read_to_string(self.log()).unwrap_or_default()
                );
            }
            self.runtime()
                .version(v1::VersionRequest::default())
                .await
                .is_ok()
        })
        .await;
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.dir.join("hulld.log")
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.as_ref().unwrap().id()).unwrap()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = Pid::from_raw(self.pid()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Ends it as a crash does.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Ends it as systemd does.
    pub fn terminate(&mut self) -> std::process::ExitStatus {
        self.signal(rustix::process::Signal::TERM);
        self.child.take().unwrap().wait().unwrap()
    }

    /// RuntimeService.
    #[must_use]
    pub fn runtime(&self) -> RuntimeServiceClient<Channel> {
        RuntimeServiceClient::new(self.channel()).max_decoding_message_size(cri_api::MESSAGE_LIMIT)
    }

    /// ImageService.
    #[must_use]
    pub fn images(&self) -> ImageServiceClient<Channel> {
        ImageServiceClient::new(self.channel())
    }

    fn channel(&self) -> Channel {
        cri_api::connect(&self.dir.join("hulld.sock")).unwrap()
    }

    /// Runs a pod whose logs go to this stage.
    pub async fn run_pod(&self, mut config: v1::PodSandboxConfig) -> String {
        config.log_directory = self.dir.join("logs").to_string_lossy().into_owned();
        let request = v1::RunPodSandboxRequest {
            config: Some(config),
            ..Default::default()
        };
        let response = self.runtime().run_pod_sandbox(request).await;
        response
            .unwrap_or_else(|e| self.fail("RunPodSandbox", &e))
            .into_inner()
            .pod_sandbox_id
    }

    /// Creates a container.
    pub async fn create(&self, pod: &str, config: v1::ContainerConfig) -> String {
        let created = self.try_create(pod, config).await;
        created.unwrap_or_else(|e| self.fail("CreateContainer", &e))
    }

    /// Tries to create a container.
    pub async fn try_create(
        &self,
        pod: &str,
        config: v1::ContainerConfig,
    ) -> Result<String, tonic::Status> {
        let mut runtime = self.runtime();
        let made = runtime.create_container(creation(pod, config)).await?;
        Ok(made.into_inner().container_id)
    }

    /// The error of a creation that is not done in this time.
    pub async fn creation_times_out(
        &self,
        request: v1::CreateContainerRequest,
        after: Duration,
    ) -> tonic::Status {
        let mut request = tonic::Request::new(request);
        request.set_timeout(after);
        let made = self.runtime().create_container(request).await;
        let error = made.unwrap_err();
        assert_eq!(error.code(), tonic::Code::DeadlineExceeded, "{error}");
        error
    }

    /// Creates and starts a container.
    pub async fn run(&self, pod: &str, config: v1::ContainerConfig) -> String {
        let id = self.create(pod, config).await;
        let request = v1::StartContainerRequest {
            container_id: id.clone(),
        };
        self.runtime()
            .start_container(request)
            .await
            .unwrap_or_else(|e| self.fail("StartContainer", &e));
        id
    }

    /// A container's status.
    pub async fn status(&self, id: &str) -> v1::ContainerStatus {
        let request = v1::ContainerStatusRequest {
            container_id: id.to_owned(),
            verbose: false,
        };
        self.runtime()
            .container_status(request)
            .await
            .unwrap()
            .into_inner()
            .status
            .unwrap()
    }

    /// Waits for a container's end.
    pub async fn ended(&self, id: &str) -> v1::ContainerStatus {
        until("the container's end", async || {
            self.status(id).await.state() == v1::ContainerState::ContainerExited
        })
        .await;
        self.status(id).await
    }

    /// Runs a command in a container: its exit code and output.
    pub async fn exec(&self, id: &str, command: &[&str]) -> (i32, String) {
        let request = v1::ExecSyncRequest {
            container_id: id.to_owned(),
            cmd: command.iter().map(|&w| w.to_owned()).collect(),
            timeout: 30,
        };
        let response = self
            .runtime()
            .exec_sync(request)
            .await
            .unwrap_or_else(|e| self.fail("ExecSync", &e));
        let response = response.into_inner();
        let text = [response.stdout, response.stderr].concat();
        (
            response.exit_code,
            String::from_utf8_lossy(&text).into_owned(),
        )
    }

    /// A container's log.
    #[must_use]
    pub fn container_log(&self, name: &str) -> String {
        fs::read_to_string(self.dir.join("logs").join(format!("{name}.log"))).unwrap_or_default()
    }

    /// Stops a container.
    pub async fn stop(&self, id: &str, timeout: i64) {
        let request = v1::StopContainerRequest {
            container_id: id.to_owned(),
            timeout,
        };
        self.runtime()
            .stop_container(request)
            .await
            .unwrap_or_else(|e| self.fail("StopContainer", &e));
    }

    /// Stops and removes a pod.
    pub async fn remove_pod(&self, id: &str) {
        let request = v1::RemovePodSandboxRequest {
            pod_sandbox_id: id.to_owned(),
        };
        self.runtime()
            .remove_pod_sandbox(request)
            .await
            .unwrap_or_else(|e| self.fail("RemovePodSandbox", &e));
    }

    fn fail(&self, what: &str, error: &tonic::Status) -> ! {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(30)..].join("\n");
        panic!("{what}: {error}\nhulld's log ends:\n{tail}");
    }

    /// The status page, for programs.
    #[must_use]
    pub fn page(&self) -> serde_json::Value {
        let mut stream = UnixStream::connect(self.dir.join("run/status.sock")).unwrap();
        stream
            .write_all(b"GET /?json HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        serde_json::from_str(body).unwrap()
    }

    /// Runs a program in the daemon's network: its exit code and output.
    #[must_use]
    pub fn in_network(&self, command: &[&str]) -> (i32, String) {
        let output = Command::new("nsenter")
            .arg(format!("--net=/run/netns/{}", self.token))
            .args(command)
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.code().unwrap_or(-1),
            String::from_utf8_lossy(&text).into_owned(),
        )
    }

    /// hullctl in the daemon's network, asking the daemon.
    #[must_use]
    pub fn hullctl(&self, args: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/run/netns/{}", self.token))
            .arg(programs_dir().join("hullctl"))
            .arg("--runtime-endpoint")
            .arg(self.dir.join("hulld.sock"))
            .args(args)
            .env_remove("CRI_CONFIG_FILE");
        command
    }

    /// What hullctl prints, which must succeed.
    #[must_use]
    pub fn shown(&self, args: &[&str]) -> String {
        let output = self.hullctl(args).output().unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "hullctl {args:?}: {complaint}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Does something in the daemon's network: a socket that is made there stays there.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let netns = fs::File::open(format!("/run/netns/{}", self.token)).unwrap();
        net::netns::inside(netns.as_fd(), || Ok(work())).unwrap()
    }

    /// What pods have left on the machine: mounts, control groups, processes.
    #[must_use]
    pub fn leftovers(&self) -> Vec<String> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let dir = self.dir.to_string_lossy().into_owned();
        let mut all: Vec<String> = mounts
            .lines()
            .filter(|l| l.contains(&dir))
            .map(|l| format!("mount: {l}"))
            .collect();
        for group in self.groups() {
            for entry in fs::read_dir(&group).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|t| t.is_dir()) {
                    let inside = names_inside(&entry.path());
                    all.push(format!("cgroup: {}: {inside:?}", entry.path().display()));
                }
            }
        }
        for place in [
            "run/pods",
            "run/records",
            "runtime",
            "runtime/@foreign",
            "state/containers",
        ] {
            for entry in fs::read_dir(self.dir.join(place))
                .into_iter()
                .flatten()
                .flatten()
            {
                // What is remembered of the ended stays for a while, and is bounded.
                if entry.file_name() != "@ended" && entry.file_name() != "@foreign" {
                    all.push(format!("file: {}", entry.path().display()));
                }
            }
        }
        all
    }

    /// The supervisors of its pods; not their forks, which bear the same name until they execute
    /// a program.
    #[must_use]
    pub fn supervisors(&self) -> Vec<Pid> {
        let named = |pid: i32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            line.contains(" supervise ") && line.contains(&self.token)
        };
        let real = |pid: &i32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let field = |name| status.lines().find_map(|l| l.strip_prefix(name));
            let parent = field("PPid:").and_then(|p| p.trim().parse().ok());
            let namespaces = field("NSpid:").map_or(0, |n| n.split_whitespace().count());
            namespaces == 1 && parent.is_some_and(|parent| !named(parent))
        };
        let pids = fs::read_dir("/proc").unwrap().flatten();
        let pids = pids.filter_map(|e| e.file_name().to_string_lossy().parse().ok());
        let pids = pids.filter(|pid| named(*pid)).filter(real);
        pids.filter_map(Pid::from_raw).collect()
    }

    fn groups(&self) -> Vec<PathBuf> {
        let base = Path::new("/sys/fs/cgroup");
        let inner = fs::read_dir(base)
            .unwrap()
            .flatten()
            .map(|e| e.path().join(&self.token));
        inner
            .chain([base.join(&self.token)])
            .filter(|p| p.is_dir())
            .collect()
    }

    fn processes(&self) -> Vec<i32> {
        let mine = |pid: &i32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(&format!("/{}/", self.token))
                || groups.contains(&format!("/{}/", self.token))
        };
        let pids = fs::read_dir("/proc").unwrap().flatten();
        pids.filter_map(|e| e.file_name().to_string_lossy().parse().ok())
            .filter(mine)
            .collect()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.log()).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!(
                "hulld's log ends:\n{}",
                lines[lines.len().saturating_sub(40)..].join("\n")
            );
        }
        if std::env::var_os("HULL_KEEP_LOG").is_some() {
            let kept = self.dir.with_extension("log");
            let _ = fs::copy(self.log(), &kept);
            eprintln!("all of hulld's log: {}", kept.display());
        }
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        for _ in 0..50 {
            let pids = self.processes();
            if pids.is_empty() {
                break;
            }
            for pid in pids {
                if let Some(pid) = Pid::from_raw(pid) {
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                }
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let inside = mounts.lines().rev().filter_map(|l| l.split(' ').nth(4));
        for point in inside.filter(|p| p.contains(&format!("/{}/", self.token))) {
            let _ = rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH);
        }
        for group in self.groups() {
            remove_groups(&group);
        }
        let _ = Command::new("ip")
            .args(["netns", "del", &self.token])
            .output();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// What runs in a control group and in those below.
fn names_inside(group: &Path) -> Vec<String> {
    let pids = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    let name = |pid: &str| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.lines().take(3).collect::<Vec<_>>().join(" ")
    };
    let mut all: Vec<String> = pids.lines().map(name).collect();
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            all.extend(names_inside(&entry.path()));
        }
    }
    all
}

fn remove_groups(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove_groups(&entry.path());
        }
    }
    let _ = fs::remove_dir(group);
}
