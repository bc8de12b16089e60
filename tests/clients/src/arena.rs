//! A place of its own for a client: namespaces, a directory, a cgroup parent; all of it goes with
//! the test, whatever happens.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::{Runtime, cgroups, eventually, leaks};

/// The arena's first process: makes the private mounts, says so, and reaps orphans.
/// `$1` is `hybrid` or empty.
const INIT: &str = r#"
set -e
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
ip link set lo up
if [ "$1" = plain ] && mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi
echo ready
sleep infinity &
wait
"#;

/// Seconds that one command of a client may take.
const DEADLINE: &str = "90";

/// The namespaces, directory and cgroup parent of one test.
#[derive(Debug)]
pub struct Arena {
    /// The runtime under test.
    pub runtime: Runtime,
    dir: PathBuf,
    name: String,
    holder: Child,
    init: u32,
    mounts: Vec<String>,
    runs: AtomicU32,
}

/// What a command did.
#[derive(Clone, Debug)]
pub struct Run {
    /// The command, for messages.
    pub line: String,
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

impl Run {
    /// Its output, which must have come with exit status 0.
    ///
    /// # Panics
    /// When the command failed.
    #[track_caller]
    pub fn ok(&self) -> &str {
        self.exits(0);
        &self.out
    }

    /// Checks the exit status.
    ///
    /// # Panics
    /// When it is another.
    #[track_caller]
    pub fn exits(&self, code: i32) -> &Self {
        let (line, out, err) = (&self.line, &self.out, &self.err);
        assert!(
            self.status.code() == Some(code),
            "{line}\n  ended with {}, not {code}\n  stdout: {out}\n  stderr: {err}",
            self.status
        );
        self
    }
}

impl Arena {
    /// A fresh arena for the runtime under test.
    ///
    /// # Panics
    /// When the tests are not run as root, or a namespace cannot be made.
    pub fn new(test: &str) -> Self {
        Self::with_runtime(test, Runtime::under_test())
    }

    /// A fresh arena for a given runtime.
    ///
    /// # Panics
    /// See [`Arena::new`].
    pub fn with_runtime(test: &str, runtime: Runtime) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        assert!(
            rustix::process::geteuid().is_root(),
            "these tests need root"
        );
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("hullclients-{}-{count}-{test}", std::process::id());
        let dir = std::env::temp_dir().join(&name);
        fs::create_dir(&dir).unwrap();
        // Stands in for the machine's own configuration, whatever that says.
        fs::write(dir.join("containers.conf"), "").unwrap();
        let tree = if runtime.refuses_hybrid() {
            "plain"
        } else {
            "hybrid"
        };
        // The parent-death signals end the arena with the test's thread, even when that is
        // killed; the init's end takes every process in its pid namespace with it.
        let mut holder = Command::new("setpriv")
            .args([
                "--pdeathsig",
                "KILL",
                "unshare",
                "--net",
                "--mount",
                "--pid",
                "--fork",
            ])
            .args([
                "--mount-proc",
                "--kill-child",
                "sh",
                "-c",
                INIT,
                "arena",
                tree,
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(dir.join("arena.log")).unwrap())
            .spawn()
            .unwrap();
        let mut said = String::new();
        let mut pipe = BufReader::new(holder.stdout.take().unwrap());
        pipe.read_line(&mut said).unwrap();
        assert_eq!(said, "ready\n", "the arena's namespaces were not made");
        let init = child_of(holder.id()).expect("unshare has forked");
        let mut arena = Self {
            runtime,
            dir,
            name,
            holder,
            init,
            mounts: Vec::new(),
            runs: AtomicU32::new(0),
        };
        arena.mounts = leaks::mount_points(init);
        arena
    }

    /// The arena's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A path in the arena's directory, as text.
    pub fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    /// The cgroup under which the client is to put everything, as an absolute cgroup path.
    pub fn cgroup_parent(&self) -> String {
        format!("/{}", self.name)
    }

    /// The path of the runtime program.
    pub fn runtime_path(&self) -> String {
        self.runtime.path.display().to_string()
    }

    /// A file or directory of the arena's own mount namespace, as the host reaches it.
    pub fn inside(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.init))
    }

    /// A command that will run in the arena's namespaces.
    pub fn command<S: AsRef<OsStr>>(&self, argv: &[S]) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.init.to_string()])
            .args(["--net", "--mount", "--pid", "--"])
            .args(argv)
            .env("HOME", &self.dir)
            .env("TMPDIR", &self.dir)
            .env("CONTAINERS_CONF", self.dir.join("containers.conf"))
            .env_remove("XDG_RUNTIME_DIR")
            .env_remove("DOCKER_HOST");
        command
    }

    /// Runs a command in the arena, with a deadline.
    ///
    /// # Panics
    /// When it cannot be started or runs into the deadline.
    #[track_caller]
    pub fn run<S: AsRef<OsStr>>(&self, argv: &[S]) -> Run {
        let line = argv.iter().map(|w| w.as_ref().to_string_lossy());
        let line = line.collect::<Vec<_>>().join(" ");
        let n = self.runs.fetch_add(1, Ordering::Relaxed);
        // Files, not pipes: a monitor that keeps its standard output open must not hold us.
        let (out, err) = (
            self.dir.join(format!("{n}.out")),
            self.dir.join(format!("{n}.err")),
        );
        let mut words: Vec<&OsStr> = ["timeout", "-k", "5", DEADLINE].map(OsStr::new).to_vec();
        words.extend(argv.iter().map(AsRef::as_ref));
        let status = self
            .command(&words)
            .stdin(Stdio::null())
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(&err).unwrap())
            .status()
            .unwrap();
        let read = |p: &Path| String::from_utf8_lossy(&fs::read(p).unwrap()).into_owned();
        let run = Run {
            line,
            status,
            out: read(&out),
            err: read(&err),
        };
        assert!(
            status.code() != Some(124),
            "deadline of {DEADLINE} s: {run:?}"
        );
        run
    }

    /// Starts a daemon in the arena; what it prints goes to `<name>.log`.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn daemon<S: AsRef<OsStr>>(&self, name: &str, argv: &[S]) -> Child {
        let log = File::create(self.dir.join(format!("{name}.log"))).unwrap();
        self.command(argv)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap()
    }

    /// Ends a daemon that [`Arena::daemon`] started with SIGTERM, and waits for it.
    ///
    /// # Panics
    /// When it does not end within 20 s.
    pub fn stop_daemon(&self, mut daemon: Child, program: &str) {
        let own = self.processes().into_iter();
        for (pid, _) in own.filter(|(_, c)| c.split(' ').next() == Some(program)) {
            signal(pid, rustix::process::Signal::TERM);
        }
        let ended = eventually(Duration::from_secs(20), || {
            daemon.try_wait().unwrap().is_some()
        });
        assert!(ended, "{program} did not end on SIGTERM");
    }

    /// Host pids of the processes that run in the arena, without its init.
    pub fn processes(&self) -> Vec<(u32, String)> {
        leaks::processes(self.init)
    }

    /// Checks that the client and the runtime left nothing behind, then takes the arena down.
    /// `may_stay` has parts of lines of the report, for what the client itself keeps on purpose.
    ///
    /// # Panics
    /// When something is left.
    #[track_caller]
    pub fn finish(self, may_stay: &[&str]) {
        let mut left = Vec::new();
        // Monitors and daemons need a moment to end after the last container.
        eventually(Duration::from_secs(20), || {
            left = self.left_behind(may_stay);
            left.is_empty()
        });
        assert!(left.is_empty(), "left behind:\n  {}", left.join("\n  "));
    }

    fn left_behind(&self, may_stay: &[&str]) -> Vec<String> {
        let processes = self.processes().into_iter();
        let mut left: Vec<String> = processes
            .map(|(pid, command)| format!("process {pid}: {command}"))
            .collect();
        let mounts = leaks::mount_points(self.init).into_iter();
        let mounts = mounts.filter(|m| !self.mounts.contains(m));
        left.extend(mounts.map(|m| format!("mount {m}")));
        let cgroups = cgroups::below(&self.name).into_iter();
        left.extend(cgroups.map(|c| format!("cgroup {}", c.display())));
        let states = leaks::runtime_states(&self.inside("/run")).into_iter();
        left.extend(states.map(|s| format!("runtime state {}", s.display())));
        left.retain(|line| !may_stay.iter().any(|s| line.contains(s)));
        left
    }

    fn take_down(&mut self) -> Vec<String> {
        cgroups::thaw(&self.name);
        // The init's death kills all in the pid namespace and waits for them; the mounts and
        // the network go with the last of them.
        signal(self.init, rustix::process::Signal::KILL);
        let _ = self.holder.wait();
        let mut stuck: Vec<String> = cgroups::remove(&self.name)
            .iter()
            .map(|p| format!("cgroup {}", p.display()))
            .collect();
        if let Err(e) = fs::remove_dir_all(&self.dir) {
            stuck.push(format!("{}: {e}", self.dir.display()));
        }
        stuck
    }

    /// The last lines of the daemons' logs, for a failed test.
    fn print_logs(&self) {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        for log in entries.map(|e| e.path()) {
            if log.extension().is_some_and(|e| e == "log") {
                let text = fs::read(&log).unwrap_or_default();
                let text = String::from_utf8_lossy(&text);
                let from = text.lines().count().saturating_sub(15);
                let tail: Vec<&str> = text.lines().skip(from).collect();
                eprintln!("--- {}\n{}", log.display(), tail.join("\n"));
            }
        }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        if failed {
            self.print_logs();
        }
        let stuck = self.take_down();
        assert!(failed || stuck.is_empty(), "could not remove: {stuck:?}");
    }
}

/// Sends a signal; a process that has ended already needs none.
fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// The first child of a process.
fn child_of(parent: u32) -> Option<u32> {
    let entries = fs::read_dir("/proc").ok()?.flatten();
    let pids = entries.filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    let wanted = format!("PPid:\t{parent}\n");
    let mut children = pids.filter(|pid| {
        let status = fs::read_to_string(format!("/proc/{pid}/status"));
        status.is_ok_and(|s| s.contains(&wanted))
    });
    children.next()
}
