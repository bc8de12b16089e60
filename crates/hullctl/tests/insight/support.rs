//! A state root of its own, and bundles on busybox.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long anything may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A place of its own; what is in it goes with it.
pub struct Place {
    dir: tempfile::TempDir,
    /// What its containers' names begin with.
    pub token: String,
}

/// The program under test.
pub fn hullctl() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hullctl"));
    command.stdin(Stdio::null());
    command
}

/// The runtime of this workspace, beside the program under test.
pub fn hull() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let built = || {
        let beside = Path::new(env!("CARGO_BIN_EXE_hullctl")).with_file_name("hull");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "--package", "hull"]);
        assert!(build.status().unwrap().success());
        beside
    };
    BUILT.get_or_init(built).clone()
}

/// Waits until `f` has something.
pub fn eventually<T>(what: &str, mut f: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = f() {
            return value;
        }
        assert!(Instant::now() < end, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Place {
    /// A new one.
    pub fn new(name: &str) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("hull-insight-")
            .tempdir()
            .unwrap();
        let token = format!("hull-insight-{}-{name}", std::process::id());
        Self { dir, token }
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Its state root.
    pub fn root(&self) -> PathBuf {
        self.path("state")
    }

    /// An id.
    pub fn id(&self, name: &str) -> String {
        format!("{}-{name}", self.token)
    }

    /// A bundle on busybox that runs `script`, changed by `change`.
    pub fn bundle(&self, name: &str, script: &str, change: impl FnOnce(&mut Value)) -> PathBuf {
        let dir = self.path(name);
        for sub in ["bin", "proc", "sys", "dev", "tmp", "etc", "data"] {
            fs::create_dir_all(dir.join("rootfs").join(sub)).unwrap();
        }
        let busybox = dir.join("rootfs/bin/busybox");
        fs::copy("/bin/busybox", &busybox).unwrap();
        std::os::unix::fs::symlink("busybox", dir.join("rootfs/bin/sh")).unwrap();
        let mut spec = serde_json::to_value(spec::default_spec(false)).unwrap();
        spec["process"]["terminal"] = json!(false);
        spec["process"]["rlimits"] = json!([]);
        spec["process"]["args"] = json!(["/bin/sh", "-c", script]);
        spec["process"]["env"] = json!(["PATH=/bin"]);
        spec["root"]["readonly"] = json!(false);
        change(&mut spec);
        fs::write(dir.join("config.json"), spec.to_string()).unwrap();
        dir
    }

    /// A command of the runtime in this place.
    pub fn hull(&self, words: &[&str]) -> Command {
        let mut command = Command::new(hull());
        command
            .arg("--root")
            .arg(self.root())
            .args(words)
            .stdin(Stdio::null());
        command
    }

    /// Starts a container of a bundle in the background.
    pub fn start(&self, id: &str, bundle: &Path) {
        let words = ["run", "--detach", "--bundle", bundle.to_str().unwrap(), id];
        // Files: the container keeps what it is given.
        let log = fs::File::create(self.path("log")).unwrap();
        let mut command = self.hull(&words);
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let status = command.status().unwrap();
        assert!(
            status.success(),
            "{}",
            fs::read_to_string(self.path("log")).unwrap()
        );
    }

    /// Runs a container of a bundle to its end.
    pub fn run(&self, id: &str, bundle: &Path) -> Output {
        let words = ["run", "--bundle", bundle.to_str().unwrap(), id];
        self.hull(&words).output().unwrap()
    }

    /// `hullctl COMMAND --root … WORDS`.
    pub fn ask(&self, command: &str, words: &[&str]) -> Output {
        let mut hullctl = hullctl();
        hullctl
            .arg(command)
            .arg("--root")
            .arg(self.root())
            .args(words);
        hullctl.output().unwrap()
    }

    /// `hullctl doctor` that looks at a store and a network of this place too, in the network
    /// namespace of a name.
    pub fn doctor_in(&self, netns: &str, words: &[&str]) -> Output {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/run/netns/{netns}"))
            .arg(env!("CARGO_BIN_EXE_hullctl"))
            .args(["doctor", "--root"])
            .arg(self.root())
            .arg("--network")
            .arg(self.path("network"))
            .arg("--run")
            .arg(self.path("run"))
            .args(words);
        command.output().unwrap()
    }

    /// Its JSON.
    pub fn json(&self, command: &str, words: &[&str]) -> Value {
        let mut all = vec!["--format", "json"];
        all.extend(words);
        let out = self.ask(command, &all);
        serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{e}: {out:?}"))
    }

    /// Kills and deletes.
    pub fn delete(&self, id: &str) {
        let out = self.hull(&["delete", "--force", id]).output().unwrap();
        assert!(out.status.success(), "{out:?}");
    }

    /// Whether the container is stopped.
    pub fn is_stopped(&self, id: &str) -> bool {
        let out = self.hull(&["state", id]).output().unwrap();
        String::from_utf8_lossy(&out.stdout).contains("stopped")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Also when a test failed half-way.
        let list = self.hull(&["list", "--quiet"]).output();
        for id in list
            .iter()
            .flat_map(|o| std::str::from_utf8(&o.stdout))
            .flat_map(str::lines)
        {
            let _ = self.hull(&["delete", "--force", id]).output();
        }
    }
}

/// A child that is killed when dropped.
pub struct Killed(pub Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A small ext4 file system on a loop device; unmounted when dropped.
pub struct Disk {
    /// Where it is mounted.
    pub point: PathBuf,
}

impl Disk {
    /// Makes it below a place.
    pub fn new(place: &Place) -> Self {
        let (image, point) = (place.path("disk.img"), place.path("disk"));
        fs::create_dir(&point).unwrap();
        let script = "truncate -s 32M $0 && mkfs.ext4 -q -F $0 && mount -o loop $0 $1";
        let status = Command::new("sh")
            .args(["-ec", script])
            .args([&image, &point])
            .status();
        assert!(status.unwrap().success());
        Self { point }
    }

    /// fsfreeze(8).
    pub fn freeze(&self, how: &str) {
        let status = Command::new("fsfreeze").arg(how).arg(&self.point).status();
        assert!(status.unwrap().success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("fsfreeze")
            .arg("-u")
            .arg(&self.point)
            .stderr(Stdio::null())
            .status();
        let _ = Command::new("umount").arg("-l").arg(&self.point).status();
    }
}
