//! Control groups of our own for tests on the real kernel, removed whatever happens.

#![allow(dead_code, reason = "each test program uses its part")]

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use cgroup::{Joiner, Manager, Policy, Request};
use rustix::process::{Pid, Signal};
use sys::process::{CloneArgs, Cloned, clone3};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A manager for a fresh name; kills and deletes when dropped, and checks that nothing is left.
pub struct Fixture {
    pub manager: Manager,
    pub name: String,
}

impl Fixture {
    /// Named but not made.
    pub fn named(policy: Policy) -> Self {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("hull-test-{}-{n}", std::process::id());
        let path = format!("/{name}");
        let request = Request {
            path: Some(&path),
            id: &name,
            policy,
            systemd: None,
        };
        let manager = Manager::new(&request).unwrap();
        Self { manager, name }
    }

    /// Made.
    pub fn new() -> Self {
        let mut fixture = Self::named(Policy::default());
        fixture.manager.create().unwrap();
        fixture
    }

    /// Directory of a controller; empty for the unified tree.
    pub fn dir(&self, controller: &str) -> std::path::PathBuf {
        self.manager.paths()[controller].clone()
    }

    /// Content of a file.
    pub fn read(&self, controller: &str, file: &str) -> String {
        read(&self.dir(controller).join(file))
    }

    /// A process that entered by itself and sleeps.
    pub fn sleeper(&self) -> Sleeper {
        Sleeper::start(&self.manager.joiner().unwrap(), || {})
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let _ = self.manager.thaw();
        let _ = self.manager.kill();
        let deleted = self.manager.delete();
        for dir in self.manager.paths().values() {
            let left = dir.exists();
            if !std::thread::panicking() {
                assert!(!left, "{dir:?} is left");
            }
        }
        if !std::thread::panicking() {
            deleted.unwrap();
        }
    }
}

/// A manager for a version 2 machine whose tree is mounted at `mountpoint`.
pub fn v2_manager(mountpoint: &Path, dir: &Path) -> Manager {
    let state = serde_json::json!({
        "mode": "v2", "policy": {"tolerate": [], "rootless": false}, "path_given": true,
        "v1": [], "unified": {"mountpoint": mountpoint, "path": dir},
    });
    Manager::from_state(serde_json::from_value(state).unwrap())
}

pub fn read(path: &Path) -> String {
    std::fs::read_to_string(path)
        .unwrap_or_else(|e| panic!("{path:?}: {e}"))
        .trim()
        .to_owned()
}

/// Waits, at most three seconds.
pub fn wait_readable(fd: &impl std::os::fd::AsFd) {
    let mut fds = [rustix::event::PollFd::new(fd, rustix::event::PollFlags::IN)];
    let timeout = rustix::event::Timespec {
        tv_sec: 3,
        tv_nsec: 0,
    };
    assert_eq!(rustix::event::poll(&mut fds, Some(&timeout)).unwrap(), 1);
}

/// A child process, killed and reaped when dropped.
pub struct Sleeper {
    pub pid: Pid,
    pidfd: OwnedFd,
}

impl Sleeper {
    /// Clones a process into the groups, which does `work`, says so, and sleeps.
    ///
    /// The test program has threads, so the child keeps to system calls.
    pub fn start(joiner: &Joiner, work: impl FnOnce()) -> Self {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let args = CloneArgs {
            cgroup: joiner.clone_fd(),
            ..CloneArgs::default()
        };
        match clone3(&args).unwrap() {
            Cloned::Child => {
                let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
                let joined = joiner.join_self(joiner.clone_fd().is_some());
                let byte = if joined.is_ok() { b"y" } else { b"n" };
                if joined.is_ok() {
                    work();
                }
                let _ = rustix::io::write(&writer, byte);
                loop {
                    std::thread::sleep(Duration::from_secs(1));
                }
            }
            Cloned::Parent { pid, pidfd } => {
                drop(writer);
                let sleeper = Self { pid, pidfd };
                let mut byte = [0];
                rustix::io::read(&reader, &mut byte).unwrap();
                assert_eq!(&byte, b"y", "the child could not enter");
                sleeper
            }
        }
    }

    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// /proc/PID/cgroup.
    pub fn cgroups(&self) -> String {
        read(Path::new(&format!("/proc/{}/cgroup", self.pid())))
    }

    /// Whether it ends within a second.
    pub fn ends(&mut self) -> bool {
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(1) {
            let options = rustix::process::WaitIdOptions::EXITED
                | rustix::process::WaitIdOptions::NOHANG
                | rustix::process::WaitIdOptions::NOWAIT;
            let id = rustix::process::WaitId::Pid(self.pid);
            if rustix::process::waitid(id, options).unwrap().is_some() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        false
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
        let options = rustix::process::WaitIdOptions::EXITED;
        let _ = rustix::process::waitid(rustix::process::WaitId::Pid(self.pid), options);
    }
}
