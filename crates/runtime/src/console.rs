//! Terminals: a pseudo-terminal pair from the container's own devpts, and descriptors over
//! Unix sockets (`--console-socket`, `--pidfd-socket`).

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, fstatfs, major, openat};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, connect, sendmsg, socket_with,
};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use spec::oci::ConsoleSize;
use sys::{Context as _, knob};

use crate::{Error, Result};

/// DEVPTS_SUPER_MAGIC of linux/magic.h.
const DEVPTS_MAGIC: u64 = 0x1cd1;
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

impl Console {
    /// Opens a pair on the devpts at `/dev/pts` of the container whose root is `root`.
    ///
    /// The way there is walked without following a link, what is there must be a devpts, and the
    /// slave is opened through the master: nothing in the image can pass another file off as the
    /// terminal (CVE-2025-52565).
    ///
    /// # Errors
    /// The step that failed; [`Error::Invalid`] where `/dev/pts` is no devpts.
    pub fn open(root: impl AsFd) -> Result<Self> {
        let pts = open_devpts(root.as_fd())?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let master = openat(&pts, "ptmx", flags, Mode::empty())
            .context("openat", || "/dev/pts/ptmx in the container")?;
        must_be_on_devpts(&master, "/dev/pts/ptmx")?;
        unlockpt(&master).context("ioctl", || "ptmx, TIOCSPTLCK")?;
        let slave = open_peer(&master).or_else(|e| match e.errno {
            // Before Linux 4.13.
            Errno::NOSYS | Errno::NOTTY | Errno::INVAL => open_by_number(&master, &pts),
            _ => Err(e.into()),
        })?;
        Ok(Self { master, slave })
    }

    /// Sets the size in characters.
    ///
    /// # Errors
    /// ioctl(2)'s.
    pub fn set_size(&self, size: ConsoleSize) -> Result<()> {
        let cell = |n: u64| u16::try_from(n).unwrap_or(u16::MAX);
        let size = Winsize {
            ws_row: cell(size.height),
            ws_col: cell(size.width),
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&self.master, size).context("ioctl", || "ptmx, TIOCSWINSZ")?;
        Ok(())
    }

    /// Binds the container's end to `/dev/console` of the root `root`, which is made if missing.
    ///
    /// # Errors
    /// The step that failed.
    pub fn mount(&self, root: impl AsFd) -> Result<()> {
        let dev = open_dir(root.as_fd(), "dev", "/dev")?;
        let target = open_console_file(&dev)?;
        let clone = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH;
        let tree = knob::check("open_tree").and_then(|()| open_tree(&self.slave, "", clone));
        match tree {
            Ok(tree) => {
                let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH
                    | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
                move_mount(&tree, "", &target, "", flags)
                    .context("move_mount", || "terminal, /dev/console")?;
            }
            Err(Errno::NOSYS) => {
                let path = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
                rustix::mount::mount_bind(path(&self.slave), path(&target))
                    .context("mount", || "terminal, /dev/console, MS_BIND")?;
            }
            Err(e) => return Err(sys::Error::new("open_tree", "terminal", e).into()),
        }
        Ok(())
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
    let me = rustix::process::getpid();
    if rustix::process::getsid(None) != Ok(me) {
        rustix::process::setsid().context("setsid", || "")?;
    }
    Ok(())
}

fn open_dir(at: BorrowedFd<'_>, name: &str, shown: &str) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let args = || format!("{shown} in the container");
    Ok(openat(at, name, flags, Mode::empty()).context("openat", args)?)
}

fn open_devpts(root: BorrowedFd<'_>) -> Result<OwnedFd> {
    let dev = open_dir(root, "dev", "/dev")?;
    let pts = open_dir(dev.as_fd(), "pts", "/dev/pts")?;
    must_be_on_devpts(&pts, "/dev/pts")?;
    Ok(pts)
}

fn must_be_on_devpts(fd: &OwnedFd, shown: &str) -> Result<()> {
    let fs = fstatfs(fd).context("fstatfs", || shown)?;
    if u64::try_from(fs.f_type) == Ok(DEVPTS_MAGIC) {
        Ok(())
    } else {
        let text =
            format!("a terminal is asked for, but {shown} in the container is not on a devpts");
        Err(Error::Invalid(text))
    }
}

fn open_peer(master: &OwnedFd) -> sys::Result<OwnedFd> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    knob::check("tiocgptpeer")
        .and_then(|()| ioctl_tiocgptpeer(master, flags))
        .context("ioctl", || "ptmx, TIOCGPTPEER")
}

/// The slave by its name in the devpts, checked to be the terminal of that number.
fn open_by_number(master: &OwnedFd, pts: &OwnedFd) -> Result<OwnedFd> {
    /// UNIX98_PTY_SLAVE_MAJOR and the seven after it (Linux, admin-guide/devices.txt).
    const MAJORS: std::ops::RangeInclusive<u32> = 136..=143;
    let name = ptsname(master, Vec::new()).context("ioctl", || "ptmx, TIOCGPTN")?;
    let name = name.to_string_lossy().into_owned();
    let number = name.rsplit('/').next().unwrap_or_default();
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let slave = openat(pts, number, flags, Mode::empty()).context("openat", || name.as_str())?;
    must_be_on_devpts(&slave, &name)?;
    let stat = fstat(&slave).context("fstat", || name.as_str())?;
    let is_terminal = FileType::from_raw_mode(stat.st_mode).is_char_device();
    if is_terminal && MAJORS.contains(&major(stat.st_rdev)) {
        Ok(slave)
    } else {
        Err(Error::Invalid(format!(
            "{name} in the container is no terminal"
        )))
    }
}

fn open_console_file(dev: &OwnedFd) -> Result<OwnedFd> {
    let path = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let make = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let shown = || "/dev/console in the container";
    let file = match openat(dev, "console", path, Mode::empty()) {
        Err(Errno::NOENT) => openat(dev, "console", make, Mode::from_raw_mode(0o600)),
        other => other,
    };
    let file = file.context("openat", shown)?;
    let stat = fstat(&file).context("fstat", shown)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Symlink | FileType::Directory => {
            let text = "/dev/console in the container is a symbolic link or a directory";
            Err(Error::Invalid(text.to_owned()))
        }
        _ => Ok(file),
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

    fn root() -> OwnedFd {
        openat(CWD, "/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap()
    }

    #[test]
    fn a_pair_from_the_devpts_with_both_ways_to_the_slave() {
        let pair = Console::open(root()).unwrap();
        pair.set_size(ConsoleSize {
            height: 33,
            width: 101,
        })
        .unwrap();
        let size = rustix::termios::tcgetwinsize(&pair.slave).unwrap();
        assert_eq!((size.ws_row, size.ws_col), (33, 101));
        let pts = open_devpts(root().as_fd()).unwrap();
        let again = open_by_number(&pair.master, &pts).unwrap();
        let rdev = |fd: &OwnedFd| fstat(fd).unwrap().st_rdev;
        assert_eq!(rdev(&again), rdev(&pair.slave));
        let flags = rustix::io::fcntl_getfd(&pair.slave).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    }

    #[test]
    fn a_root_with_a_false_devpts_is_refused() {
        let dir = std::env::temp_dir().join(format!("hull-console-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("real/dev/pts")).unwrap();
        std::fs::create_dir_all(dir.join("link")).unwrap();
        std::os::unix::fs::symlink("/dev", dir.join("link/dev")).unwrap();
        let open = |name: &str| openat(CWD, dir.join(name), OFlags::PATH, Mode::empty()).unwrap();
        let text = Console::open(open("real")).unwrap_err().to_string();
        assert!(text.contains("is not on a devpts"), "{text}");
        let text = Console::open(open("link")).unwrap_err().to_string();
        assert!(text.starts_with("openat(/dev in the container)"), "{text}");
        std::fs::remove_dir_all(&dir).unwrap();
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
        assert_eq!(fstat(&fd).unwrap().st_rdev, fstat(&null).unwrap().st_rdev);
        assert!(receive_fd(&server).unwrap().is_none());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
