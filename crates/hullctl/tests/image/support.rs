//! A place to work at, and docker-registry on loopback.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// A directory of the test's own, and the environment that keeps a person's files out of it.
pub struct Desk(pub tempfile::TempDir);

impl Desk {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hullctl"));
        command.arg("image").args(args).current_dir(self.0.path());
        for name in [
            "HTTP_PROXY",
            "HTTPS_PROXY",
            "ALL_PROXY",
            "NO_PROXY",
            "http_proxy",
            "https_proxy",
            "all_proxy",
            "no_proxy",
            "SOURCE_DATE_EPOCH",
        ] {
            command.env_remove(name);
        }
        command
            .env("HOME", self.0.path())
            .env("XDG_CONFIG_HOME", self.0.path())
            .env("XDG_RUNTIME_DIR", self.0.path())
            .env_remove("REGISTRY_AUTH_FILE")
            .env_remove("DOCKER_CONFIG");
        command
    }

    pub fn ok(&self, args: &[&str]) -> String {
        shown(args, self.command(args).output().unwrap())
    }

    pub fn fails(&self, args: &[&str]) -> String {
        complaint(args, self.command(args).output().unwrap())
    }
}

/// Standard output of a run that succeeded.
pub fn shown(args: &[&str], output: Output) -> String {
    succeeded(args, &output);
    String::from_utf8(output.stdout).unwrap()
}

/// Standard error of a run that failed.
pub fn complaint(args: &[&str], output: Output) -> String {
    assert!(!output.status.success(), "{args:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.starts_with("hullctl: "), "{text}");
    text
}

pub fn succeeded(args: &[&str], output: &Output) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {said}");
}

/// docker-registry with the password "secret" for "person".
pub struct Registry {
    child: Child,
    pub address: String,
    _dir: tempfile::TempDir,
}

impl Registry {
    pub fn start() -> Self {
        for _ in 0..5 {
            let dir = tempfile::tempdir().unwrap();
            let port = TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap()
                .port();
            let address = format!("127.0.0.1:{port}");
            let root = dir.path().display();
            let text = format!(
                "version: 0.1\nlog: {{ level: error }}\nstorage:\n  delete: {{ enabled: true }}\n  filesystem: {{ rootdirectory: {root}/data }}\nhttp:\n  addr: {address}\nauth:\n  htpasswd: {{ realm: x, path: {root}/htpasswd }}\n"
            );
            std::fs::write(dir.path().join("config.yml"), text).unwrap();
            std::fs::write(
                dir.path().join("htpasswd"),
                "person:$2b$04$dIWS6/LYQsokxxM1HKgMMOOLy5arU4XT2dGfF7It4G9vK2QcYRU1q",
            )
            .unwrap();
            let mut child = Command::new("docker-registry")
                .arg("serve")
                .arg(dir.path().join("config.yml"))
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            for _ in 0..500 {
                if child.try_wait().unwrap().is_some() {
                    break;
                }
                if TcpStream::connect(&address).is_ok() {
                    return Self {
                        child,
                        address,
                        _dir: dir,
                    };
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            let _ = child.kill();
            child.wait().unwrap();
        }
        panic!("docker-registry does not start");
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A root file system in a tar file.
pub fn rootfs(desk: &Desk) -> String {
    let dir = desk.0.path().join("rootfs");
    std::fs::create_dir_all(dir.join("etc")).unwrap();
    std::fs::write(dir.join("etc/os-release"), "NAME=test\n").unwrap();
    let tar = desk.path("rootfs.tar");
    let done = Command::new("tar")
        .args(["-cf", &tar, "-C"])
        .arg(&dir)
        .arg(".")
        .status();
    assert!(done.unwrap().success());
    tar
}

/// A layout made of a tar file, by umoci.
pub fn layout(desk: &Desk, place: &str) {
    let run = |args: &[&str]| {
        let output = Command::new("umoci").args(args).output().unwrap();
        assert!(
            output.status.success(),
            "{args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    let tar = rootfs(desk);
    let image = format!("{place}:x");
    run(&["init", "--layout", place]);
    run(&["new", "--image", &image]);
    run(&["raw", "add-layer", "--image", &image, &tar]);
    run(&[
        "config",
        "--image",
        &image,
        "--config.env",
        "A=b",
        "--config.cmd",
        "sh",
    ]);
}
