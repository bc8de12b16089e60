//! What the kernel tells about a namespace by its descriptor (ioctl_ns(2)).

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use crate::process::last_errno;
use crate::{Error, Result};

/// linux/nsfs.h: `_IO(0xb7, 1…4)`, `_IOR(0xb7, 13, __u64)`.
const NS_GET_USERNS: libc::c_ulong = 0xb701;
const NS_GET_PARENT: libc::c_ulong = 0xb702;
const NS_GET_NSTYPE: libc::c_ulong = 0xb703;
const NS_GET_OWNER_UID: libc::c_ulong = 0xb704;
const NS_GET_ID: libc::c_ulong = 0x8008_b70d;
/// linux/sockios.h.
const SIOCGSKNS: libc::c_ulong = 0x894c;

/// The user namespace that owns the namespace; EPERM where it is out of the caller's sight.
///
/// # Errors
/// ioctl(2)'s.
pub fn owner(ns: impl AsFd) -> Result<OwnedFd> {
    related(ns, NS_GET_USERNS, "NS_GET_USERNS")
}

/// The parent of a pid or user namespace; EPERM where it is out of the caller's sight, EINVAL for
/// other kinds.
///
/// # Errors
/// ioctl(2)'s.
pub fn parent(ns: impl AsFd) -> Result<OwnedFd> {
    related(ns, NS_GET_PARENT, "NS_GET_PARENT")
}

/// The network namespace of a socket (Linux 4.9; needs CAP_NET_ADMIN there).
///
/// # Errors
/// ioctl(2)'s; ENOTTY where the descriptor is not a socket.
pub fn of_socket(socket: impl AsFd) -> Result<OwnedFd> {
    related(socket, SIOCGSKNS, "SIOCGSKNS")
}

fn related(fd: impl AsFd, request: libc::c_ulong, name: &'static str) -> Result<OwnedFd> {
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: none of these requests takes an argument; the descriptor is borrowed for the call.
    let r = unsafe { libc::ioctl(fd, request) };
    if r < 0 {
        return Err(Error::new("ioctl", format!("{fd}, {name}"), last_errno()));
    }
    // SAFETY: the kernel has just made this descriptor for us and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(r) })
}

/// The CLONE_NEW… flag of the namespace's kind.
///
/// # Errors
/// ioctl(2)'s; ENOTTY where the descriptor is not of a namespace.
pub fn kind(ns: impl AsFd) -> Result<u64> {
    let fd = ns.as_fd().as_raw_fd();
    // SAFETY: takes no argument.
    let r = unsafe { libc::ioctl(fd, NS_GET_NSTYPE) };
    u64::try_from(r).map_err(|_| Error::new("ioctl", format!("{fd}, NS_GET_NSTYPE"), last_errno()))
}

/// The user who made a user namespace, as the caller's namespace numbers users.
///
/// # Errors
/// ioctl(2)'s; EINVAL for another kind.
pub fn owner_uid(userns: impl AsFd) -> Result<u32> {
    let fd = userns.as_fd().as_raw_fd();
    let mut uid: libc::uid_t = 0;
    // SAFETY: the argument is a writable uid_t that outlives the call.
    let r = unsafe { libc::ioctl(fd, NS_GET_OWNER_UID, &raw mut uid) };
    done(r, fd, "NS_GET_OWNER_UID").map(|()| uid)
}

/// The namespace's number that is never given to another one while the machine is up (Linux 6.18).
///
/// # Errors
/// ioctl(2)'s; ENOTTY on older kernels.
pub fn id(ns: impl AsFd) -> Result<u64> {
    let fd = ns.as_fd().as_raw_fd();
    let mut id: u64 = 0;
    // SAFETY: the argument is a writable u64 that outlives the call.
    let r = unsafe { libc::ioctl(fd, NS_GET_ID, &raw mut id) };
    done(r, fd, "NS_GET_ID").map(|()| id)
}

fn done(r: libc::c_int, fd: i32, name: &'static str) -> Result<()> {
    if r < 0 {
        Err(Error::new("ioctl", format!("{fd}, {name}"), last_errno()))
    } else {
        Ok(())
    }
}

/// `struct file_handle` with the payload of nsfs (linux/nsfs.h, `struct nsfs_file_handle`).
#[repr(C)]
struct Handle {
    bytes: u32,
    kind: i32,
    id: u64,
    ns_type: u32,
    inode: u32,
}

/// Opens a namespace by the number that [`id`] tells and nothing else (Linux 6.19).
///
/// # Errors
/// open_by_handle_at(2)'s; ESTALE where there is no such namespace, and on older kernels.
pub fn open_by_id(id: u64) -> Result<OwnedFd> {
    /// fcntl.h: the root of nsfs, wherever it is not mounted.
    const FD_NSFS_ROOT: libc::c_int = -10003;
    /// exportfs.h.
    const FILEID_NSFS: i32 = 0xf1;
    let mut handle = Handle {
        bytes: 16,
        kind: FILEID_NSFS,
        id,
        ns_type: 0,
        inode: 0,
    };
    let flags = libc::O_RDONLY | libc::O_CLOEXEC;
    // SAFETY: `handle` has the layout of a file_handle with 16 bytes of payload and outlives the
    // call.
    let r = unsafe {
        libc::syscall(
            libc::SYS_open_by_handle_at,
            FD_NSFS_ROOT,
            &raw mut handle,
            flags,
        )
    };
    let args = || format!("FD_NSFS_ROOT, namespace {id}");
    let fd = i32::try_from(r).unwrap_or(-1);
    if fd < 0 {
        return Err(Error::new("open_by_handle_at", args(), last_errno()));
    }
    // SAFETY: the kernel has just made this descriptor for us and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    fn open(kind: &str) -> std::fs::File {
        std::fs::File::open(format!("/proc/self/ns/{kind}")).unwrap()
    }

    fn inode(fd: impl AsFd) -> u64 {
        rustix::fs::fstat(fd).unwrap().st_ino
    }

    #[test]
    fn kinds_owners_and_parents() {
        assert_eq!(kind(open("uts")).unwrap(), 0x0400_0000);
        assert_eq!(inode(owner(open("uts")).unwrap()), inode(open("user")));
        assert_eq!(parent(open("uts")).unwrap_err().errno, Errno::INVAL);
        assert!(kind(std::io::stdin()).is_err());
        let socket = std::os::unix::net::UnixDatagram::unbound().unwrap();
        match of_socket(&socket) {
            Ok(ns) => assert_eq!(inode(ns), inode(open("net"))),
            Err(e) => assert_eq!(e.errno, Errno::PERM),
        }
    }

    #[test]
    fn a_namespace_is_opened_by_its_number() {
        let number = match id(open("ipc")) {
            Err(e) if e.errno == Errno::NOTTY => return,
            other => other.unwrap(),
        };
        match open_by_id(number) {
            Ok(ns) => assert_eq!(inode(ns), inode(open("ipc"))),
            // Without rights; Linux 6.18, which wants kind and inode too.
            Err(e) => assert!(matches!(e.errno, Errno::PERM | Errno::STALE), "{e}"),
        }
        assert!(open_by_id(u64::MAX).is_err());
    }
}
