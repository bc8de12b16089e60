//! Terminals: the pseudo-terminal of a process, and descriptors over Unix sockets
//! (`--console-socket`, `--pidfd-socket`).

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, connect, sendmsg, socket_with,
};
use rustix::termios::{Winsize, tcgetwinsize, tcsetwinsize};
use spec::oci::ConsoleSize;
use sys::Context as _;

use crate::{Error, Result};

/// What the message that carries a pty master says: the name that runc gives it.
pub const MASTER_NAME: &str = "/dev/ptmx";
/// What the message that carries a pidfd says.
pub const PIDFD_NAME: &str = "pidfd";

/// A pseudo-terminal pair of the container.
#[derive(Debug)]
pub struct Console {
    /// The runtime's end.
    pub master: OwnedFd,
    /// The container's end.
    pub slave: OwnedFd,
}

impl From<rootfs::Terminal> for Console {
    fn from(terminal: rootfs::Terminal) -> Self {
        Self {
            master: terminal.master,
            slave: terminal.slave,
        }
    }
}

/// The size of the terminal that the caller sits at.
pub(crate) fn size_here() -> Option<ConsoleSize> {
    let stdio = [
        rustix::stdio::stdin(),
        rustix::stdio::stdout(),
        rustix::stdio::stderr(),
    ];
    let size = stdio.into_iter().find_map(|fd| tcgetwinsize(fd).ok())?;
    Some(ConsoleSize {
        height: size.ws_row.into(),
        width: size.ws_col.into(),
    })
}

/// Sets the size of a terminal, given its master, in characters.
///
/// # Errors
/// ioctl(2)'s.
pub(crate) fn set_size(master: &OwnedFd, size: ConsoleSize) -> Result<()> {
    let cell = |n: u64| u16::try_from(n).unwrap_or(u16::MAX);
    let size = Winsize {
        ws_row: cell(size.height),
        ws_col: cell(size.width),
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(master, size).context("ioctl", || "ptmx, TIOCSWINSZ")?;
    Ok(())
}

impl Console {
    /// Opens a pair on the devpts of the caller's own root: for a process that has entered the
    /// container.
    ///
    /// # Errors
    /// The step that failed; refused where `/dev/pts` is no devpts.
    pub fn open() -> Result<Self> {
        let root = rootfs::Root::current()?;
        Ok(rootfs::open_terminal(&root, None)?.into())
    }

    /// Sets the size in characters.
    ///
    /// # Errors
    /// ioctl(2)'s.
    pub fn set_size(&self, size: ConsoleSize) -> Result<()> {
        set_size(&self.master, size)
    }

    /// Makes the container's end the controlling terminal of the caller, which becomes the leader
    /// of a new session unless it is one, and its standard input, output and error. Returns the
    /// master.
    ///
    /// # Errors
    /// The step that failed.
    pub fn attach(self) -> Result<OwnedFd> {
        become_session_leader()?;
        rustix::process::ioctl_tiocsctty(&self.slave).context("ioctl", || "pts, TIOCSCTTY")?;
        rustix::stdio::dup2_stdin(&self.slave).context("dup2", || "pts, 0")?;
        rustix::stdio::dup2_stdout(&self.slave).context("dup2", || "pts, 1")?;
        rustix::stdio::dup2_stderr(&self.slave).context("dup2", || "pts, 2")?;
        Ok(self.master)
    }
}

/// setsid(2), unless the caller leads a session.
///
/// # Errors
/// setsid(2)'s.
pub fn become_session_leader() -> Result<()> {
    match rustix::process::setsid() {
        // A forked process that leads a group has called setsid(2) before.
        Ok(_) | Err(Errno::PERM) => Ok(()),
        Err(e) => Err(sys::Error::new("setsid", "", e).into()),
    }
}

/// Connects to the Unix stream socket at `path`, which may be longer than a socket address.
///
/// # Errors
/// The step that failed.
pub fn connect_to(path: &Path) -> Result<OwnedFd> {
    let args = || format!("{}", path.display());
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .context("socket", || "AF_UNIX, SOCK_STREAM")?;
    let (_directory, address) = unix_address(path)?;
    connect(&socket, &address).context("connect", args)?;
    Ok(socket)
}

/// The address of a socket file. Where the path is too long, the address goes through a
/// descriptor of its directory, which must stay open while the address is used.
///
/// # Errors
/// open(2)'s of the directory, or ENAMETOOLONG.
pub fn unix_address(path: &Path) -> Result<(Option<OwnedFd>, SocketAddrUnix)> {
    let args = || format!("{}", path.display());
    if let Ok(address) = SocketAddrUnix::new(path) {
        return Ok((None, address));
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(sys::Error::new("connect", args(), Errno::NAMETOOLONG).into());
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = openat(CWD, parent, flags, Mode::empty()).context("openat", args)?;
    let short = Path::new("/proc/self/fd")
        .join(directory.as_raw_fd().to_string())
        .join(name);
    let address = SocketAddrUnix::new(short).context("connect", args)?;
    Ok((Some(directory), address))
}

/// Sends one descriptor in one message whose payload is `name` (unix(7), SCM_RIGHTS).
///
/// # Errors
/// sendmsg(2)'s.
pub fn send_fd(socket: impl AsFd, name: &str, fd: impl AsFd) -> Result<()> {
    let fds = [fd.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&fds));
    let data = [IoSlice::new(name.as_bytes())];
    sendmsg(socket, &data, &mut control, SendFlags::NOSIGNAL)
        .context("sendmsg", || format!("{name:?}, SCM_RIGHTS"))?;
    Ok(())
}

/// Receives what [`send_fd`] sends; `None` where the other side closed without sending.
///
/// # Errors
/// recvmsg(2)'s; [`Error::Invalid`] for a message without a descriptor.
pub fn receive_fd(socket: impl AsFd) -> Result<Option<(String, OwnedFd)>> {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut name = [0_u8; 4096];
    let mut data = [std::io::IoSliceMut::new(&mut name)];
    let received = recvmsg(socket, &mut data, &mut control, RecvFlags::CMSG_CLOEXEC)
        .context("recvmsg", || "SCM_RIGHTS")?;
    // All of them are taken over here, and those that are not wanted are closed.
    let fds: Vec<OwnedFd> = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds.collect::<Vec<_>>()),
            _ => None,
        })
        .flatten()
        .collect();
    let name = String::from_utf8_lossy(&name[..received.bytes]).into_owned();
    match fds.into_iter().next() {
        Some(fd) => Ok(Some((name, fd))),
        None if received.bytes == 0 => Ok(None),
        None => {
            let text = format!("message {name:?} came without a descriptor");
            Err(Error::Invalid(text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_pair_of_the_size_asked_for() {
        let pair = Console::open().unwrap();
        pair.set_size(ConsoleSize {
            height: 33,
            width: 101,
        })
        .unwrap();
        let size = tcgetwinsize(&pair.slave).unwrap();
        assert_eq!((size.ws_row, size.ws_col), (33, 101));
    }

    #[test]
    fn a_descriptor_travels_over_a_socket_with_a_long_path() {
        let dir = std::env::temp_dir().join(format!("hull-send-{}", std::process::id()));
        let deep = dir.join("x".repeat(120));
        std::fs::create_dir_all(&deep).unwrap();
        let path = deep.join("s");
        let short = dir.join("s");
        let listener = UnixListener::bind(&short).unwrap();
        std::fs::hard_link(&short, &path).unwrap();
        let socket = connect_to(&path).unwrap();
        let (server, _) = listener.accept().unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        send_fd(&socket, MASTER_NAME, &null).unwrap();
        drop(socket);
        let (name, fd) = receive_fd(&server).unwrap().unwrap();
        assert_eq!(name, MASTER_NAME);
        let rdev = |fd: std::os::fd::BorrowedFd<'_>| rustix::fs::fstat(fd).unwrap().st_rdev;
        assert_eq!(rdev(fd.as_fd()), rdev(null.as_fd()));
        assert!(receive_fd(&server).unwrap().is_none());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
