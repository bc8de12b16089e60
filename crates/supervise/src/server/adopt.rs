//! Going on with what a killed supervisor has left.

use std::os::fd::OwnedFd;

use super::container::Container;
use super::log::Log;
use super::output::Output;
use super::{Supervisor, jobs};
use crate::protocol::{Adopt, Ended, Kind, Part, Phase, Status};
use crate::{Error, Result};

impl Supervisor {
    /// Takes over a container by its descriptors and what was written down about it.
    pub(super) fn adopt(&mut self, wish: &Adopt, fds: Vec<OwnedFd>) -> Result<()> {
        let id = runtime::ContainerId::new(&wish.id)?;
        if self.by_id(id.as_str()).is_ok() {
            let text = format!("container {id} is here already");
            return Err(Error::of_kind(Kind::Exists, text));
        }
        let mut container = Container {
            adopted: true,
            status: self.read_status(id.as_str())?,
            ..Container::default()
        };
        let mut parts = wish.parts.iter().zip(fds);
        for (part, fd) in &mut parts {
            match part {
                Part::Pidfd => container.pidfd = Some((fd, None)),
                Part::Stdin => container.stdin = Some(fd),
                Part::Stdout => container.outputs[0] = Some(Output::new(fd, false)),
                Part::Stderr => container.outputs[1] = Some(Output::new(fd, false)),
                Part::Terminal => container.outputs[0] = Some(Output::new(fd, true)),
            }
        }
        if container.status.phase == Phase::Exited {
            container.pidfd = None;
        } else if container.pidfd.is_none() {
            match jobs::pidfd(&self.options.root, &container.status.create) {
                Ok(Some(pidfd)) => container.pidfd = Some((pidfd, None)),
                Ok(None) | Err(_) => {
                    let ended = unknown("nobody has kept a descriptor of its process");
                    container.ended = Some((ended, std::time::Instant::now()));
                }
            }
        }
        if let Some(options) = container.status.create.log.clone() {
            container.log = Some(Log::open(options, true)?);
        }
        let key = self.next_key();
        self.containers.insert(key, container);
        self.watch(key);
        self.watch_memory(key);
        if self.was_started(key) {
            self.set_running(key);
            self.save(key);
        }
        self.settle(key);
        Ok(())
    }

    /// Whether a container runs of which nobody could write that down.
    fn was_started(&self, key: u64) -> bool {
        let created = |c: &&Container| c.status.phase == Phase::Created && c.ended.is_none();
        let container = self.containers.get(&key).filter(created);
        let running = container.map(|c| jobs::is_running(&self.options.root, &c.status.create));
        // What cannot be read is as it was written down.
        running.is_some_and(|running| running.unwrap_or(false))
    }

    fn read_status(&self, id: &str) -> Result<Status> {
        let path = self.status_path(id);
        let bytes = std::fs::read(&path).map_err(|e| {
            let text = format!("read {}: {e}", path.display());
            Error::of_kind(Kind::NotFound, text)
        })?;
        serde_json::from_slice(&bytes).map_err(|source| Error::Json {
            what: path.display().to_string(),
            source,
        })
    }
}

/// How a process ended whose parent is another; `None` while its parent has not waited for it.
pub(super) fn end_of(pidfd: &OwnedFd, pid: i32) -> Option<Ended> {
    match sys::pidfd::exit_status(pidfd) {
        Ok(Some(status)) => Some(decode(status)),
        Ok(None) => match zombie_status(pid) {
            Zombie::Ended(status) => Some(decode(status)),
            Zombie::Runs => None,
            Zombie::Gone => match sys::pidfd::exit_status(pidfd) {
                Ok(Some(status)) => Some(decode(status)),
                _ => Some(unknown(
                    "its parent has waited for it, and the kernel keeps no exit code",
                )),
            },
        },
        Err(e) => match zombie_status(pid) {
            Zombie::Ended(status) => Some(decode(status)),
            Zombie::Runs => None,
            Zombie::Gone => Some(unknown(&format!(
                "it ended while its supervisor was gone, and the kernel cannot tell (Linux 6.15 can): {e}"
            ))),
        },
    }
}

/// What /proc knows of a process.
enum Zombie {
    Runs,
    /// Nobody has waited for it yet: its wait status.
    Ended(i32),
    Gone,
}

/// Fields 3 and 52 of proc_pid_stat(5). The caller has seen the process end, so that a living one
/// of that pid is another.
fn zombie_status(pid: i32) -> Zombie {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return Zombie::Gone;
    };
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let mut fields = fields.split_ascii_whitespace();
    match fields.next() {
        Some("Z") => fields
            .nth(48)
            .and_then(|status| status.parse().ok())
            .map_or(Zombie::Gone, Zombie::Ended),
        Some("X") | None => Zombie::Gone,
        Some(_) => Zombie::Runs,
    }
}

fn decode(status: i32) -> Ended {
    let signal = status & 0x7f;
    if signal == 0 {
        Ended {
            code: Some((status >> 8) & 0xff),
            ..Ended::default()
        }
    } else {
        Ended {
            code: Some(128 + signal),
            signal: Some(signal),
            note: None,
        }
    }
}

fn unknown(why: &str) -> Ended {
    Ended {
        note: Some(format!("its exit code is not known: {why}")),
        ..Ended::default()
    }
}
