//! The directory that holds one directory a container: `/run/hull/<id>/`.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RenameFlags};
use sys::{Context, Errno};

use crate::foreign::FOREIGN;
use crate::record::Record;
use crate::verdict::{ENDED, KEPT, SLACK};
use crate::{ContainerId, Error, ProcessId, Result};

/// Where root's containers are.
pub const DEFAULT: &str = "/run/hull";
const RECORD: &str = "state.json";
/// Separates the parts of a nascent directory's name; no id contains it.
const SEPARATOR: char = '@';

/// The state root.
#[derive(Debug)]
pub struct StateRoot {
    path: PathBuf,
    dir: OwnedFd,
}

/// The directory of one container.
#[derive(Debug)]
pub struct ContainerDir {
    path: PathBuf,
    dir: OwnedFd,
}

/// A directory whose maker died before it got its container's name.
#[derive(Debug)]
pub struct Stillborn {
    name: String,
    dir: ContainerDir,
}

/// The state root of a user without root's rights, in the user's run-time directory. As with
/// runc, `root` in a user namespace that another user made counts as that user, unless the
/// environment says that it is root.
#[must_use]
pub fn of_user(rootless: bool) -> Option<PathBuf> {
    let directory = std::env::var_os("XDG_RUNTIME_DIR").filter(|d| !d.is_empty())?;
    let really_root = rustix::process::geteuid().is_root()
        && (!rootless || std::env::var_os("USER").is_some_and(|u| u == "root"));
    (!really_root).then(|| Path::new(&directory).join("hull"))
}

impl Stillborn {
    /// Whether it was to become container `id`.
    #[must_use]
    pub fn is_of(&self, id: &ContainerId) -> bool {
        self.name.splitn(4, SEPARATOR).nth(3) == Some(id.as_str())
    }
}

impl StateRoot {
    /// Opens the root; `None` if there is none.
    ///
    /// # Errors
    /// open(2)'s.
    pub fn open(path: &Path) -> Result<Option<Self>> {
        let dir = match open_dir(rustix::fs::CWD, path) {
            Err(e) if e.errno == Errno::NOENT => return Ok(None),
            other => other?,
        };
        let path = path.to_owned();
        Ok(Some(Self { path, dir }))
    }

    /// Opens the root, making it and its parents where missing. `sticky` sets that bit, which
    /// keeps a user's run-time directory from being swept (XDG Base Directory Specification).
    ///
    /// # Errors
    /// mkdir(2)'s, open(2)'s.
    pub fn create(path: &Path, sticky: bool) -> Result<Self> {
        if let Some(root) = Self::open(path)? {
            return Ok(root);
        }
        let mode = 0o700;
        let mut builder = std::fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, mode);
        builder
            .recursive(true)
            .create(path)
            .context("mkdir", || format!("{}, {mode:#o}", path.display()))?;
        let dir = open_dir(rustix::fs::CWD, path)?;
        if sticky {
            rustix::fs::fchmod(&dir, Mode::RWXU | Mode::SVTX)
                .context("fchmod", || format!("{}, 01700", path.display()))?;
        }
        let path = path.to_owned();
        Ok(Self { path, dir })
    }

    /// The ids of all containers, sorted.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn ids(&self) -> Result<Vec<ContainerId>> {
        let mut ids: Vec<ContainerId> = self
            .names()?
            .iter()
            .filter_map(|name| ContainerId::new(name).ok())
            .collect();
        ids.sort();
        Ok(ids)
    }

    /// Where the directory of a container is, for those who can only use a path.
    #[must_use]
    pub fn path_of(&self, id: &ContainerId) -> PathBuf {
        self.path.join(id.as_str())
    }

    /// The directory of a container; `None` if there is none.
    ///
    /// # Errors
    /// open(2)'s.
    pub fn container(&self, id: &ContainerId) -> Result<Option<ContainerDir>> {
        self.child(id.as_str())
    }

    /// Makes the directory of a new container, complete with its first record: it is filled under
    /// another name and renamed, so no other process ever sees it without one. The rename decides
    /// who gets the id.
    ///
    /// # Errors
    /// [`Error::Exists`], mkdir(2)'s, rename(2)'s.
    pub fn add(&self, id: &ContainerId, record: &Record) -> Result<ContainerDir> {
        let creator = record.creator.ok_or(Error::NotRunning)?;
        let nascent = format!(
            "creating{SEPARATOR}{}{SEPARATOR}{}{SEPARATOR}{id}",
            creator.pid, creator.start_time
        );
        let path = self.path.join(&nascent);
        rustix::fs::mkdirat(&self.dir, &nascent, Mode::RWXU)
            .context("mkdir", || path.display().to_string())?;
        let made = open_dir(&self.dir, Path::new(&nascent)).map_err(Error::from);
        let made = made.and_then(|dir| {
            let path = self.path.join(id.as_str());
            let dir = ContainerDir { path, dir };
            dir.write(RECORD, &record.to_json()?)?;
            self.name_it(&nascent, id).map(|()| dir)
        });
        if made.is_err() {
            // The first error is the one to report; what stays behind is swept later.
            let _ = self
                .child(&nascent)
                .map(|dir| dir.map(|dir| dir.remove_as(self, &nascent)));
        }
        made
    }

    fn name_it(&self, nascent: &str, id: &ContainerId) -> Result<()> {
        let renamed = rustix::fs::renameat_with(
            &self.dir,
            nascent,
            &self.dir,
            id.as_str(),
            RenameFlags::NOREPLACE,
        );
        match renamed {
            Err(Errno::EXIST) => Err(Error::Exists(id.to_string())),
            other => Ok(other.context("renameat2", || format!("{nascent}, {id}"))?),
        }
    }

    /// Directories whose makers died before the rename. They own nothing yet.
    ///
    /// # Errors
    /// The directory or /proc cannot be read.
    pub fn stillborn(&self) -> Result<Vec<Stillborn>> {
        let mut found = Vec::new();
        for name in self.names()? {
            let Some(creator) = creator_of(&name) else {
                continue;
            };
            if creator.is_alive()? {
                continue;
            }
            if let Some(dir) = self.child(&name)? {
                found.push(Stillborn { name, dir });
            }
        }
        Ok(found)
    }

    /// Removes the directory of a container that has no record any more: what a killed `delete`
    /// left; whether it is gone. One with something in it is no container's: others (hullctl's
    /// network) keep things beside them.
    ///
    /// # Errors
    /// rmdir(2)'s.
    pub(crate) fn remove_empty(&self, name: &str) -> Result<bool> {
        match rustix::fs::unlinkat(&self.dir, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(true),
            Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
            Err(e) => {
                let args = self.path.join(name).display().to_string();
                Err(sys::Error::new("rmdir", args, e).into())
            }
        }
    }

    /// Removes a stillborn directory.
    ///
    /// # Errors
    /// unlink(2)'s, rmdir(2)'s.
    pub fn bury(&self, stillborn: &Stillborn) -> Result<()> {
        stillborn.dir.remove_as(self, &stillborn.name)
    }

    /// The directory of another runtime's container; `None` if there is none.
    pub(crate) fn foreign(&self, id: &ContainerId) -> Result<Option<ContainerDir>> {
        self.child(&format!("{FOREIGN}/{id}"))
    }

    /// The same, made where missing.
    pub(crate) fn make_foreign(&self, id: &ContainerId) -> Result<ContainerDir> {
        let name = format!("{FOREIGN}/{id}");
        for dir in [FOREIGN, &name] {
            match rustix::fs::mkdirat(&self.dir, dir, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(e) => return Err(self.error("mkdirat", dir, e)),
            }
        }
        let made = self.child(&name)?;
        made.ok_or_else(|| self.error("openat", &name, Errno::NOENT))
    }

    fn child(&self, name: &str) -> Result<Option<ContainerDir>> {
        let dir = match open_dir(&self.dir, Path::new(name)) {
            Err(e) if e.errno == Errno::NOENT => return Ok(None),
            other => other?,
        };
        let path = self.path.join(name);
        Ok(Some(ContainerDir { path, dir }))
    }

    fn names(&self) -> Result<Vec<String>> {
        // hulld's socket lies here, too.
        names(&self.dir, &self.path, false)
    }

    /// Of the containers that have gone only the last [`KEPT`] are remembered, and up to [`SLACK`]
    /// more, so that the directory need not be read for each.
    fn forget_the_oldest(&self) -> Result<()> {
        let links = rustix::fs::statat(&self.dir, ENDED, AtFlags::SYMLINK_NOFOLLOW);
        // A directory has a link from above, its own, and one from each directory in it; where
        // the file system does not count them, it says that there is one.
        let links = links.map_err(|e| self.error("fstatat", ENDED, e))?.st_nlink;
        if (2..=KEPT + SLACK + 2).contains(&usize::try_from(links).unwrap_or(usize::MAX)) {
            return Ok(());
        }
        let ended = self.child(ENDED)?.ok_or(Error::NotRunning)?;
        let mut names = names(&ended.dir, &ended.path, true)?;
        // Their names begin with the time.
        names.sort_unstable();
        for name in &names[..names.len().saturating_sub(KEPT)] {
            let path = format!("{ENDED}/{name}");
            if let Some(dir) = self.child(&path)? {
                dir.remove_as(self, &path)?;
            }
        }
        Ok(())
    }

    fn error(&self, call: &'static str, name: &str, errno: Errno) -> Error {
        sys::Error::new(call, self.path.join(name).display().to_string(), errno).into()
    }
}

impl ContainerDir {
    /// For messages; everything goes through the descriptor.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a file of this directory as a socket address can hold it: short, however
    /// deep the root lies.
    #[must_use]
    pub fn short_path(&self, name: &str) -> PathBuf {
        use std::os::fd::AsRawFd as _;
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.dir.as_raw_fd()))
    }

    /// Whether there is a file of this name.
    ///
    /// # Errors
    /// stat(2)'s.
    pub fn has(&self, name: &str) -> Result<bool> {
        match rustix::fs::statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(e) => Err(self.error("fstatat", name, e)),
        }
    }

    /// Removes a file; whether there was one.
    ///
    /// # Errors
    /// unlink(2)'s.
    pub fn unlink(&self, name: &str) -> Result<bool> {
        match rustix::fs::unlinkat(&self.dir, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(e) => Err(self.error("unlinkat", name, e)),
        }
    }

    /// Writes a file of mode 0600.
    ///
    /// # Errors
    /// open(2)'s, write(2)'s.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.write_to(self.open_to_write(name, OFlags::TRUNC)?, name, bytes)
    }

    fn open_to_write(&self, name: &str, how: OFlags) -> Result<std::fs::File> {
        let flags = how | OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = rustix::fs::openat(&self.dir, name, flags, Mode::RUSR | Mode::WUSR);
        Ok(file.map_err(|e| self.error("openat", name, e))?.into())
    }

    fn write_to(&self, mut file: std::fs::File, name: &str, bytes: &[u8]) -> Result<()> {
        std::io::Write::write_all(&mut file, bytes)
            .context("write", || self.path.join(name).display().to_string())?;
        Ok(())
    }

    /// Reads a file.
    ///
    /// # Errors
    /// open(2)'s, read(2)'s.
    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = rustix::fs::openat(&self.dir, name, flags, Mode::empty())
            .map_err(|e| self.error("openat", name, e))?;
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::fs::File::from(file), &mut bytes)
            .context("read", || self.path.join(name).display().to_string())?;
        Ok(bytes)
    }

    /// Reads the record.
    ///
    /// # Errors
    /// It is missing or not ours.
    pub fn record(&self) -> Result<Record> {
        Record::from_json(&self.read(RECORD)?, &self.path.join(RECORD))
    }

    /// Replaces the record: readers see the old one or the new one.
    ///
    /// # Errors
    /// open(2)'s, write(2)'s, rename(2)'s.
    pub fn save(&self, record: &Record) -> Result<()> {
        let new = "state.json.new";
        self.write(new, &record.to_json()?)?;
        // Ext4 writes a file to disk at once that takes another one's name; one that exchanges
        // names with it has time. Not every file system can exchange.
        let exchanged =
            rustix::fs::renameat_with(&self.dir, new, &self.dir, RECORD, RenameFlags::EXCHANGE);
        if exchanged.is_ok() {
            self.unlink(new)?;
            return Ok(());
        }
        rustix::fs::renameat(&self.dir, new, &self.dir, RECORD)
            .context("renameat", || self.path.join(RECORD).display().to_string())?;
        Ok(())
    }

    /// Waits for and takes the lock under which a container's state changes; it is let go with
    /// the last descriptor of this directory.
    ///
    /// # Errors
    /// flock(2)'s.
    pub fn lock(&self) -> Result<()> {
        rustix::fs::flock(&self.dir, rustix::fs::FlockOperation::LockExclusive)
            .context("flock", || self.path.display().to_string())?;
        Ok(())
    }

    /// Takes the lock unless somebody else has it; whether it was taken.
    ///
    /// # Errors
    /// flock(2)'s.
    pub fn try_lock(&self) -> Result<bool> {
        let lock = rustix::fs::FlockOperation::NonBlockingLockExclusive;
        match rustix::fs::flock(&self.dir, lock) {
            Err(Errno::WOULDBLOCK) => Ok(false),
            other => {
                other.context("flock", || self.path.display().to_string())?;
                Ok(true)
            }
        }
    }

    /// Lets go of the lock before that.
    ///
    /// # Errors
    /// flock(2)'s.
    pub fn unlock(&self) -> Result<()> {
        rustix::fs::flock(&self.dir, rustix::fs::FlockOperation::Unlock)
            .context("flock", || self.path.display().to_string())?;
        Ok(())
    }

    /// Takes the directory away from its id and keeps it for a while among [`ENDED`]; one that is
    /// gone, or has become another container's, is no error.
    ///
    /// # Errors
    /// rename(2)'s.
    pub fn retire(&self, root: &StateRoot, id: &ContainerId) -> Result<()> {
        self.retire_as(root, id.as_str(), id)
    }

    /// The same, of what lies under `own` in the root.
    pub(crate) fn retire_as(&self, root: &StateRoot, own: &str, id: &ContainerId) -> Result<()> {
        if !self.is_named(root, own) {
            return Ok(());
        }
        match rustix::fs::mkdirat(&root.dir, ENDED, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(root.error("mkdirat", ENDED, e)),
        }
        let name = format!("{ENDED}/{}{SEPARATOR}{id}", crate::clock::now_rfc3339());
        match rustix::fs::renameat(&root.dir, own, &root.dir, &name) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(e) => return Err(root.error("renameat", &name, e)),
        }
        // Whatever stands in its way now, the next one tries again.
        let _ = root.forget_the_oldest();
        Ok(())
    }

    /// Whether the name leads here, and not to nothing or to another container.
    fn is_named(&self, root: &StateRoot, name: &str) -> bool {
        let named = rustix::fs::statat(&root.dir, name, AtFlags::SYMLINK_NOFOLLOW);
        let own = rustix::fs::fstat(&self.dir);
        matches!((named, own), (Ok(a), Ok(b)) if (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino))
    }

    /// Appends to a file of mode 0600, unless it has `limit` bytes already.
    ///
    /// # Errors
    /// open(2)'s, fstat(2)'s, write(2)'s.
    pub fn append(&self, name: &str, bytes: &[u8], limit: u64) -> Result<()> {
        let file = self.open_to_write(name, OFlags::APPEND)?;
        let has = rustix::fs::fstat(&file).map_err(|e| self.error("fstat", name, e))?;
        if u64::try_from(has.st_size).is_ok_and(|size| size < limit) {
            self.write_to(file, name, bytes)?;
        }
        Ok(())
    }

    fn remove_as(&self, root: &StateRoot, name: &str) -> Result<()> {
        for file in names(&self.dir, &self.path, true)? {
            if file != RECORD {
                self.remove_entry(&file)?;
            }
        }
        // Last: until now another try could still find out what there was.
        self.unlink(RECORD)?;
        if root.remove_empty(name)? {
            return Ok(());
        }
        Err(root.error("rmdir", name, Errno::NOTEMPTY))
    }

    /// Removes a file or an empty directory.
    fn remove_entry(&self, name: &str) -> Result<()> {
        match rustix::fs::unlinkat(&self.dir, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::ISDIR) => {}
            Err(e) => return Err(self.error("unlinkat", name, e)),
        }
        rustix::fs::unlinkat(&self.dir, name, AtFlags::REMOVEDIR)
            .map_err(|e| self.error("rmdir", name, e))
    }

    fn error(&self, call: &'static str, name: &str, errno: Errno) -> Error {
        sys::Error::new(call, self.path.join(name).display().to_string(), errno).into()
    }
}

fn names(dir: &OwnedFd, path: &Path, sockets: bool) -> Result<Vec<String>> {
    let args = || path.display().to_string();
    let mut names = Vec::new();
    for entry in Dir::read_from(dir).context("getdents64", args)? {
        let entry = entry.context("getdents64", args)?;
        if !sockets && entry.file_type() == FileType::Socket {
            continue;
        }
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.retain(|name| name != "." && name != "..");
    Ok(names)
}

fn open_dir(at: impl std::os::fd::AsFd, path: &Path) -> sys::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(at, path, flags, Mode::empty())
        .context("openat", || path.display().to_string())
}

fn creator_of(name: &str) -> Option<ProcessId> {
    let mut parts = name.splitn(4, SEPARATOR);
    (parts.next()? == "creating").then_some(())?;
    Some(ProcessId {
        pid: parts.next()?.parse().ok()?,
        start_time: parts.next()?.parse().ok()?,
    })
}
