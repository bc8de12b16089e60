//! One round: the whole life of a container, each step timed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, WaitOptions};
use serde_json::{Value, json};

use crate::child::{Command, Took};
use crate::config::Bundles;
use crate::peers::Peer;
use crate::stage::Meter;
use crate::stats::Samples;

/// The steps, in the order of the table.
pub const STEPS: [&str; 5] = ["run", "create", "start", "exec", "delete"];

/// Between two steps: the kernel clears away namespaces and control groups after their last
/// process has gone, and holds locks meanwhile that the next step needs.
const SETTLE: Duration = Duration::from_millis(20);

/// What was measured of one program.
#[derive(Debug, Default)]
pub struct Measured {
    wall: BTreeMap<&'static str, Samples>,
    cpu: BTreeMap<&'static str, Samples>,
    rss: Samples,
    failures: Vec<String>,
}

impl Measured {
    /// Runs `step` and books its times under `name`; an exit code other than 0 is an error.
    ///
    /// # Errors
    /// Those of the step.
    pub fn time(
        &mut self,
        name: &'static str,
        meter: &Meter,
        step: impl FnOnce() -> Result<Took>,
    ) -> Result<Took> {
        std::thread::sleep(SETTLE);
        let before = meter.read();
        let took = step().context(name)?;
        let after = meter.read();
        ensure!(
            took.ended.code == 0,
            "{name}: exit code {}",
            took.ended.code
        );
        let wall = self.wall.entry(name).or_default();
        wall.push(milliseconds(took.wall));
        if let (Some(before), Some(after)) = (before, after) {
            let cpu = self.cpu.entry(name).or_default();
            cpu.push(milliseconds(after.saturating_sub(before)));
        }
        Ok(took)
    }

    /// Books a round that failed.
    pub fn failed(&mut self, why: String) {
        self.failures.push(why);
    }

    /// All of it, for the report.
    pub fn to_json(&self) -> Value {
        let all = |samples: &BTreeMap<&'static str, Samples>| -> Value {
            let named = samples.iter().map(|(k, v)| ((*k).to_owned(), v.to_json()));
            Value::Object(named.collect())
        };
        json!({
            "wall_ms": all(&self.wall),
            "cpu_ms": all(&self.cpu),
            "create_peak_rss_kib": self.rss.to_json(),
            "failed_rounds": self.failures.len(),
            "first_failure": self.failures.first(),
        })
    }
}

/// What the rounds share.
#[derive(Debug)]
pub struct Round<'a> {
    /// The configurations.
    pub bundles: &'a Bundles,
    /// Processor time.
    pub meter: &'a Meter,
    /// Where commands complain.
    pub complaints: &'a File,
    /// For pid files.
    pub work: &'a Path,
}

impl Round<'_> {
    /// One life of a container on `peer`; whatever a failure leaves is removed.
    pub fn of(&self, peer: &Peer, measured: &mut Measured) {
        if let Err(e) = self.live(peer, measured) {
            measured.failed(format!("{e:#}: {}", self.last_complaint()));
            for id in [run_id(peer), live_id(peer)] {
                // The failure is already booked; this one may have nothing to delete.
                let _ = self.quietly(peer, &["delete", "--force", &id]);
            }
        }
        reap();
    }

    fn live(&self, peer: &Peer, measured: &mut Measured) -> Result<()> {
        let id = run_id(peer);
        let bundle = self.bundles.write(&id, &["/bin/true"], None)?;
        let run = peer.command(&["run", "--bundle", &bundle, &id])?;
        measured.time("run", self.meter, || run.run(self.complaints))?;
        reap();

        let id = live_id(peer);
        let bundle = self.bundles.write(&id, &["/bin/sleep", "600"], None)?;
        let pid_file = self.work.join("pid");
        let pid_path = pid_file.display().to_string();
        let words = ["create", "--bundle", &bundle, "--pid-file", &pid_path, &id];
        let create = peer.command(&words)?;
        let took = measured.time("create", self.meter, || create.run(self.complaints))?;
        let pid: i32 = fs::read_to_string(&pid_file)?.trim().parse()?;
        let pid = Pid::from_raw(pid).context("pid file")?;
        let init = peak_rss(pid).unwrap_or(0);
        #[allow(clippy::cast_precision_loss)] // some thousand KiB
        measured.rss.push(took.ended.max_rss_kib.max(init) as f64);

        let start = peer.command(&["start", &id])?;
        measured.time("start", self.meter, || start.run(self.complaints))?;
        let exec = peer.command(&["exec", &id, "/bin/true"])?;
        measured.time("exec", self.meter, || exec.run(self.complaints))?;
        let kill: Command = peer.command(&["kill", &id, "KILL"])?;
        ensure!(kill.run(self.complaints)?.ended.code == 0, "kill failed");
        wait_for_end(pid)?;
        let delete = peer.command(&["delete", &id])?;
        measured.time("delete", self.meter, || delete.run(self.complaints))?;
        Ok(())
    }

    /// The last line that a command wrote to its standard error.
    fn last_complaint(&self) -> String {
        let text = fs::read(self.work.join("complaints")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        text.lines().last().unwrap_or_default().to_owned()
    }

    fn quietly(&self, peer: &Peer, words: &[&str]) -> Result<Took> {
        peer.command(words)?.run(self.complaints)
    }
}

fn run_id(peer: &Peer) -> String {
    format!("{}-run", peer.name)
}

fn live_id(peer: &Peer) -> String {
    format!("{}-live", peer.name)
}

/// Milliseconds with their fraction.
pub fn milliseconds(d: Duration) -> f64 {
    d.as_secs_f64() * 1000.0
}

/// The largest resident set that a living process has had, in KiB.
fn peak_rss(pid: Pid) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Waits until a container's process, which is not our child by birth, has gone.
fn wait_for_end(pid: Pid) -> Result<()> {
    if let Ok(pidfd) = sys::pidfd::open(pid) {
        let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
        let limit = Timespec {
            tv_sec: 10,
            tv_nsec: 0,
        };
        if poll(&mut fds, Some(&limit))? == 0 {
            bail!("the container did not end on SIGKILL");
        }
    }
    reap();
    Ok(())
}

/// Takes the orphans that have come to us, as their nearest subreaper, and have ended.
pub fn reap() {
    while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
}
