//! Debian's containerd, alone: namespaces for network, mounts and processes of its own, so that
//! nothing of it outlives the test.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

const CONFIG: &str = r#"
version = 2
root = "DIR/root"
state = "DIR/state"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.aufs"]
[grpc]
address = "DIR/s.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "local/pause:1"
restrict_oom_score_adj = true
tolerate_missing_hugetlb_controller = true
disable_apparmor = true
stream_server_address = "127.0.0.1"
stream_server_port = "0"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "DIR/cni"
"#;

const NETWORK: &str = r#"{"cniVersion":"0.4.0","name":"t","plugins":[{"type":"bridge",
"bridge":"t0","isGateway":true,"ipam":{"type":"host-local","dataDir":"DIR/ipam",
"ranges":[[{"subnet":"10.213.0.0/24"}]],"routes":[{"dst":"0.0.0.0/0"}]}}]}"#;

/// A running containerd; stopped, with all it runs, when dropped.
pub struct Containerd {
    dir: tempfile::TempDir,
    namespaces: Child,
    init: String,
    cgroup: String,
}

impl Containerd {
    pub fn start() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("hullctl-cri-")
            .tempdir()
            .expect("a directory");
        let at = dir.path().to_str().expect("text").to_owned();
        fs::create_dir(dir.path().join("cni")).expect("made");
        fs::write(dir.path().join("config.toml"), CONFIG.replace("DIR", &at)).expect("written");
        let network = NETWORK.replace("DIR", &at);
        fs::write(dir.path().join("cni/10-t.conflist"), network).expect("written");
        image(dir.path());
        let log = fs::File::create(dir.path().join("log")).expect("a log");
        let namespaces = Command::new("unshare")
            .args([
                "-n",
                "-m",
                "-p",
                "-f",
                "--kill-child",
                "--mount-proc",
                "sh",
                "-c",
            ])
            .arg(format!(
                "ip link set lo up; exec containerd -c {at}/config.toml"
            ))
            .stderr(log)
            .stdout(Stdio::null())
            .spawn()
            .expect("unshare");
        let mut it = Containerd {
            dir,
            init: String::new(),
            cgroup: format!("/hullctl-cri-{}", namespaces.id()),
            namespaces,
        };
        it.wait_until("containerd answers", |it| {
            it.hullctl("version").status.success()
        });
        let children = format!("/proc/{0}/task/{0}/children", it.namespaces.id());
        it.init = fs::read_to_string(children)
            .expect("children")
            .trim()
            .to_owned();
        let import = it
            .inside(&[
                "ctr",
                "-a",
                &it.socket(),
                "-n",
                "k8s.io",
                "images",
                "import",
                &format!("{at}/image.tar"),
            ])
            .output()
            .expect("ctr");
        assert!(import.status.success(), "{import:?}");
        it
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn socket(&self) -> String {
        self.path()
            .join("s.sock")
            .to_str()
            .expect("text")
            .to_owned()
    }

    /// Waits; the harness's own bound on tests is the limit.
    pub fn wait_until(&self, what: &str, done: impl Fn(&Self) -> bool) {
        for _ in 0..3000 {
            if done(self) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let log = fs::read_to_string(self.path().join("log")).unwrap_or_default();
        panic!("never: {what}; {}", log.lines().last().unwrap_or_default());
    }

    /// A command in containerd's network.
    pub fn inside(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        if !self.init.is_empty() {
            command.args(["-t", &self.init, "-n"]);
        }
        command.arg("--").args(words);
        command
    }

    /// hullctl as a command that can still be given streams.
    pub fn command(&self, line: &str) -> Command {
        let program = env!("CARGO_BIN_EXE_hullctl");
        let socket = self.socket();
        let mut words = vec![program, "-r", &socket, "-c", "/dev/null"];
        words.extend(line.split_whitespace());
        let mut command = self.inside(&words);
        command.stdin(Stdio::null());
        command
    }

    pub fn hullctl(&self, line: &str) -> Output {
        self.command(line).output().expect("hullctl")
    }

    /// What a command prints, which must succeed.
    pub fn ok(&self, line: &str) -> String {
        let output = self.hullctl(line);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{line}: {}", text(&output.stderr));
        text(&output.stdout).trim_end().to_owned()
    }

    /// What a command says, which must fail.
    pub fn fails(&self, line: &str) -> String {
        let output = self.hullctl(line);
        assert!(!output.status.success(), "{line}: {output:?}");
        String::from_utf8_lossy(&output.stderr)
            .trim_end()
            .to_owned()
    }

    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        let text = text.replace("CGROUP", &self.cgroup);
        fs::write(
            &path,
            text.replace("DIR", self.path().to_str().expect("text")),
        )
        .expect("written");
        path
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // Ends the process namespace, and with it all that is mounted and all that runs.
        let _ = self.namespaces.kill();
        let _ = self.namespaces.wait();
        let Ok(controllers) = fs::read_dir("/sys/fs/cgroup") else {
            return;
        };
        for controller in controllers.flatten() {
            remove_cgroup(&controller.path().join(self.cgroup.trim_start_matches('/')));
        }
    }
}

/// The last processes leave a moment after they are killed.
fn remove_cgroup(path: &Path) {
    let Ok(entries) = fs::read_dir(path) else {
        return;
    };
    for entry in entries.flatten().filter(|e| e.path().is_dir()) {
        remove_cgroup(&entry.path());
    }
    for _ in 0..100 {
        if fs::remove_dir(path).is_ok() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().expect(program);
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// An archive with two images of busybox alone: a pause and one to test with.
fn image(dir: &Path) {
    let bin = dir.join("rootfs/bin");
    fs::create_dir_all(&bin).expect("made");
    fs::copy("/bin/busybox", bin.join("busybox")).expect("busybox-static is installed");
    for name in [
        "sh", "sleep", "cat", "echo", "ls", "tar", "nc", "stty", "head", "wc", "seq", "date",
    ] {
        symlink("busybox", bin.join(name)).expect("linked");
    }
    let at = dir.join("image");
    fs::create_dir(&at).expect("made");
    let text = |path: PathBuf| path.to_str().expect("text").to_owned();
    let layer = text(at.join("layer.tar"));
    run(
        "tar",
        &["-C", &text(dir.join("rootfs")), "-cf", &layer, "."],
    );
    let sum = run("sha256sum", &[&layer]);
    let sum = sum.split(' ').next().expect("a sum");
    for (name, cmd) in [
        ("pause", r#"["/bin/sleep","1000000"]"#),
        ("test", r#"["/bin/sh"]"#),
    ] {
        let config = format!(
            r#"{{"architecture":"amd64","os":"linux","config":{{"Env":["PATH=/bin"],"Entrypoint":{cmd}}},
            "rootfs":{{"type":"layers","diff_ids":["sha256:{sum}"]}},"history":[]}}"#
        );
        fs::write(at.join(format!("{name}.json")), config).expect("written");
    }
    let manifest = r#"[{"Config":"pause.json","RepoTags":["local/pause:1"],"Layers":["layer.tar"]},
        {"Config":"test.json","RepoTags":["local/test:1"],"Layers":["layer.tar"]}]"#;
    fs::write(at.join("manifest.json"), manifest).expect("written");
    run(
        "tar",
        &["-C", &text(at), "-cf", &text(dir.join("image.tar")), "."],
    );
}
