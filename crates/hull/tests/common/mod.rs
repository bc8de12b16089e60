//! A busybox container for tests of the commands.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    reason = "every test uses a part; a test that cannot go on fails"
)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// The program under test.
pub const HULL: &str = env!("CARGO_BIN_EXE_hull");
/// Longest a command may take; `SUITE_SLOWNESS` times that on an emulated machine.
fn limit() -> Duration {
    let slowness = std::env::var("SUITE_SLOWNESS").ok();
    let slowness: u32 = slowness.and_then(|n| n.parse().ok()).unwrap_or(1);
    Duration::from_secs(30) * slowness
}

/// What a command left behind.
#[derive(Debug)]
pub struct Output {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// Its standard output, if it went well.
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self.stdout
    }
}

/// Polls until `f` gives something.
pub fn wait_until<T>(what: &str, mut f: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit();
    while Instant::now() < end {
        if let Some(value) = f() {
            return value;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{what} did not happen");
}

/// Runs a command to its end, or kills it after [`limit`].
pub fn finish(mut command: Command) -> Output {
    let out = tempfile();
    let err = tempfile();
    command.stdout(Stdio::from(out.try_clone().unwrap()));
    command.stderr(Stdio::from(err.try_clone().unwrap()));
    let mut child = command.spawn().unwrap();
    let code = end_of(&mut child);
    Output {
        code,
        stdout: contents(out),
        stderr: contents(err),
    }
}

/// The exit code of a child that is to end by itself.
pub fn end_of(child: &mut Child) -> Option<i32> {
    let end = Instant::now() + limit();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if Instant::now() > end {
            let _ = child.kill();
            let _ = child.wait();
            panic!("a command did not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn tempfile() -> std::fs::File {
    let fd = rustix::fs::memfd_create("out", rustix::fs::MemfdFlags::CLOEXEC);
    std::fs::File::from(fd.unwrap())
}

fn contents(mut file: std::fs::File) -> String {
    use std::io::{Read as _, Seek as _};
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    text
}

/// A bundle and a state root of their own, removed with all containers when dropped.
pub struct Bundle {
    pub dir: PathBuf,
    pub id: String,
}

impl Bundle {
    /// A bundle whose program sleeps, with changes.
    pub fn new(name: &str, change: impl FnOnce(&mut Value)) -> Self {
        let id = format!("hull-test-{name}-{}", std::process::id());
        let dir = std::env::temp_dir().join(&id);
        let rootfs = dir.join("rootfs");
        for sub in ["bin", "etc", "proc", "dev", "sys", "tmp"] {
            std::fs::create_dir_all(rootfs.join(sub)).unwrap();
        }
        std::fs::copy("/bin/busybox", rootfs.join("bin/busybox")).unwrap();
        let list = Command::new("/bin/busybox").arg("--list").output().unwrap();
        for name in String::from_utf8(list.stdout).unwrap().lines() {
            let link = rootfs.join("bin").join(name);
            if !link.exists() {
                std::os::unix::fs::symlink("busybox", link).unwrap();
            }
        }
        let mut config = serde_json::to_value(spec::default_spec(false)).unwrap();
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(["sleep", "1000"]);
        // Hard limits cannot be raised without CAP_SYS_RESOURCE.
        config["process"]["rlimits"] = json!([]);
        change(&mut config);
        std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
        Self { dir, id }
    }

    /// The same, running.
    pub fn running(name: &str, change: impl FnOnce(&mut Value)) -> Self {
        let bundle = Self::new(name, change);
        bundle
            .hull(&["run", "-d", "-b", bundle.path(), &bundle.id])
            .ok();
        bundle
    }

    pub fn path(&self) -> &str {
        self.dir.to_str().unwrap()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// `hull` with the state root of this bundle.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(HULL);
        command.arg("--root").arg(self.dir.join("state")).args(args);
        command.stdin(Stdio::null());
        command
    }

    pub fn hull(&self, args: &[&str]) -> Output {
        finish(self.command(args))
    }

    /// `hull COMMAND [options] ID`, or with more words behind.
    pub fn on(&self, command: &[&str], rest: &[&str]) -> Output {
        self.hull(&[command, &[self.id.as_str()], rest].concat())
    }

    /// The output of a shell script in the container.
    pub fn sh(&self, options: &[&str], script: &str) -> Output {
        let words = [&["exec"], options].concat();
        self.on(&words, &["sh", "-c", script])
    }

    pub fn pid(&self) -> i32 {
        let state: Value = serde_json::from_str(&self.on(&["state"], &[]).ok()).unwrap();
        i32::try_from(state["pid"].as_i64().unwrap()).unwrap()
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let deleted = self.on(&["delete", "-f"], &[]);
        let entries = std::fs::read_dir(self.dir.join("state"));
        // What is remembered of containers that have gone is not left behind.
        let left = entries.into_iter().flatten().flatten();
        let left = left.filter(|e| e.file_name() != "@ended").count();
        let _ = std::fs::remove_dir_all(&self.dir);
        if !std::thread::panicking() {
            assert_eq!(deleted.code, Some(0), "{}", deleted.stderr);
            assert_eq!(left, 0, "state is left");
            assert_eq!(cgroups(&self.id), Vec::<PathBuf>::new(), "cgroups are left");
        }
    }
}

/// Directories of this name in the cgroup hierarchies.
pub fn cgroups(name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left: Vec<PathBuf> = vec![Path::new("/sys/fs/cgroup").to_owned()];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                if entry.file_name() == name {
                    found.push(entry.path());
                }
                left.push(entry.path());
            }
        }
    }
    found
}
