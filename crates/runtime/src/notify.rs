//! The readiness protocol of systemd (sd_notify(3)) for a container's program.
//!
//! The manager that started the runtime gave it `NOTIFY_SOCKET`. The container cannot reach that
//! socket, and must not be able to say more than that it is ready. So it gets one of ours, bound
//! in the container's state directory and mounted at [`INSIDE`]; `READY=1` is passed on, with
//! the container's process as `MAINPID`.

use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::Mode;
use rustix::io::Errno;
use spec::oci::Mount;
use sys::Context as _;

use crate::{Error, ProcessId, Result};

/// Where the container finds the directory of its socket.
const INSIDE: &str = "/run/notify";
/// Name of the directory in the container's state directory, and of the socket in it.
const DIRECTORY: &str = "notify";
const SOCKET: &str = "notify.sock";
/// Longest message: systemd itself reads no more (NOTIFY_BUFFER_MAX is a page).
const MESSAGE: usize = 4096;
/// How often to look whether the process still lives where it cannot be waited for.
const TICK: Duration = Duration::from_millis(100);

/// The container's half of the protocol, by the path of the container's state directory.
#[derive(Debug)]
pub struct Proxy {
    /// The manager's address: a path, or `@name` for an abstract one.
    manager: String,
    directory: PathBuf,
}

impl Proxy {
    /// `None` where nobody wants to be notified.
    #[must_use]
    pub fn new(notify_socket: Option<&str>, state_dir: &Path) -> Option<Self> {
        let manager = notify_socket.filter(|path| !path.is_empty())?.to_owned();
        Some(Self {
            manager,
            directory: state_dir.join(DIRECTORY),
        })
    }

    /// The proxy of a container that was created with one.
    #[must_use]
    pub fn of(notify_socket: Option<&str>, state_dir: &Path) -> Option<Self> {
        Self::new(notify_socket, state_dir).filter(|proxy| proxy.directory.is_dir())
    }

    /// Makes the directory that is mounted into the container.
    ///
    /// # Errors
    /// mkdir(2)'s.
    pub fn make_directory(&self) -> Result<()> {
        let args = || self.directory.display().to_string();
        match rustix::fs::mkdir(&self.directory, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(sys::Error::new("mkdir", args(), e).into()),
        }
        // The container's user may be anyone: not what the umask left.
        rustix::fs::chmod(&self.directory, Mode::from_raw_mode(0o755)).context("chmod", args)?;
        Ok(())
    }

    /// Removes what [`Self::make_directory`] and [`Self::bind`] made.
    ///
    /// # Errors
    /// unlink(2)'s, rmdir(2)'s.
    pub fn remove(state_dir: &Path) -> Result<()> {
        let directory = state_dir.join(DIRECTORY);
        match std::fs::remove_dir_all(&directory) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Ok(Err(e).context("rmdir", || directory.display().to_string())?)
            }
            _ => Ok(()),
        }
    }

    /// The mount to add to the configuration.
    #[must_use]
    pub fn mount(&self) -> Mount {
        Mount {
            destination: INSIDE.to_owned(),
            source: self.directory.to_string_lossy().into_owned(),
            kind: "bind".to_owned(),
            options: ["bind", "nosuid", "noexec", "nodev", "ro"]
                .map(str::to_owned)
                .to_vec(),
            ..Mount::default()
        }
    }

    /// The variable to add to the program's environment.
    #[must_use]
    pub fn variable() -> String {
        format!("NOTIFY_SOCKET={INSIDE}/{SOCKET}")
    }

    /// Opens the socket, before the program starts.
    ///
    /// # Errors
    /// bind(2)'s.
    pub fn bind(self) -> Result<Listening> {
        let path = self.directory.join(SOCKET);
        let args = || path.display().to_string();
        // One may be left by a start that failed.
        match rustix::fs::unlink(&path) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(e) => return Err(sys::Error::new("unlink", args(), e).into()),
        }
        let (_directory, address) = crate::console::unix_address(&path)?;
        let socket = datagram_socket()?;
        rustix::net::bind(&socket, &address).context("bind", args)?;
        rustix::fs::chmod(&path, Mode::from_raw_mode(0o777)).context("chmod", args)?;
        Ok(Listening {
            manager: self.manager,
            socket: UnixDatagram::from(socket),
        })
    }
}

/// A bound socket.
#[derive(Debug)]
pub struct Listening {
    manager: String,
    socket: UnixDatagram,
}

impl Listening {
    /// Waits until the program says that it is ready, or `process` ends; tells the manager that
    /// it is ready and that `main_pid` is the process to watch.
    ///
    /// # Errors
    /// The manager cannot be reached.
    pub fn wait(&self, process: ProcessId, main_pid: i32) -> Result<()> {
        let pidfd = match process.pidfd() {
            Ok(Some(pidfd)) => Some(pidfd),
            Ok(None) => return Ok(()),
            Err(_) => None,
        };
        loop {
            let readable = self.poll(pidfd.as_ref())?;
            if readable && let Some(ready) = self.read()? {
                return self.tell(&ready, main_pid);
            }
            if !readable && !process.is_alive()? {
                return Ok(());
            }
        }
    }

    /// The socket, for callers with a loop of their own.
    #[must_use]
    pub const fn socket(&self) -> &UnixDatagram {
        &self.socket
    }

    /// The next message's READY line, if it has one.
    ///
    /// # Errors
    /// recv(2)'s.
    pub fn read(&self) -> Result<Option<String>> {
        let mut buffer = [0; MESSAGE];
        let n = self.socket.recv(&mut buffer).context("recv", || SOCKET)?;
        Ok(ready_line(&buffer[..n]))
    }

    /// Passes readiness on.
    ///
    /// # Errors
    /// The manager cannot be reached.
    pub fn tell(&self, ready: &str, main_pid: i32) -> Result<()> {
        let socket = datagram_socket()?;
        let args = || self.manager.clone();
        let address = manager_address(&self.manager)?;
        rustix::net::connect(&socket, &address).context("connect", args)?;
        let socket = UnixDatagram::from(socket);
        let main = format!("MAINPID={main_pid}\n");
        socket
            .send(format!("{ready}\n").as_bytes())
            .context("send", args)?;
        socket.send(main.as_bytes()).context("send", args)?;
        barrier(&socket, &self.manager)
    }

    fn poll(&self, pidfd: Option<&OwnedFd>) -> Result<bool> {
        let mut fds = vec![PollFd::from_borrowed_fd(self.socket.as_fd(), PollFlags::IN)];
        let timeout = match pidfd {
            Some(pidfd) => {
                fds.push(PollFd::new(pidfd, PollFlags::IN));
                None
            }
            None => Timespec::try_from(TICK).ok(),
        };
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(fds.first().is_some_and(|f| !f.revents().is_empty())),
            Err(e) => Err(sys::Error::new("poll", SOCKET, e).into()),
        }
    }
}

fn datagram_socket() -> Result<OwnedFd> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let (family, kind) = (AddressFamily::UNIX, SocketType::DGRAM);
    Ok(socket_with(family, kind, SocketFlags::CLOEXEC, None)
        .context("socket", || "AF_UNIX, SOCK_DGRAM")?)
}

fn manager_address(manager: &str) -> Result<rustix::net::SocketAddrUnix> {
    use rustix::net::SocketAddrUnix;
    let address = match manager.strip_prefix('@') {
        Some(name) => SocketAddrUnix::new_abstract_name(name.as_bytes()),
        None => SocketAddrUnix::new(manager),
    };
    Ok(address.context("connect", || manager)?)
}

/// The READY assignment of a message, which holds one a line.
fn ready_line(message: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(message);
    let line = text.split('\n').find(|line| line.starts_with("READY="));
    line.map(str::to_owned)
}

/// sd_notify_barrier(3): the manager closes the descriptor once it has read all before it. The
/// runtime must not exit earlier, or the manager cannot tell whom the messages came from.
fn barrier(socket: &UnixDatagram, manager: &str) -> Result<()> {
    const LIMIT: Timespec = Timespec {
        tv_sec: 5,
        tv_nsec: 0,
    };
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .context("pipe2", || "O_CLOEXEC")?;
    crate::console::send_fd(socket, "BARRIER=1", &write)?;
    drop(write);
    let mut fds = [PollFd::new(&read, PollFlags::empty())];
    match poll(&mut fds, Some(&LIMIT)) {
        Ok(0) => Err(Error::Invalid(format!(
            "{manager} did not answer within 5 s"
        ))),
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(e) => Err(sys::Error::new("poll", "barrier", e).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_readiness_passes() {
        let cases: [(&[u8], Option<&str>); 4] = [
            (b"READY=1", Some("READY=1")),
            (b"STATUS=up\nREADY=1\nMAINPID=1\n", Some("READY=1")),
            (b"STATUS=up\nRELOADING=1", None),
            (b"", None),
        ];
        for (message, line) in cases {
            assert_eq!(ready_line(message).as_deref(), line);
        }
    }

    #[test]
    fn readiness_and_main_pid_reach_the_manager() {
        let dir = std::env::temp_dir().join(format!("hull-notify-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let manager_path = dir.join("manager");
        let manager = UnixDatagram::bind(&manager_path).unwrap();
        let proxy = Proxy::new(manager_path.to_str(), &dir).unwrap();
        proxy.make_directory().unwrap();
        let inside = dir.join("notify/notify.sock");
        assert_eq!(proxy.mount().source, dir.join("notify").to_str().unwrap());
        let listening = proxy.bind().unwrap();
        let program = UnixDatagram::unbound().unwrap();
        program.send_to(b"STATUS=soon", &inside).unwrap();
        program.send_to(b"STATUS=now\nREADY=1", &inside).unwrap();
        let waiter = std::thread::spawn(move || listening.wait(ProcessId::own().unwrap(), 77));
        let mut buffer = [0; 64];
        let mut next = || {
            let n = manager.recv(&mut buffer).unwrap();
            String::from_utf8_lossy(&buffer[..n]).into_owned()
        };
        assert_eq!(next(), "READY=1\n");
        assert_eq!(next(), "MAINPID=77\n");
        let (text, fd) = crate::console::receive_fd(&manager).unwrap().unwrap();
        assert_eq!(text, "BARRIER=1");
        drop(fd);
        waiter.join().unwrap().unwrap();
        Proxy::remove(&dir).unwrap();
        assert!(!dir.join("notify").exists());
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_process_that_ends_unready_ends_the_wait() {
        let dir = std::env::temp_dir().join(format!("hull-unready-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let proxy = Proxy::new(Some("/no/manager"), &dir).unwrap();
        proxy.make_directory().unwrap();
        let listening = proxy.bind().unwrap();
        let mut child = std::process::Command::new("sleep")
            .arg("0.2")
            .spawn()
            .unwrap();
        let id = ProcessId::of(i32::try_from(child.id()).unwrap())
            .unwrap()
            .unwrap();
        listening.wait(id, id.pid).unwrap();
        child.wait().unwrap();
        assert!(Proxy::new(None, &dir).is_none() && Proxy::new(Some(""), &dir).is_none());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
