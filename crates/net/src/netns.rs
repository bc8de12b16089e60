//! Network namespaces: made, pinned, entered by a thread of their own.
//!
//! A thread that has been in another namespace never serves anything else: it ends.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::mount::{UnmountFlags, mount_bind, unmount};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use sys::Context as _;

use crate::error::Doing as _;
use crate::rtnl::{Counters, Links};
use crate::{Error, Result};

/// CLONE_NEWNET.
const NEWNET: u64 = 0x4000_0000;

/// Runs `f` on a thread that is in the network namespace `netns`.
///
/// # Errors
/// setns(2)'s, and those of `f`.
pub fn inside<T: Send>(netns: BorrowedFd<'_>, f: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    on_own_thread(|| {
        sys::namespace::setns(netns, NEWNET)?;
        f()
    })
}

fn on_own_thread<T: Send>(f: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let builder = thread::Builder::new().name("netns".into());
        let thread = builder
            .spawn_scoped(scope, f)
            .context("clone", || "a thread for a network namespace")?;
        thread
            .join()
            .unwrap_or_else(|_| Err(Error::Invalid("the network namespace's thread died".into())))
    })
}

/// Opens a network namespace by its path.
///
/// # Errors
/// open(2)'s.
pub fn open(path: &Path) -> Result<File> {
    Ok(File::open(path).context("open", || path.display().to_string())?)
}

/// A new network namespace, pinned at `dir/id`, with `lo` up. One that is there already is kept.
///
/// # Errors
/// A call that failed; nothing is left then.
pub fn create(dir: &Path, id: &str) -> Result<PathBuf> {
    make(dir, id, || {
        sys::namespace::unshare(NEWNET)?;
        Links::open()?.loopback_up()?;
        Ok(PathBuf::from("/proc/thread-self/ns/net"))
    })
}

/// Pins a network namespace that is there (`/proc/PID/ns/net`) at `dir/id`, and sets `lo` up in
/// it: for pods whose user namespace must own it.
///
/// # Errors
/// A call that failed; nothing is left then.
pub fn adopt(dir: &Path, id: &str, namespace: &Path) -> Result<PathBuf> {
    make(dir, id, || {
        let file = open(namespace)?;
        inside(file.as_fd(), || Links::open()?.loopback_up())?;
        Ok(namespace.to_owned())
    })
}

/// Pins the namespace that `which` names; it runs on a thread of its own.
fn make(dir: &Path, id: &str, which: impl FnOnce() -> Result<PathBuf> + Send) -> Result<PathBuf> {
    crate::attachment::check_id(id)?;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(dir)
        .context("mkdir", || dir.display().to_string())?;
    let path = dir.join(id);
    if is_pinned(&path)? {
        return Ok(path);
    }
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o444)
        .open(&path)
        .context("open", || path.display().to_string())?;
    let made = on_own_thread(|| {
        let from = which()?;
        let text = || format!("{}, {}, MS_BIND", from.display(), path.display());
        mount_bind(&from, &path).context("mount", text)?;
        Ok(())
    });
    if let Err(error) = made {
        let mut errors = vec![error];
        errors.extend(remove(dir, id).err());
        return Err(Error::Several(errors)).doing(|| format!("make a network namespace for {id}"));
    }
    Ok(path)
}

/// Whether a namespace is mounted there, and not only the file there for it.
fn is_pinned(path: &Path) -> Result<bool> {
    const NSFS_MAGIC: i64 = 0x6e73_6673;
    match rustix::fs::statfs(path) {
        Ok(stat) => Ok(stat.f_type == NSFS_MAGIC),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(sys::Error::new("statfs", path.display().to_string(), errno).into()),
    }
}

/// Lets go of a pinned namespace. One that is gone is no error.
///
/// # Errors
/// umount2(2)'s and unlink(2)'s.
pub fn remove(dir: &Path, id: &str) -> Result<()> {
    crate::attachment::check_id(id)?;
    let path = dir.join(id);
    // More than one mount may lie on it after a crash in the middle.
    loop {
        match unmount(&path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            Err(Errno::NOENT | Errno::INVAL) => break,
            Err(errno) => {
                let text = format!("{}, MNT_DETACH", path.display());
                return Err(sys::Error::new("umount2", text, errno).into());
            }
        }
    }
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Ok(Err(error).context("unlink", || path.display().to_string())?)
        }
        _ => Ok(()),
    }
}

/// The ids of pinned namespaces.
///
/// # Errors
/// readdir(3)'s.
pub fn list(dir: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.context("open", || dir.display().to_string())?,
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.collect())
}

/// Connects to a port of a network namespace, as a process inside would connect to `localhost`:
/// IPv4 first, then IPv6. The stream is usable from anywhere.
///
/// # Errors
/// socket(2)'s and connect(2)'s; `timeout` bounds each attempt.
pub fn dial(netns: BorrowedFd<'_>, port: u16, timeout: Duration) -> Result<TcpStream> {
    let mut first = None;
    for ip in [
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::LOCALHOST),
    ] {
        match dial_one(netns, SocketAddr::new(ip, port), timeout) {
            Ok(stream) => return Ok(stream),
            Err(error) => {
                first.get_or_insert(error);
            }
        }
    }
    Err(first.unwrap_or_else(|| Error::Invalid("no address to connect to".into())))
}

fn dial_one(netns: BorrowedFd<'_>, to: SocketAddr, timeout: Duration) -> Result<TcpStream> {
    let family = if to.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    // A socket belongs to the namespace in which it was made: only this needs the thread.
    let socket = inside(netns, move || {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        Ok(socket_with(family, SocketType::STREAM, flags, None)
            .context("socket", || format!("for {to}"))?)
    })?;
    match rustix::net::connect(&socket, &to) {
        Ok(()) => {}
        Err(Errno::INPROGRESS) => wait_connected(&socket, to, timeout)?,
        Err(errno) => return Err(sys::Error::new("connect", to.to_string(), errno).into()),
    }
    rustix::io::ioctl_fionbio(&socket, false).context("ioctl", || "FIONBIO")?;
    Ok(TcpStream::from(socket))
}

fn wait_connected(socket: &OwnedFd, to: SocketAddr, timeout: Duration) -> Result<()> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let fail = |errno| Error::from(sys::Error::new("connect", to.to_string(), errno));
    let limit = Timespec::try_from(timeout).map_err(|_| fail(Errno::INVAL))?;
    let mut list = [PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::OUT)];
    let ready = rustix::io::retry_on_intr(|| poll(&mut list, Some(&limit)));
    match ready {
        Ok(0) => return Err(fail(Errno::TIMEDOUT)),
        Ok(_) => {}
        Err(errno) => return Err(fail(errno)),
    }
    match rustix::net::sockopt::socket_error(socket) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(errno)) | Err(errno) => Err(fail(errno)),
    }
}

/// What passed one link of a network namespace.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LinkCounters {
    /// Name of the link.
    pub name: String,
    /// What was counted.
    pub counters: Counters,
}

/// What passed the links of a network namespace, without `lo`.
///
/// # Errors
/// setns(2)'s and netlink(7)'s.
pub fn counters(netns: BorrowedFd<'_>) -> Result<Vec<LinkCounters>> {
    let mut links = inside(netns, Links::open)?;
    let list = links.list()?.into_iter().filter(|link| link.name != "lo");
    Ok(list
        .map(|link| LinkCounters {
            name: link.name,
            counters: link.counters,
        })
        .collect())
}
