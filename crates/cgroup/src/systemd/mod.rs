//! The systemd driver: a container's control group is a transient scope.
//!
//! systemd makes and removes the scope, and is told the limits that it keeps itself. On version
//! 2 all else happens in a group of our own below the delegated scope, through its files: no
//! call of systemd is needed for an exec, statistics, a kill, or a limit that systemd does not
//! know, and a reload of systemd rewrites nothing there (device rules first of all).
//!
//! `cgroupsPath` has the form `slice:prefix:name`; the unit is `prefix-name.scope`.

mod connection;
mod gvariant;
mod message;
mod name;
pub(crate) mod properties;
#[cfg(test)]
mod tests;
mod value;
mod wire;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::Pid;
use serde::{Deserialize, Serialize};
use spec::oci::Resources;
use sys::trace;

use crate::error::{Error, Result};
use connection::{Address, Connection};
pub(crate) use name::UnitName;
pub(crate) use value::Value;

/// How long systemd may take for one operation with its job.
const PATIENCE: Duration = Duration::from_secs(30);

/// The group below the scope that has the container's processes and limits on version 2.
pub(crate) const SUBGROUP: &str = "container";

const UNIT_EXISTS: &str = "org.freedesktop.systemd1.UnitExists";
const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";

/// A container's scope.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Scope {
    /// Name of the unit.
    pub(crate) unit: String,
    /// Of a user's manager instead of the system's.
    pub(crate) user: bool,
}

impl Scope {
    fn connect(&self) -> Result<Connection> {
        Connection::open(&addresses(self.user, std::env::var_os), PATIENCE)
    }

    /// Carries out an operation on a connection of its own. systemd that restarts itself
    /// (`systemctl daemon-reexec`) hangs up on everybody: then again, from the start.
    fn carry_out(&self, operation: impl Fn(&mut Connection) -> Result<()>) -> Result<()> {
        persist(|| operation(&mut self.connect()?))
    }

    /// Starts the scope with a process in it.
    pub(crate) fn start(&self, pid: Pid, properties: &[Value]) -> Result<()> {
        trace::step(
            "StartTransientUnit",
            || self.unit.clone(),
            || {
                self.carry_out(|c| match self.start_on(c, properties.to_vec()) {
                    // It was done before the connection was lost.
                    Err(Error::Bus { .. }) if self.holds(pid) => Ok(()),
                    other => other,
                })
            },
        )
    }

    /// Whether a process is in the scope.
    fn holds(&self, pid: Pid) -> bool {
        let path = format!("/proc/{}/cgroup", pid.as_raw_nonzero());
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let mut parts = text.lines().flat_map(|l| l.split('/'));
        parts.any(|part| part == self.unit)
    }

    fn start_on(&self, c: &mut Connection, properties: Vec<Value>) -> Result<()> {
        let operation = format!("start of {}", self.unit);
        subscribe(c)?;
        let body = vec![
            self.unit.as_str().into(),
            "replace".into(),
            value::properties(properties),
            Value::Array("(sa(sv))".into(), Vec::new()),
        ];
        let serial = c.call("StartTransientUnit", body.clone())?;
        let job = match c.reply(serial) {
            // What is left of a scope that failed keeps its name until it is told to go.
            Err(e) if e.is(UNIT_EXISTS) => {
                self.reset_failed(c)?;
                let serial = c.call("StartTransientUnit", body)?;
                c.reply(serial)
            }
            other => other,
        };
        let job = job.map_err(|e| e.into_error(&operation))?;
        let result = wait_job(c, &operation, job.text(0))?;
        if result == "done" {
            return Ok(());
        }
        self.reset_failed(c)?;
        Err(Error::Bus {
            operation,
            reason: format!("systemd's job ended with {result:?}"),
        })
    }

    /// Changes limits that systemd keeps, until the next boot.
    pub(crate) fn set(&self, resources: &Resources, is_v2: bool) -> Result<()> {
        let limits = properties::limits(resources, is_v2)?;
        if limits.is_empty() {
            return Ok(());
        }
        trace::step(
            "SetUnitProperties",
            || self.unit.clone(),
            || self.carry_out(|c| self.set_on(c, &limits)),
        )
    }

    fn set_on(&self, c: &mut Connection, limits: &[(&str, Value)]) -> Result<()> {
        let properties = limits
            .iter()
            .map(|(n, v)| value::property(n, v.clone()))
            .collect();
        let body = vec![
            self.unit.as_str().into(),
            Value::Bool(true),
            value::properties(properties),
        ];
        let serial = c.call("SetUnitProperties", body)?;
        let answer = c.reply(serial);
        answer.map_err(|e| e.into_error(&format!("properties of {}", self.unit)))?;
        Ok(())
    }

    /// Moves a process into a group below the scope (systemd 238).
    pub(crate) fn attach(&self, below: &str, pid: Pid) -> Result<()> {
        trace::step(
            "AttachProcessesToUnit",
            || format!("{}{below}", self.unit),
            || self.carry_out(|c| self.attach_on(c, below, pid)),
        )
    }

    fn attach_on(&self, c: &mut Connection, below: &str, pid: Pid) -> Result<()> {
        let pids = vec![Value::U32(bus_pid(pid))];
        let body = vec![
            self.unit.as_str().into(),
            below.into(),
            Value::Array("u".into(), pids),
        ];
        let serial = c.call("AttachProcessesToUnit", body)?;
        let answer = c.reply(serial);
        answer.map_err(|e| e.into_error(&format!("attach a process to {}", self.unit)))?;
        Ok(())
    }

    /// Stops the scope, which kills what is in it; no error when it is gone.
    pub(crate) fn stop(&self) -> Result<()> {
        trace::step(
            "StopUnit",
            || self.unit.clone(),
            || self.carry_out(|c| self.stop_on(c)),
        )
    }

    fn stop_on(&self, c: &mut Connection) -> Result<()> {
        let operation = format!("stop of {}", self.unit);
        subscribe(c)?;
        let serial = c.call(
            "StopUnit",
            vec![self.unit.as_str().into(), "replace".into()],
        )?;
        match c.reply(serial) {
            Ok(job) => {
                // Whatever it ended with: the directory is looked at afterwards.
                wait_job(c, &operation, job.text(0))?;
            }
            Err(e) if e.is(NO_SUCH_UNIT) => return Ok(()),
            Err(e) => return Err(e.into_error(&operation)),
        }
        self.reset_failed(c)
    }

    /// Lets systemd forget a scope that failed; one that has not failed is forgotten anyway, and
    /// then there is nothing to reset.
    fn reset_failed(&self, c: &mut Connection) -> Result<()> {
        let serial = c.call("ResetFailedUnit", vec![self.unit.as_str().into()])?;
        match c.reply(serial) {
            Ok(_) | Err(connection::CallError::Refused { .. }) => Ok(()),
            Err(e @ connection::CallError::Broken(_)) => Err(e.into_error("reset of the unit")),
        }
    }
}

/// Tries again, for a while, where systemd has hung up.
fn persist(mut attempt: impl FnMut() -> Result<()>) -> Result<()> {
    const PAUSE: Duration = Duration::from_millis(100);
    let end = Instant::now() + PATIENCE;
    loop {
        match attempt() {
            Err(Error::Lost { .. }) if Instant::now() < end => std::thread::sleep(PAUSE),
            other => return other,
        }
    }
}

/// Asks for signals about jobs. On systemd's own socket they come unasked.
fn subscribe(c: &mut Connection) -> Result<()> {
    c.restart_clock();
    if !c.is_bus {
        return Ok(());
    }
    let mut rule = message::Message::new(message::Kind::Call);
    rule.path = "/org/freedesktop/DBus".into();
    rule.interface = "org.freedesktop.DBus".into();
    rule.member = "AddMatch".into();
    rule.body = vec![
        "type='signal',sender='org.freedesktop.systemd1',\
         interface='org.freedesktop.systemd1.Manager',member='JobRemoved',\
         path='/org/freedesktop/systemd1'"
            .into(),
    ];
    let rule = c.send_to(rule, "org.freedesktop.DBus")?;
    let subscription = c.call("Subscribe", Vec::new())?;
    c.reply(rule).map_err(|e| e.into_error("AddMatch"))?;
    c.reply(subscription)
        .map_err(|e| e.into_error("Subscribe"))?;
    Ok(())
}

/// Waits until a job is done, and returns its result. The signal can come before the answer
/// that names the job.
fn wait_job(c: &mut Connection, operation: &str, job: &str) -> Result<String> {
    let is_ours = |m: &message::Message| {
        m.member == "JobRemoved"
            && m.interface == "org.freedesktop.systemd1.Manager"
            && m.text(1) == job
    };
    Ok(c.signal(operation, is_ours)?.text(3).to_owned())
}

/// Where systemd may be reached, best first.
fn addresses(user: bool, var: impl Fn(&'static str) -> Option<std::ffi::OsString>) -> Vec<Address> {
    let mut all = Vec::new();
    if user {
        let runtime = var("XDG_RUNTIME_DIR").map(PathBuf::from);
        if let Some(dir) = &runtime {
            all.push(Address::Direct(dir.join("systemd/private")));
        }
        all.extend(bus_paths(var("DBUS_SESSION_BUS_ADDRESS")));
        all.extend(runtime.map(|dir| Address::Bus(dir.join("bus"))));
    } else {
        all.push(Address::Direct("/run/systemd/private".into()));
        all.extend(bus_paths(var("DBUS_SYSTEM_BUS_ADDRESS")));
        all.push(Address::Bus("/run/dbus/system_bus_socket".into()));
    }
    all
}

/// The sockets in a list of bus addresses (D-Bus specification, "Server Addresses"): of
/// `unix:path=…`, with its percent escapes.
fn bus_paths(list: Option<std::ffi::OsString>) -> Vec<Address> {
    let list = list.unwrap_or_default();
    let list = list.to_string_lossy();
    let entries = list.split(';').filter_map(|entry| {
        let options = entry.strip_prefix("unix:")?.split(',');
        let path = options.filter_map(|o| o.strip_prefix("path=")).next()?;
        Some(Address::Bus(unescape(path).into()))
    });
    entries.collect()
}

fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut left = text;
    while let Some((before, after)) = left.split_once('%') {
        bytes.extend(before.as_bytes());
        let code = after
            .get(..2)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(code.unwrap_or(b'%'));
        left = if code.is_some() { &after[2..] } else { after };
    }
    bytes.extend(left.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The process id as the bus wants it.
pub(crate) fn bus_pid(pid: Pid) -> u32 {
    pid.as_raw_nonzero().get().cast_unsigned()
}
