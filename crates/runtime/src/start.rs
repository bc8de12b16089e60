//! Starting the user's program of a created container.

use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};
use rustix::time::Timespec;
use spec::oci::Seccomp;
use sys::{Context as _, Errno};

use crate::container::START_SOCKET;
use crate::notify::Proxy;
use crate::verdict::Stages;
use crate::wire::{AT_ONCE, Channel, Message};
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
    check_created(container)?;
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

fn check_created(container: &Container) -> Result<()> {
    match container.status()? {
        Status::Created => Ok(()),
        Status::Stopped => {
            let text = "cannot start a container that has stopped";
            Err(Error::WrongState(text.to_owned()))
        }
        Status::Running => Err(already_running()),
        other => {
            let text = format!("cannot start a container in the {other} state");
            Err(Error::WrongState(text))
        }
    }
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
    let mut following = Following::begin();
    if container.record.starts_alone {
        channel.await_end()?;
    }
    let result = loop {
        let message = channel.recv()?.map(|(message, _)| message);
        match following.hear(message, warn) {
            Ok(News::Nothing) => {}
            Ok(News::Listener(fd)) => {
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
            Ok(News::Executed) => break Ok(()),
            Err(e) => break Err(e),
        }
    };
    let mut stages = following.stages;
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

/// How far a start has come.
#[derive(Debug)]
struct Following {
    executing: bool,
    stages: Stages,
}

/// What the started process has said.
enum News {
    /// Nothing that anybody has to act on.
    Nothing,
    /// It waits for somebody to take this descriptor.
    Listener(i32),
    /// Nothing more: it executes the user's program.
    Executed,
}

impl Following {
    fn begin() -> Self {
        Self {
            executing: false,
            stages: Stages::begin("start"),
        }
    }

    /// Takes its next message, or the end of its channel.
    fn hear(&mut self, message: Option<Message>, warn: Warn<'_>) -> Result<News> {
        match message {
            Some(Message::Warning(text)) => warn(&text),
            Some(Message::Executing) => self.executing = true,
            Some(Message::Listener { fd }) => return Ok(News::Listener(fd)),
            Some(Message::Failed { kind, text }) => {
                return Err(Error::Reported {
                    kind,
                    message: text,
                });
            }
            Some(_) => {}
            None if self.executing => return Ok(News::Executed),
            None => {
                let text = "the container's first process ended before it executed the program";
                return Err(Error::WrongState(text.to_owned()));
            }
        }
        Ok(News::Nothing)
    }
}

/// A start whose caller does something else meanwhile.
#[derive(Debug)]
pub struct Pending {
    container: Container,
    init: ProcessId,
    channel: Channel,
    following: Following,
}

impl Pending {
    /// Begins to start a container. `None`, and nothing begun, where its caller might have to
    /// wait: for a hook, for an agent, or for somebody who has the container locked.
    ///
    /// # Errors
    /// Those of [`start`] before the process goes on.
    pub fn begin(container: Container) -> Result<Option<Self>> {
        if !container.record.starts_alone || !container.dir.try_lock()? {
            return Ok(None);
        }
        check_created(&container)?;
        let init = container.init()?;
        let following = Following::begin();
        let channel = knock(&container)?;
        Ok(Some(Self {
            container,
            init,
            channel,
            following,
        }))
    }

    /// Goes on with what has come, to be called when the descriptor is readable; whether the
    /// program has been executed.
    ///
    /// # Errors
    /// What the process reports, or its end. It is killed then.
    pub fn go_on(&mut self, warn: Warn<'_>) -> Result<bool> {
        let result = self.listen(warn);
        if let Err(e) = &result {
            crate::verdict::note(&self.container, "failed", &e.to_string());
            // That it has ended by itself is as good.
            let _ = self.init.signal(SIGKILL);
        }
        result
    }

    fn listen(&mut self, warn: Warn<'_>) -> Result<bool> {
        while self.channel.has_news(&AT_ONCE)? {
            let message = match self.channel.recv() {
                // As in [`start`].
                Err(Error::Sys(e)) if e.errno == Errno::CONNRESET => return Err(already_running()),
                other => other?.map(|(message, _)| message),
            };
            match self.following.hear(message, warn)? {
                News::Nothing => {}
                News::Executed => return Ok(true),
                News::Listener(_) => {
                    let text = "the container announces a seccomp listener without a profile";
                    return Err(Error::Invalid(text.to_owned()));
                }
            }
        }
        Ok(false)
    }

    /// Writes down how long it took, once the program has been executed.
    pub fn keep_stages(mut self) {
        self.following.stages.end("program");
        self.following.stages.keep(&self.container);
    }
}

impl AsFd for Pending {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
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
