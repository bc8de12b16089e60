//! A network in user space, which needs no privileges: a program carries packets between the
//! container's namespace and sockets of its own.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::AsRawFd as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::pipe::{PipeFlags, pipe_with};

/// Which program.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Program {
    /// pasta(1).
    Pasta,
    /// slirp4netns(1).
    Slirp4netns,
}

/// The program that carries packets, while the container runs; ended when dropped.
#[derive(Debug)]
pub struct Carrier(Child);

impl Program {
    /// Connects the network namespace of process `pid`.
    pub fn connect(self, pid: i32) -> Result<Carrier> {
        match self {
            Self::Pasta => pasta(pid),
            Self::Slirp4netns => slirp(pid),
        }
    }
}

/// The container cannot reach what listens on the machine's loopback addresses.
fn slirp(pid: i32) -> Result<Carrier> {
    let (ready, theirs) = pipe_with(PipeFlags::CLOEXEC).context("pipe")?;
    fcntl_setfd(&theirs, FdFlags::empty()).context("fcntl(F_SETFD)")?;
    let mut command = Command::new("slirp4netns");
    command.args(["--configure", "--mtu=65520", "--disable-host-loopback"]);
    command.arg(format!("--ready-fd={}", theirs.as_raw_fd()));
    command.args([pid.to_string().as_str(), "tap0"]);
    let carrier = start(command, "slirp4netns")?;
    drop(theirs);
    let mut byte = [0];
    match File::from(ready).read_exact(&mut byte) {
        Ok(()) => Ok(carrier),
        Err(_) => bail!("slirp4netns: {}", carrier.obituary()),
    }
}

/// pasta says nothing when it is ready; the interface in the namespace does.
fn pasta(pid: i32) -> Result<Carrier> {
    let mut command = Command::new("pasta");
    command.args(["--foreground", "--quiet", "--config-net", "--netns-only"]);
    // No port of the machine's is forwarded, and none of the container's is.
    command.args([
        "-t",
        "none",
        "-u",
        "none",
        "-T",
        "none",
        "-U",
        "none",
        "--no-map-gw",
    ]);
    // Root's pasta becomes nobody, who may not enter root's namespace.
    if rustix::process::geteuid().is_root() {
        command.args(["--runas", "0"]);
    }
    // Opened for it: it gives up the right to look at what hides from others in /proc, as a
    // container that is not started yet does.
    let path = format!("/proc/{pid}/ns/net");
    let namespace = File::open(&path).with_context(|| format!("open({path})"))?;
    fcntl_setfd(&namespace, FdFlags::empty()).context("fcntl(F_SETFD)")?;
    command.arg(format!("--netns=/proc/self/fd/{}", namespace.as_raw_fd()));
    let mut carrier = start(command, "pasta")?;
    let devices = format!("/proc/{pid}/net/route");
    for _ in 0..500 {
        if carrier.0.try_wait().context("wait4(pasta)")?.is_some() {
            bail!("pasta: {}", carrier.obituary());
        }
        let text = std::fs::read_to_string(&devices);
        let routes = text.with_context(|| format!("open({devices})"))?;
        // A line of headings comes first.
        if routes.lines().count() > 1 {
            return Ok(carrier);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    bail!("pasta: no route in the container after 5 s")
}

fn start(mut command: Command, name: &str) -> Result<Carrier> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let child = command.spawn();
    child.map(Carrier).with_context(|| {
        format!(
            "execve({name}): install it, or choose another --network (Debian: passt, slirp4netns)"
        )
    })
}

impl Carrier {
    /// What one that has ended had to say.
    fn obituary(mut self) -> String {
        // It may be about to end.
        let _ = self.0.kill();
        let mut said = String::new();
        if let Some(stderr) = &mut self.0.stderr {
            // What cannot be read was not said.
            let _ = stderr.read_to_string(&mut said);
        }
        said.trim().replace('\n', "; ")
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        // It ends with the namespace anyway.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
