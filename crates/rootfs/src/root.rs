//! The root directory as a descriptor, and lookups that cannot leave it.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use pathrs::RootRef;
use pathrs::error::ErrorKind as ResolverError;
use pathrs::flags::OpenFlags;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, mkdirat, openat, readlinkat};
use sys::{Context as _, Errno, Error, Result};

/// How many symlinks one lookup may meet, like the kernel's own limit (path_resolution(7)).
const MAX_SYMLINKS: u32 = 40;

/// What a missing file is created as.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Want {
    /// A directory.
    Directory,
    /// Not a directory: an empty regular file if it is missing.
    File,
}

/// Whether a symlink as the last component is followed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Last {
    /// It is, inside the root.
    Follow,
    /// It is not.
    Nofollow,
}

/// A root directory. Every path given to it is looked up as if it were `/`: symlinks and `..`
/// stay inside, magic links (`/proc/PID/fd/N`, `/proc/PID/root`) are refused.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Root {
    /// The root that `fd` is open on (O_PATH suffices).
    #[must_use]
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// The calling process's own root.
    ///
    /// # Errors
    /// open(2)'s.
    pub fn current() -> Result<Self> {
        open_host(Path::new("/"), Last::Follow).map(Self::from_fd)
    }

    /// Opens what `path` names inside the root.
    ///
    /// # Errors
    /// openat2(2)'s, ELOOP also for a magic link.
    pub fn open(&self, path: &Path, flags: OFlags) -> Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        match sys::path::openat2(self.as_fd(), path, flags, Mode::empty(), resolve) {
            Err(Errno::NOSYS) => self.open_emulated(path, flags),
            result => result.context("openat2", || {
                format!("root, {path:?}, RESOLVE_IN_ROOT|RESOLVE_NO_MAGICLINKS")
            }),
        }
    }

    /// The same on a kernel without openat2(2): the resolver walks the path itself.
    fn open_emulated(&self, path: &Path, flags: OFlags) -> Result<OwnedFd> {
        let root = RootRef::from_fd(self.as_fd());
        let opened = if flags.contains(OFlags::PATH) {
            if flags.contains(OFlags::NOFOLLOW) {
                root.resolve_nofollow(path)
            } else {
                root.resolve(path)
            }
            .map(OwnedFd::from)
        } else {
            root.open_subpath(path, OpenFlags::from_bits_retain(flags.bits().into()))
                .map(OwnedFd::from)
        };
        let opened = opened.map_err(|e| resolver_error(&e, path))?;
        if flags.contains(OFlags::DIRECTORY) && flags.contains(OFlags::PATH) {
            expect_directory(&opened, path)?;
        }
        Ok(opened)
    }

    /// An O_PATH descriptor of what `path` names.
    ///
    /// # Errors
    /// Those of [`Root::open`].
    pub fn resolve(&self, path: &Path, last: Last) -> Result<OwnedFd> {
        let mut flags = OFlags::PATH;
        flags.set(OFlags::NOFOLLOW, last == Last::Nofollow);
        self.open(path, flags)
    }

    /// An O_PATH descriptor of what `path` names; what is missing is created: directories with
    /// mode 0755 on the way, and the last component as `want` says. Symlinks that point to
    /// nothing are followed and their target is created, inside the root.
    ///
    /// Nothing is created through a path string longer than one component: each is made and
    /// opened relative to its directory's descriptor and without following symlinks, so that
    /// somebody who swaps components meanwhile makes this fail, or be made elsewhere inside the
    /// root, but never outside.
    ///
    /// # Errors
    /// The failed call's.
    pub fn place(&self, path: &Path, want: Want, last: Last) -> Result<OwnedFd> {
        self.place_noting(path, want, last).map(|(fd, _)| fd)
    }

    /// The same; says whether the last component was made.
    pub(crate) fn place_noting(
        &self,
        path: &Path,
        want: Want,
        last: Last,
    ) -> Result<(OwnedFd, bool)> {
        self.place_bounded(path, want, last, &mut MAX_SYMLINKS.to_owned())
    }

    fn place_bounded(
        &self,
        path: &Path,
        want: Want,
        last: Last,
        budget: &mut u32,
    ) -> Result<(OwnedFd, bool)> {
        let mut path: PathBuf = path.to_owned();
        loop {
            match self.resolve(&path, last) {
                Err(e) if e.errno == Errno::NOENT => {}
                result => return result.map(|fd| (fd, false)),
            }
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
                return Err(lookup_error(&path, Errno::NOENT));
            };
            let (dir, _) = self.place_bounded(parent, Want::Directory, Last::Follow, budget)?;
            match make(&dir, name, want) {
                Ok(()) => return open_child(&dir, name).map(|fd| (fd, true)),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(make_error(&path, want, errno)),
            }
            *budget = budget
                .checked_sub(1)
                .ok_or_else(|| lookup_error(&path, Errno::LOOP))?;
            // It exists and yet could not be resolved: a symlink to nothing, or somebody has
            // just made it (then the next round finds it). The text of the link is only a hint: it is resolved in the root.
            if let Ok(link) = readlinkat(&dir, name, Vec::new()) {
                use std::os::unix::ffi::OsStringExt as _;
                let link = PathBuf::from(std::ffi::OsString::from_vec(link.into_bytes()));
                path = parent.join(link);
            }
        }
    }

    /// A directory inside the root, open for fchdir(2); created where it is missing, like
    /// [`Root::place`]. For the working directory of a process.
    ///
    /// # Errors
    /// The failed call's; ENOTDIR if it is something else.
    pub fn directory(&self, path: &Path) -> Result<OwnedFd> {
        let fd = self.place(path, Want::Directory, Last::Follow)?;
        expect_directory(&fd, path)?;
        Ok(fd)
    }
}

/// Opens a path of the host, which is trusted: the configuration names it.
pub(crate) fn open_host(path: &Path, last: Last) -> Result<OwnedFd> {
    let mut flags = OFlags::PATH | OFlags::CLOEXEC;
    flags.set(OFlags::NOFOLLOW, last == Last::Nofollow);
    openat(CWD, path, flags, Mode::empty()).context("open", || format!("{path:?}, O_PATH"))
}

/// An O_PATH descriptor of a directory's entry; a symlink is not followed.
pub(crate) fn open_child(dir: &OwnedFd, name: &OsStr) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(dir, name, flags, Mode::empty())
        .context("openat", || format!("dir, {name:?}, O_PATH|O_NOFOLLOW"))
}

fn make(dir: &OwnedFd, name: &OsStr, want: Want) -> std::result::Result<(), Errno> {
    match want {
        Want::Directory => mkdirat(dir, name, Mode::from_raw_mode(0o755)),
        Want::File => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            openat(dir, name, flags, Mode::from_raw_mode(0o644)).map(drop)
        }
    }
}

fn make_error(path: &Path, want: Want, errno: Errno) -> Error {
    let call = match want {
        Want::Directory => "mkdirat",
        Want::File => "openat",
    };
    Error::new(call, format!("root, {path:?}"), errno)
}

fn lookup_error(path: &Path, errno: Errno) -> Error {
    Error::new("openat2", format!("root, {path:?}"), errno)
}

fn expect_directory(fd: &OwnedFd, path: &Path) -> Result<()> {
    let stat = rustix::fs::statat(fd, c"", AtFlags::EMPTY_PATH)
        .context("fstat", || format!("root, {path:?}"))?;
    if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir() {
        Ok(())
    } else {
        Err(lookup_error(path, Errno::NOTDIR))
    }
}

pub(crate) fn resolver_error(e: &pathrs::error::Error, path: &Path) -> Error {
    let errno = match e.kind() {
        ResolverError::OsError(Some(errno)) => Errno::from_raw_os_error(errno),
        ResolverError::SafetyViolation => Errno::XDEV,
        _ => Errno::IO,
    };
    Error::new("resolve", format!("root, {path:?}"), errno)
}
