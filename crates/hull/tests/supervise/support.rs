//! A pod with busybox containers.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use supervise::protocol::{
    Create, Event, Exit, LogOptions, Status, Stdio as Connected, Stop, What,
};
use supervise::{Client, Launch, Parts};

/// The program under test.
pub const HULL: &str = env!("CARGO_BIN_EXE_hull");
/// Longest that anything may take.
pub const LIMIT: Duration = Duration::from_secs(60);

static COUNT: AtomicU32 = AtomicU32::new(0);

/// Polls until `f` gives something.
pub fn wait_until<T>(what: &str, mut f: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + LIMIT;
    while Instant::now() < end {
        if let Some(value) = f() {
            return value;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{what} did not happen");
}

/// A pod's directory, supervisor and containers, all removed when dropped.
pub struct Pod {
    pub dir: PathBuf,
    pub name: String,
    pub child: Option<Child>,
    pub client: Client,
    pub events: Client,
    last_event: u64,
}

impl Pod {
    pub fn new(name: &str) -> Self {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("hull-sup-{name}-{}-{count}", std::process::id());
        let dir = std::env::temp_dir().join(&name);
        make_root(&dir.join("rootfs"));
        let child = launch(&dir, false);
        let client = Client::connect(&dir.join("pod")).unwrap();
        let mut events = Client::connect(&dir.join("pod")).unwrap();
        events.subscribe(0).unwrap();
        Self {
            dir,
            name,
            child: Some(child),
            client,
            events,
            last_event: 0,
        }
    }

    pub fn root(&self) -> PathBuf {
        self.dir.join("state")
    }

    pub fn pod_dir(&self) -> PathBuf {
        self.dir.join("pod")
    }

    pub fn connect(&self) -> Client {
        Client::connect(&self.pod_dir()).unwrap()
    }

    pub fn id(&self, short: &str) -> String {
        format!("{}-{short}", self.name)
    }

    pub fn log_path(&self, short: &str) -> PathBuf {
        self.dir.join(format!("{short}.log"))
    }

    pub fn log(&self, short: &str) -> String {
        std::fs::read_to_string(self.log_path(short)).unwrap()
    }

    /// The text of a stream in a log, put together from its parts.
    pub fn text(&self, short: &str, stream: &str) -> String {
        text_of(&self.log(short), stream)
    }

    /// Writes a bundle; returns what is to be created.
    pub fn bundle(&self, short: &str, change: impl FnOnce(&mut Value)) -> Create {
        let bundle = self.dir.join(format!("bundle-{short}"));
        std::fs::create_dir_all(&bundle).unwrap();
        let mut config = serde_json::to_value(spec::default_spec(false)).unwrap();
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(["sleep", "1000"]);
        config["process"]["rlimits"] = json!([]);
        config["root"] = json!({"path": self.dir.join("rootfs"), "readonly": true});
        config["linux"]["cgroupsPath"] = json!(format!("/{}/{short}", self.name));
        change(&mut config);
        std::fs::write(bundle.join("config.json"), config.to_string()).unwrap();
        Create {
            id: self.id(short),
            bundle,
            stdio: Connected::Pipes,
            log: Some(LogOptions {
                path: self.log_path(short),
                ..LogOptions::default()
            }),
            ..Create::default()
        }
    }

    /// A container that runs a shell script.
    pub fn script(&self, short: &str, script: &str) -> Create {
        self.bundle(short, |c| {
            c["process"]["args"] = json!(["sh", "-c", script]);
        })
    }

    pub fn create(&mut self, create: Create) -> (i32, Parts) {
        let (process, parts) = self.client.create(create).unwrap();
        (process.pid, parts)
    }

    /// Creates and starts.
    pub fn run(&mut self, create: Create) -> (i32, Parts) {
        let id = create.id.clone();
        let made = self.create(create);
        self.client.start(&id).unwrap();
        made
    }

    /// Runs a script to its end.
    pub fn run_to_end(&mut self, short: &str, script: &str) -> Exit {
        let create = self.script(short, script);
        self.run(create);
        self.exit(short)
    }

    pub fn stop(&mut self, short: &str, signal: i32, grace: Duration) {
        let stop = self.stop_wish(short, signal, grace);
        self.client.stop(stop).unwrap();
    }

    pub fn stop_wish(&self, short: &str, signal: i32, grace: Duration) -> Stop {
        Stop {
            id: self.id(short),
            signal,
            grace_millis: u64::try_from(grace.as_millis()).unwrap(),
            by: "test".to_owned(),
        }
    }

    pub fn event(&mut self) -> Event {
        let event = self.events.next_event(LIMIT).unwrap();
        let event = event.expect("an event comes");
        assert_eq!(event.number, self.last_event + 1, "events have no gaps");
        self.last_event = event.number;
        event
    }

    /// Waits for the end of a container.
    pub fn exit(&mut self, short: &str) -> Exit {
        let id = self.id(short);
        loop {
            let event = self.event();
            match event.what {
                What::Exited(exit) if event.id == id => return exit,
                _ => {}
            }
        }
    }

    pub fn status(&mut self, short: &str) -> Status {
        let id = self.id(short);
        let list = self.client.list().unwrap();
        let found = list.into_iter().find(|s| s.create.id == id);
        found.expect("the container is listed")
    }

    pub fn supervisor(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Kills the supervisor and starts another.
    pub fn replace_supervisor(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        self.child = Some(launch(&self.dir, true));
        self.client = self.connect();
        self.events = self.connect();
        self.events.subscribe(self.last_event).unwrap();
    }

    fn clean(&mut self) -> supervise::Result<()> {
        for status in self.client.list()? {
            self.client.delete(&status.create.id, true)?;
        }
        self.client.quit()
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let cleaned = self.clean();
        if let Some(mut child) = self.child.take() {
            if cleaned.is_err() {
                let _ = child.kill();
            }
            let _ = child.wait();
        }
        let entries = std::fs::read_dir(self.root());
        let names = entries
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| e.file_name());
        // What is remembered of containers that have gone is not left behind; of those of other
        // runtimes nothing but the directory.
        let foreign = std::fs::read_dir(self.root().join("@foreign"));
        let foreign = foreign
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| e.file_name());
        let ids: Vec<_> = names
            .filter(|n| n != "@ended" && n != "@foreign")
            .chain(foreign)
            .collect();
        let left = ids.len();
        for id in ids {
            let mut command = Command::new(HULL);
            command
                .arg("--root")
                .arg(self.root())
                .args(["delete", "-f"]);
            let _ = command.arg(id).status();
        }
        remove_cgroups(&self.name);
        let _ = std::fs::remove_dir_all(&self.dir);
        if !std::thread::panicking() {
            cleaned.unwrap();
            assert_eq!(left, 0, "state is left");
        }
    }
}

pub fn launch(dir: &Path, resume: bool) -> Child {
    launch_program(Path::new(HULL), dir, resume)
}

/// A supervisor on a kernel that lacks a call.
pub fn launch_without(call: &str, dir: &Path, resume: bool) -> Child {
    let program = dir.join("hull");
    let script = format!("#!/bin/sh\nHULL_FAKE_ENOSYS={call} exec {HULL} \"$@\"\n");
    std::fs::write(&program, script).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&program, mode).unwrap();
    launch_program(&program, dir, resume)
}

fn launch_program(program: &Path, dir: &Path, resume: bool) -> Child {
    let launch = Launch {
        program,
        root: &dir.join("state"),
        dir: &dir.join("pod"),
        resume,
        stderr: Stdio::inherit(),
    };
    launch.start().unwrap()
}

fn make_root(rootfs: &Path) {
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
}

/// Removes what was made above the containers' own groups, and what a failed test has left.
fn remove_cgroups(name: &str) {
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten();
    let mut tops: Vec<PathBuf> = hierarchies.map(|h| h.path().join(name)).collect();
    tops.push(Path::new("/sys/fs/cgroup").join(name));
    tops.retain(|top| top.is_dir());
    for top in &tops {
        // Only the unified tree has it; whoever is there is in all of them.
        let _ = std::fs::write(top.join("cgroup.kill"), "1");
    }
    for top in &tops {
        for group in std::fs::read_dir(top).into_iter().flatten().flatten() {
            let _ = std::fs::remove_dir(group.path());
        }
        let _ = std::fs::remove_dir(top);
    }
}

/// The text of a stream in a log.
pub fn text_of(log: &str, stream: &str) -> String {
    let mut text = String::new();
    for line in log.lines() {
        let mut words = line.splitn(4, ' ');
        let time = words.next().unwrap();
        assert_eq!(time.len(), 30, "{line}");
        assert!(time.ends_with('Z'), "{line}");
        let name = words.next().unwrap();
        assert!(name == "stdout" || name == "stderr", "{line}");
        let tag = words.next().unwrap();
        let rest = words.next().unwrap();
        if name == stream {
            text.push_str(rest);
            match tag {
                "F" => text.push('\n'),
                "P" => {}
                _ => panic!("{line}"),
            }
        }
    }
    text
}

/// Whether a process runs.
pub fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

/// A sandbox of the pod.
pub fn sandbox(pod: &Pod) -> Create {
    let root = pod.dir.join("pause-root");
    supervise::pause::install(&root).unwrap();
    let create = pod.bundle("sandbox", |c| {
        c["process"]["args"] = json!([supervise::pause::PROGRAM]);
        c["root"]["path"] = json!(root);
    });
    Create {
        stdio: Connected::Null,
        log: None,
        start: true,
        ..create
    }
}
