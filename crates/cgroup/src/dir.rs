//! A control-group directory on the host and its files.
//!
//! Paths here are the host's own (below the cgroup mounts), never a container's, and cgroupfs
//! has no symbolic links. A directory is opened at most once; files are opened relative to it.

use std::cell::OnceCell;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, RawDir, openat, unlinkat};
use sys::{Context, Errno};

/// One control-group directory.
#[derive(Debug)]
pub(crate) struct Dir {
    path: PathBuf,
    fd: OnceCell<OwnedFd>,
}

impl Dir {
    /// Names a directory; nothing is opened yet.
    pub(crate) fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            fd: OnceCell::new(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A descriptor of the directory (O_PATH), opened on first use.
    pub(crate) fn fd(&self) -> sys::Result<BorrowedFd<'_>> {
        if let Some(fd) = self.fd.get() {
            return Ok(fd.as_fd());
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(&self.path, flags, Mode::empty())
            .context("open", || format!("{:?}, O_PATH", self.path))?;
        Ok(self.fd.get_or_init(|| fd).as_fd())
    }

    /// Forgets the descriptor: the directory was removed or made anew.
    pub(crate) fn close(&mut self) {
        self.fd.take();
    }

    /// Opens one of the directory's files.
    pub(crate) fn open(&self, file: &str, flags: OFlags) -> sys::Result<OwnedFd> {
        openat(self.fd()?, file, flags | OFlags::CLOEXEC, Mode::empty())
            .context("open", || format!("{:?}", self.path.join(file)))
    }

    /// Writes a value; the kernel takes it whole or not at all.
    pub(crate) fn write(&self, file: &str, value: &str) -> sys::Result<()> {
        let fd = self.open(file, OFlags::WRONLY)?;
        write_to(fd.as_fd(), value.as_bytes(), || {
            format!("{:?}, {value:?}", self.path.join(file))
        })
    }

    /// Writes several values to one file, one write(2) each.
    pub(crate) fn write_each(&self, file: &str, values: &[String]) -> sys::Result<()> {
        if values.is_empty() {
            return Ok(());
        }
        let fd = self.open(file, OFlags::WRONLY)?;
        values.iter().try_for_each(|value| {
            write_to(fd.as_fd(), value.as_bytes(), || {
                format!("{:?}, {value:?}", self.path.join(file))
            })
        })
    }

    /// Reads a whole file.
    pub(crate) fn read(&self, file: &str) -> sys::Result<String> {
        let fd = self.open(file, OFlags::RDONLY)?;
        let described = || format!("{:?}", self.path.join(file));
        sys::file::read_fd(fd.as_fd(), described).map(sys::file::into_text)
    }

    /// Reads a whole file; `None` where file or directory are absent.
    ///
    /// EOPNOTSUPP counts as absent: pressure files answer so where accounting is switched off.
    pub(crate) fn read_opt(&self, file: &str) -> sys::Result<Option<String>> {
        match self.read(file) {
            Ok(text) => Ok(Some(text)),
            Err(e) if is_gone(e.errno) || e.errno == Errno::OPNOTSUPP => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Whether the directory has this file.
    pub(crate) fn has(&self, file: &str) -> bool {
        self.fd().is_ok_and(|fd| {
            rustix::fs::accessat(fd, file, rustix::fs::Access::EXISTS, AtFlags::empty()).is_ok()
        })
    }

    /// Whether the directory itself exists.
    pub(crate) fn exists(&self) -> bool {
        rustix::fs::access(&self.path, rustix::fs::Access::EXISTS).is_ok()
    }

    /// Control groups directly below this one; none where it is gone.
    pub(crate) fn children(&self) -> sys::Result<Vec<Dir>> {
        let names = match child_names(&self.path) {
            Ok(names) => names,
            Err(e) if is_gone(e.errno) => return Ok(Vec::new()),
            Err(e) => return Err(e),
        };
        Ok(names
            .into_iter()
            .map(|n| Self::new(self.path.join(n)))
            .collect())
    }

    /// rmdir(2); `true` where it was there.
    pub(crate) fn rmdir(&self) -> sys::Result<bool> {
        match unlinkat(rustix::fs::CWD, &self.path, AtFlags::REMOVEDIR) {
            Ok(()) => Ok(true),
            Err(e) if is_gone(e) => Ok(false),
            Err(e) => Err(sys::Error::new("rmdir", format!("{:?}", self.path), e)),
        }
    }
}

/// Errors that say that a control group was removed: ENODEV comes from a file opened before.
pub(crate) fn is_gone(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::NODEV)
}

fn child_names(path: &Path) -> sys::Result<Vec<std::ffi::OsString>> {
    use std::os::unix::ffi::OsStrExt;
    let describe = || format!("{path:?}");
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, Mode::empty()).context("open", describe)?;
    let mut buffer = Vec::with_capacity(8192);
    let mut entries = RawDir::new(fd, buffer.spare_capacity_mut());
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry.context("getdents64", describe)?;
        let name = entry.file_name().to_bytes();
        let is_dir = entry.file_type() == rustix::fs::FileType::Directory;
        if is_dir && name != b"." && name != b".." {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    Ok(names)
}

/// One write(2) of all bytes.
pub(crate) fn write_to(
    fd: BorrowedFd<'_>,
    bytes: &[u8],
    describe: impl Fn() -> String,
) -> sys::Result<()> {
    let written = loop {
        match rustix::io::write(fd, bytes) {
            Err(Errno::INTR) => {}
            other => break other.context("write", &describe)?,
        }
    };
    if written == bytes.len() {
        Ok(())
    } else {
        // cgroup files take a value whole; a part means that it was too long for the kernel.
        Err(sys::Error::new("write", describe(), Errno::MSGSIZE))
    }
}
