//! Running hooks (config.md, POSIX-platform Hooks).

use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, OFlags, fcntl_getfl, fcntl_setfl, memfd_create};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group};
use spec::oci::{Hook, State};
use sys::Context as _;

use crate::{Error, Result};

/// Most that is kept of what a hook writes to each of its outputs; the rest is read and dropped.
const OUTPUT_LIMIT: usize = 16 * 1024;
/// How often a kernel without pidfd_open(2) is asked whether the hook has ended.
const TICK: Duration = Duration::from_millis(10);

/// Runs hooks one after the other, each with the state on its standard input. `moment` is the
/// name of their list in `config.json`.
///
/// # Errors
/// The first hook that could not be run, failed, or ran too long; the later ones are not run.
pub fn run_all(moment: &str, hooks: &[Hook], state: &State) -> Result<()> {
    for (n, hook) in hooks.iter().enumerate() {
        let call = format!("{moment} hook");
        sys::trace::step(&call, || &hook.path, || run(hook, state))
            .map_err(|e| Error::Hook(format!("error running {moment} hook #{n}: {e}")))?;
    }
    Ok(())
}

/// Runs one hook and waits for it.
///
/// Its environment is exactly the one given. A hook that runs past its timeout is killed with
/// everything in its process group.
///
/// # Errors
/// A hook that could not be started, did not exit with 0, or ran too long.
pub fn run(hook: &Hook, state: &State) -> Result<()> {
    let mut running = Running::start(hook, state)?;
    let limit = hook.timeout.and_then(|t| u64::try_from(t).ok());
    let Some(status) = running.wait(limit.map(Duration::from_secs))? else {
        let seconds = limit.unwrap_or_default();
        let text = format!("hook ran past specified timeout of {seconds}.0s");
        return Err(Error::Hook(text));
    };
    if status.success() {
        return Ok(());
    }
    let status = match status.code() {
        Some(code) => format!("exit status {code}"),
        None => status.to_string(),
    };
    let (stdout, stderr) = (running.stdout.text(), running.stderr.text());
    Err(Error::Hook(format!(
        "error running hook: {status}, stdout: {stdout}, stderr: {stderr}"
    )))
}

/// The state as a file: unlike a pipe, it is never full, whether the hook reads it or not.
fn state_file(state: &State) -> Result<File> {
    let json = serde_json::to_vec(state).map_err(|source| Error::Json {
        what: "container state".to_owned(),
        source,
    })?;
    let memfd = memfd_create("state", MemfdFlags::CLOEXEC).context("memfd_create", || "state")?;
    let mut file = File::from(memfd);
    file.write_all(&json).context("write", || "state")?;
    file.rewind().context("lseek", || "state, 0")?;
    Ok(file)
}

/// A hook that was started. Dropped before its end, it is killed with its process group.
struct Running {
    child: Child,
    pid: Pid,
    /// `None` on kernels without pidfd_open(2).
    pidfd: Option<OwnedFd>,
    stdout: Output,
    stderr: Output,
    ended: bool,
}

impl Running {
    fn start(hook: &Hook, state: &State) -> Result<Self> {
        let mut command = Command::new(&hook.path);
        if let Some((name, rest)) = hook.args.split_first() {
            command.arg0(name).args(rest);
        }
        let pairs = hook.env.iter().filter_map(|e| e.split_once('='));
        command.env_clear().envs(pairs).process_group(0);
        command.stdin(state_file(state)?);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .context("execve", || format!("{:?}", hook.path))?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| sys::Error::new("fork", &hook.path, Errno::RANGE))?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let mut running = Self {
            child,
            pid,
            pidfd: None,
            stdout: Output::new(stdout.map(OwnedFd::from)),
            stderr: Output::new(stderr.map(OwnedFd::from)),
            ended: false,
        };
        running.pidfd = match sys::pidfd::open(pid) {
            Ok(fd) => Some(fd),
            Err(e) if e.errno == Errno::NOSYS => None,
            Err(e) => return Err(e.into()),
        };
        Ok(running)
    }

    /// Waits until the hook itself ends, whoever holds its pipes then; `None` where it ran longer
    /// than `limit` and was killed.
    fn wait(&mut self, limit: Option<Duration>) -> Result<Option<ExitStatus>> {
        let deadline = limit.and_then(|l| Instant::now().checked_add(l));
        loop {
            let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
            let ready = self.poll(left)?;
            self.stdout.drain();
            self.stderr.drain();
            if ready && let Some(status) = self.child.try_wait().context("wait4", || "hook")? {
                self.ended = true;
                // What it wrote last may have come between the two.
                self.stdout.drain();
                self.stderr.drain();
                return Ok(Some(status));
            }
            if left.is_some_and(|l| l.is_zero()) {
                return Ok(None);
            }
        }
    }

    /// Waits for output, the end, or the limit; says whether the hook may have ended.
    fn poll(&self, left: Option<Duration>) -> Result<bool> {
        let mut fds = Vec::with_capacity(3);
        let outputs = [&self.stdout, &self.stderr];
        for fd in outputs.into_iter().filter_map(|o| o.fd.as_ref()) {
            fds.push(PollFd::new(fd, PollFlags::IN));
        }
        let left = match &self.pidfd {
            Some(pidfd) => {
                fds.push(PollFd::new(pidfd, PollFlags::IN));
                left
            }
            None => Some(left.map_or(TICK, |l| l.min(TICK))),
        };
        let timeout = left.and_then(|l| Timespec::try_from(l).ok());
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(sys::Error::new("poll", "hook", e).into()),
        }
        Ok(match &self.pidfd {
            Some(_) => fds.last().is_some_and(|fd| !fd.revents().is_empty()),
            None => true,
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            // Both fail only where there is nothing left to kill or to reap.
            let _ = kill_process_group(self.pid, Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

/// One output of a hook: the read end of its pipe, and the beginning of what came through.
struct Output {
    fd: Option<OwnedFd>,
    kept: Vec<u8>,
}

impl Output {
    fn new(fd: Option<OwnedFd>) -> Self {
        // Draining needs a pipe that does not block; one that cannot be had is closed.
        let fd = fd.filter(|fd| {
            let flags = fcntl_getfl(fd).unwrap_or(OFlags::empty());
            fcntl_setfl(fd, flags | OFlags::NONBLOCK).is_ok()
        });
        Self {
            fd,
            kept: Vec::new(),
        }
    }

    /// Reads all that is there.
    fn drain(&mut self) {
        let mut buffer = [0_u8; 4096];
        while let Some(fd) = &self.fd {
            match rustix::io::read(fd.as_fd(), &mut buffer) {
                Ok(0) => self.fd = None,
                Ok(n) => {
                    let room = OUTPUT_LIMIT.saturating_sub(self.kept.len());
                    self.kept.extend_from_slice(&buffer[..n.min(room)]);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => self.fd = None,
            }
        }
    }

    /// On one line.
    fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.kept);
        text.trim_end().replace('\n', "\\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, timeout: Option<i64>) -> Hook {
        Hook {
            path: "/bin/sh".to_owned(),
            args: ["sh", "-c", script].map(str::to_owned).to_vec(),
            env: vec!["MARK=here".to_owned()],
            timeout,
        }
    }

    fn state() -> State {
        State {
            id: "c1".to_owned(),
            status: "created".to_owned(),
            pid: 7,
            bundle: "/b".to_owned(),
            ..State::default()
        }
    }

    #[test]
    fn state_on_stdin_and_the_environment_as_given() {
        let dir = std::env::temp_dir().join(format!("hull-hook-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let d = dir.display();
        run(
            &shell(
                &format!("/bin/cat >{d}/state; /usr/bin/env >{d}/env"),
                Some(10),
            ),
            &state(),
        )
        .unwrap();
        let text = std::fs::read_to_string(dir.join("state")).unwrap();
        let read: State = serde_json::from_str(&text).unwrap();
        assert_eq!((read.id.as_str(), read.pid), ("c1", 7));
        let env = std::fs::read_to_string(dir.join("env")).unwrap();
        let mut names: Vec<&str> = env
            .lines()
            .filter_map(|l| l.split_once('='))
            .map(|p| p.0)
            .collect();
        names.sort_unstable();
        // The shell adds PWD and _ itself.
        assert_eq!(names, ["MARK", "PWD"]);
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn failures_are_told_as_runc_tells_them() {
        let cases = [
            (
                shell("echo out; echo err >&2; exit 3", None),
                "error running hook: exit status 3, stdout: out, stderr: err",
            ),
            (
                shell("kill -9 $$", None),
                "error running hook: signal: 9 (SIGKILL), stdout: , stderr: ",
            ),
            (
                Hook {
                    path: "/no/hook".to_owned(),
                    ..Hook::default()
                },
                "execve(\"/no/hook\"): no such file or directory",
            ),
        ];
        for (hook, text) in cases {
            assert_eq!(run(&hook, &state()).unwrap_err().to_string(), text);
        }
        let hooks = [
            shell("true", None),
            shell("false", None),
            shell("true", None),
        ];
        let e = run_all("createRuntime", &hooks, &state())
            .unwrap_err()
            .to_string();
        assert!(
            e.starts_with("error running createRuntime hook #1: "),
            "{e}"
        );
    }

    #[test]
    fn a_hook_past_its_time_dies_with_its_children() {
        let mark = format!("86{}", std::process::id());
        let script = format!("/bin/sleep {mark} & /bin/sleep {mark}");
        let before = Instant::now();
        let e = run(&shell(&script, Some(1)), &state())
            .unwrap_err()
            .to_string();
        assert_eq!(e, "hook ran past specified timeout of 1.0s");
        assert!(before.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(50));
        let ours = std::fs::read_dir("/proc").unwrap().flatten().any(|p| {
            let line = std::fs::read(p.path().join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(&format!("sleep\0{mark}"))
        });
        assert!(!ours, "a child of the hook is left");
    }

    #[test]
    fn a_grandchild_that_keeps_the_pipe_does_not_hold_us_up() {
        let before = Instant::now();
        run(&shell("/bin/sleep 5 & exit 0", None), &state()).unwrap();
        assert!(before.elapsed() < Duration::from_secs(4));
    }

    #[test]
    fn more_output_than_a_pipe_holds() {
        let script = "i=0; while [ $i -lt 3000 ]; do echo 0123456789012345678901234567890123456789; i=$((i+1)); done; exit 1";
        let e = run(&shell(script, None), &state()).unwrap_err().to_string();
        assert!(
            e.len() > OUTPUT_LIMIT && e.len() < 2 * OUTPUT_LIMIT,
            "{}",
            e.len()
        );
    }
}
