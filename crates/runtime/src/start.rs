//! Starting the user's program of a created container.

use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};
use rustix::time::Timespec;
use spec::oci::Seccomp;
use sys::{Context as _, Errno};

use crate::container::START_SOCKET;
use crate::notify::Proxy;
use crate::verdict::Stages;
use crate::wire::{Channel, Message};
use crate::{Container, Doing as _, Error, ProcessId, Result, Status, Warn, hooks, seccomp_notify};

/// How long the listener of a filter may take to appear once it was announced.
const LISTENER_LIMIT: Duration = Duration::from_secs(10);
const LISTENER_TICK: Duration = Duration::from_micros(200);
/// How long a killed process may take to end; then something holds it in the kernel.
const KILLED_LIMIT: Duration = Duration::from_secs(10);
const SIGKILL: i32 = 9;

/// Starts it; returns once the program has been executed and the `poststart` hooks have run, and
/// where somebody waits for that at `notify_socket` (sd_notify(3)), once it is ready.
///
/// # Errors
/// The container is not in the state `created`, or what the container reports.
pub fn start(container: &Container, notify_socket: Option<&str>, warn: Warn<'_>) -> Result<()> {
    // Of two starts the second finds a running container.
    container.dir.lock()?;
    match container.status()? {
        Status::Created => {}
        Status::Stopped => {
            let text = "cannot start a container that has stopped";
            return Err(Error::WrongState(text.to_owned()));
        }
        Status::Running => return Err(already_running()),
        other => {
            let text = format!("cannot start a container in the {other} state");
            return Err(Error::WrongState(text));
        }
    }
    let init = container.init()?;
    let proxy = Proxy::of(notify_socket, container.dir.path());
    let listening = proxy.map(Proxy::bind).transpose()?;
    let channel = knock(container)?;
    let seccomp = || Ok(container.config()?.linux.and_then(|l| l.seccomp));
    match attend(container, init, &channel, seccomp, warn) {
        // The process had gone on already, for a start that was killed right after it had
        // knocked; with the program's execution nobody can hear us any more.
        Err(Error::Sys(e)) if e.errno == Errno::CONNRESET => return Err(already_running()),
        other => other?,
    }
    let Some(listening) = listening else {
        return Ok(());
    };
    // That may take as long as it likes; others go on.
    container.dir.unlock()?;
    listening.wait(init, init.pid)
}

fn already_running() -> Error {
    Error::WrongState("cannot start an already running container".to_owned())
}

/// Connects to the waiting process, which goes on then.
fn knock(container: &Container) -> Result<Channel> {
    let args = || {
        container
            .dir
            .path()
            .join(START_SOCKET)
            .display()
            .to_string()
    };
    let address =
        SocketAddrUnix::new(container.dir.short_path(START_SOCKET)).context("connect", args)?;
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .context("socket", || "AF_UNIX, SOCK_SEQPACKET")?;
    match connect(&socket, &address) {
        // A start that was killed right after it had knocked.
        Err(Errno::CONNREFUSED) => {
            container.dir.unlink(START_SOCKET)?;
            return Err(already_running());
        }
        other => other.context("connect", args)?,
    }
    container.dir.unlink(START_SOCKET)?;
    Ok(Channel::from_fd(socket))
}

/// Follows the process `init` until it executes the user's program, then runs the `poststart`
/// hooks. If one of them fails, the container is killed.
///
/// # Errors
/// What the process reports, or its end.
pub fn attend(
    container: &Container,
    init: ProcessId,
    channel: &Channel,
    seccomp: impl FnOnce() -> Result<Option<Seccomp>>,
    warn: Warn<'_>,
) -> Result<()> {
    let mut seccomp = Some(seccomp);
    let mut executing = false;
    let mut stages = Stages::begin("start");
    let result = loop {
        match channel.recv()? {
            Some((Message::Warning(text), _)) => warn(&text),
            Some((Message::Executing, _)) => executing = true,
            Some((Message::Listener { fd }, _)) => {
                let profile = seccomp.take().map_or(Ok(None), |get| get());
                let forwarded = profile.and_then(|p| {
                    let listener = listener(channel, init, fd)?;
                    forward(container, Status::Created, init, listener, p)
                });
                match forwarded {
                    Ok(()) => channel.send(&Message::Go)?,
                    Err(e) => break Err(e),
                }
            }
            Some((Message::Failed { kind, text }, _)) => {
                break Err(Error::Reported {
                    kind,
                    message: text,
                });
            }
            Some(_) => {}
            None if executing => break Ok(()),
            None => {
                let text = "the container's first process ended before it executed the program";
                break Err(Error::WrongState(text.to_owned()));
            }
        }
    };
    stages.end("program");
    let result = result.and_then(|()| {
        let state = container.oci_state(Status::Running);
        hooks::run_all("poststart", &container.record.poststart, &state)
    });
    stages.end("hooks");
    stages.keep(container);
    if let Err(e) = &result {
        crate::verdict::note(container, "failed", &e.to_string());
        // The specification wants it stopped, and whoever asks next shall see that it is. That it
        // has ended by itself is as good.
        let _ = init.signal(SIGKILL);
        let _ = init.await_end(KILLED_LIMIT);
    }
    result
}

/// Hands a listener to its agent, with the state of its container.
pub(crate) fn forward(
    container: &Container,
    status: Status,
    process: ProcessId,
    listener: OwnedFd,
    profile: Option<Seccomp>,
) -> Result<()> {
    let profile = profile.ok_or_else(|| {
        Error::Invalid("the container announces a seccomp listener without a profile".to_owned())
    })?;
    let state = container.oci_state(status);
    seccomp_notify::forward(&profile, process.pid, &state, listener)
}

/// The listener of the filter that `process`, at the other end of the channel, is about to
/// install: taken, or sent by it where we may not take it (pidfd_getfd(2) needs the right to
/// trace, which a user lacks over a process in a namespace) or the kernel cannot.
pub(crate) fn listener(channel: &Channel, process: ProcessId, fd: i32) -> Result<OwnedFd> {
    match fetch(process, fd) {
        Err(Error::Sys(e)) if matches!(e.errno, Errno::PERM | Errno::ACCESS | Errno::NOSYS) => {
            receive(channel)
        }
        other => other.doing(|| "take the seccomp listener"),
    }
}

fn receive(channel: &Channel) -> Result<OwnedFd> {
    channel.send(&Message::Give)?;
    let limit = Timespec {
        tv_sec: LISTENER_LIMIT.as_secs().cast_signed(),
        tv_nsec: 0,
    };
    if !channel.has_news(&limit)? {
        let args = "the seccomp listener: the filter has to allow sendmsg(2)";
        return Err(sys::Error::new("recvmsg", args, Errno::TIMEDOUT).into());
    }
    let (message, fds) = channel.recv()?.ok_or(Error::NotRunning)?;
    match (message, fds.into_iter().next()) {
        (Message::Given, Some(listener)) => Ok(listener),
        (Message::Failed { kind, text }, _) => Err(Error::Reported {
            kind,
            message: text,
        }),
        _ => Err(sys::Error::new("recvmsg", "the seccomp listener", Errno::BADMSG).into()),
    }
}

/// The filter may forbid its process to say anything, so nobody says when it is installed: the
/// descriptor is looked for until it is there.
fn fetch(process: ProcessId, fd: i32) -> Result<OwnedFd> {
    let pidfd = process.pidfd()?.ok_or(Error::NotRunning)?;
    let name = format!("/proc/{}/fd/{fd}", process.pid);
    let deadline = Instant::now() + LISTENER_LIMIT;
    loop {
        match std::fs::read_link(&name) {
            Ok(target) if target.as_os_str() == "anon_inode:seccomp notify" => {
                let args = || format!("{}, {fd}", process.pid);
                let taken = pidfd_getfd(&pidfd, fd, PidfdGetfdFlags::empty());
                return Ok(taken.context("pidfd_getfd", args)?);
            }
            Err(e) if e.kind() == ErrorKind::PermissionDenied => {
                return Err(sys::Error::new("readlink", name, Errno::ACCESS).into());
            }
            // Not there yet.
            _ => {}
        }
        if !process.is_alive()? {
            return Err(Error::NotRunning);
        }
        if Instant::now() > deadline {
            return Err(sys::Error::new("pidfd_getfd", name, Errno::TIMEDOUT).into());
        }
        std::thread::sleep(LISTENER_TICK);
    }
}
