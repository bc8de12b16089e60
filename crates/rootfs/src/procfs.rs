//! A procfs that can be believed, whatever is mounted at `/proc`.
//!
//! A program that writes a label or a kernel parameter by a path below `/proc` trusts whoever
//! arranged the mounts there. A redirected write was an escape more than once: CVE-2019-16884,
//! CVE-2019-19921, CVE-2025-52881. Here the file system is recognised by the kernel's number for
//! it, and no lookup leaves the mount that was recognised.

use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use pathrs::flags::OpenFlags;
use pathrs::procfs::{ProcfsBase, ProcfsHandle};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags, fstatfs, statat};
use rustix::mount::{fsconfig_create, fsconfig_set_string};
use sys::{Context as _, Errno, Error, Result};

use crate::root::{Last, open_host, resolver_error};

/// Inode number of a procfs's root (PROC_ROOT_INO of linux/proc_ns.h).
const ROOT_INODE: u64 = 1;

/// The root of a procfs of this process's pid namespace.
#[derive(Debug)]
pub struct Procfs {
    fd: OwnedFd,
}

impl Procfs {
    /// For files of processes (`self/attr/exec`): a private instance with nothing else in it.
    ///
    /// # Errors
    /// The last of the ways to get one that was tried.
    pub fn processes() -> Result<Self> {
        Self::find(true)
    }

    /// With `/proc/sys` and all else.
    ///
    /// # Errors
    /// The last of the ways to get one that was tried.
    pub fn whole() -> Result<Self> {
        Self::find(false)
    }

    /// One that is already open.
    ///
    /// # Errors
    /// ENODEV if `fd` is not the root of a procfs.
    pub fn from_fd<Fd: AsFd>(fd: Fd) -> Result<Self> {
        let fd = fd
            .as_fd()
            .try_clone_to_owned()
            .context("dup", || "procfs")?;
        Self::verified(fd)
    }

    fn find(processes: bool) -> Result<Self> {
        let private = private_instance(processes).context("fsmount", || "proc");
        // A user namespace may not mount a procfs where parts of all existing ones are covered;
        // a copy of the mount leaves the covers behind. Without rights to that, lookups refuse to
        // enter covers (RESOLVE_NO_XDEV).
        private
            .or_else(|_| {
                sys::mount::clone_tree(CWD, c"/proc", false, false)
                    .context("open_tree", || "/proc, OPEN_TREE_CLONE")
            })
            .or_else(|_| open_host(Path::new("/proc"), Last::Nofollow))
            .and_then(Self::verified)
    }

    fn verified(fd: OwnedFd) -> Result<Self> {
        let magic = fstatfs(&fd).context("fstatfs", || "procfs")?.f_type;
        let inode = statat(&fd, c"", AtFlags::EMPTY_PATH)
            .context("fstat", || "procfs")?
            .st_ino;
        if magic == PROC_SUPER_MAGIC && inode == ROOT_INODE {
            Ok(Self { fd })
        } else {
            let args = "not the root of a procfs";
            Err(Error::new("open", args, Errno::NODEV))
        }
    }

    /// Opens a file of it. Magic links, covers and `..` are refused.
    ///
    /// # Errors
    /// openat2(2)'s; EXDEV if something is mounted over a part of the path.
    pub fn open(&self, path: &Path, flags: OFlags) -> Result<OwnedFd> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
        match sys::path::openat2(self.fd.as_fd(), path, flags, Mode::empty(), resolve) {
            Err(Errno::NOSYS) => self.open_emulated(path, flags),
            result => result.context("openat2", || {
                format!("procfs, {path:?}, RESOLVE_BENEATH|RESOLVE_NO_XDEV|RESOLVE_NO_MAGICLINKS")
            }),
        }
    }

    fn open_emulated(&self, path: &Path, flags: OFlags) -> Result<OwnedFd> {
        let fd = self.fd.try_clone().context("dup", || "procfs")?;
        let handle = ProcfsHandle::try_from_fd(fd).map_err(|e| resolver_error(&e, path))?;
        let (base, below) = match path.strip_prefix("self") {
            Ok(below) => (ProcfsBase::ProcSelf, below),
            Err(_) => (ProcfsBase::ProcRoot, path),
        };
        let flags = OpenFlags::from_bits_retain(flags.bits().into());
        handle
            .open(base, below, flags)
            .map(OwnedFd::from)
            .map_err(|e| resolver_error(&e, path))
    }

    /// Writes `data` to a file of it in one write(2).
    ///
    /// # Errors
    /// Those of [`Procfs::open`], and write(2)'s.
    pub fn write(&self, path: &Path, data: &[u8]) -> Result<()> {
        let mut file = std::fs::File::from(self.open(path, OFlags::WRONLY)?);
        file.write_all(data).context("write", || {
            format!("procfs, {path:?}, {:?}", String::from_utf8_lossy(data))
        })
    }
}

/// A detached instance that nobody else sees.
fn private_instance(processes: bool) -> rustix::io::Result<OwnedFd> {
    let context = sys::mount::fsopen(c"proc")?;
    if processes {
        // Since Linux 5.8; without it there is only more in it.
        let _ = fsconfig_set_string(&context, "subset", "pid");
    }
    fsconfig_create(&context)?;
    sys::mount::fsmount(context.as_fd(), 0)
}
