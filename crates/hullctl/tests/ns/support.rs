//! Running programs, and processes that stand still to be looked at.

use std::process::{Child, Command, Output, Stdio};

/// The program under test, with `ns`.
pub fn ns(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hullctl"));
    command.arg("ns").args(words);
    command
}

/// Runs to the end.
pub fn run(mut command: Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap()
}

/// Standard output of a run that succeeded.
pub fn shown(command: Command) -> String {
    let words = format!("{command:?}");
    let out = run(command);
    assert!(out.status.success(), "{words}: {out:?}");
    String::from_utf8(out.stdout).unwrap()
}

/// Standard error of a run that failed.
pub fn refused(command: Command) -> String {
    let words = format!("{command:?}");
    let out = run(command);
    assert!(!out.status.success(), "{words} succeeded: {out:?}");
    String::from_utf8(out.stderr).unwrap()
}

/// A script for the shell with `$H` for `hullctl ns`.
pub fn script(text: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-ec", text]);
    command.env("H", format!("{} ns", env!("CARGO_BIN_EXE_hullctl")));
    command
}

/// A process in namespaces of its own that waits to be looked at; killed when dropped.
pub struct Standing {
    child: Child,
    /// The process inside.
    pub pid: i32,
}

impl Standing {
    /// Started by util-linux' unshare, so that nothing of ours is presumed.
    pub fn new(options: &[&str]) -> Self {
        let mut command = Command::new("unshare");
        command.args(options).args(["--kill-child", "sh", "-c"]);
        command.arg("echo ready; exec sleep 1000");
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        let out = child.stdout.take().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).unwrap();
        assert_eq!(line, "ready\n");
        let task = format!("/proc/{0}/task/{0}/children", child.id());
        let children = std::fs::read_to_string(task).unwrap();
        let pid = children.split_whitespace().next().unwrap().parse().unwrap();
        Self { child, pid }
    }

    /// The link of one of its namespaces.
    pub fn link(&self, kind: &str) -> String {
        link(self.pid, kind)
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        // The first of a pid namespace takes all others along, which unshare by itself does not.
        if let Some(pid) = rustix::process::Pid::from_raw(self.pid) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `net:[4026531840]` of a process.
pub fn link(pid: i32, kind: &str) -> String {
    let link = std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
    link.to_string_lossy().into_owned()
}

/// The number in it.
pub fn inode(link: &str) -> &str {
    link.split(['[', ']']).nth(1).unwrap()
}
