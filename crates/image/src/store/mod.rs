//! The store of images: `/var/lib/hull`.
//!
//! ```no_run
//! use image::store::{MountOptions, PullOptions, Store};
//! use image::{Reference, transport::{LayoutSource, Name}};
//! # fn main() -> image::Result<()> {
//! let store = Store::open("/var/lib/hull".as_ref())?;
//! let source = LayoutSource::open("layout".as_ref(), &Name::Only)?;
//! let name = Reference::parse("busybox")?;
//! let image = store.pull(&source, &name, &PullOptions::default())?;
//! let rootfs = store.mount(&image.id, "container-1", &MountOptions::default())?;
//! println!("{}", rootfs.path.display());
//! store.remove_rootfs("container-1")?;
//! # Ok(()) }
//! ```
//!
//! # Who may do what
//! One process writes: [`Store::open`] takes the lock or says who has it. Any number of others
//! may look meanwhile ([`Store::open_read_only`]). Inside a process, a [`Store`] is shared between
//! threads; two pulls that need the same layer fetch it once.
//!
//! # Naming
//! An image is found by a reference, by a digest reference, by its id (the digest of its
//! configuration) or by a prefix of that ([`Store::find`]). Layers are known by their chain ids.
//!
//! # What survives a crash
//! A pull writes into `tmp/`, makes the bytes durable, renames layers into their places, makes
//! the names durable, and only then one transaction makes the image and its layers known.
//! What is not in the database at the next start is removed. What is in it is complete; `check`
//! proves that by computing each layer's digest again from what is on disk.

mod build;
mod check;
mod commit;
mod containers;
mod db;
mod df;
mod erofs_mount;
mod export;
mod flight;
mod gc;
mod images;
mod lease;
mod lower;
mod mount;
mod overlay;
mod place;
mod pull;
mod reassemble;
mod record;
mod split;
mod stream;

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags, flock, openat};
use rustix::io::Errno;
use sys::Context as _;

pub use check::{Broken, CheckReport};
pub use commit::CommitOptions;
pub use df::{FsInfo, ImageUsage, Usage};
pub use export::StoreSource;
pub use gc::Freed;
pub(crate) use lower::{image_xattrs, kind_of};
pub use mount::{MountOptions, Rootfs};
pub(crate) use pull::Plan;
pub use pull::{Event, PARALLEL, Progress, PullOptions};
pub use record::{
    Format, ImageDetails, ImageRecord, LayerRecord, LeaseRecord, MountRecord, chain_id, chain_ids,
};
pub(crate) use stream::{Watch, stream};

use crate::layer::Ownership;
use crate::{Error, Result};

/// Where the store is unless configured otherwise.
pub const DEFAULT_ROOT: &str = "/var/lib/hull";

/// How to open a store.
#[derive(Clone, Debug, Default)]
pub struct StoreOptions {
    /// How new layers are kept; `None` for the fastest that the kernel offers.
    pub format: Option<Format>,
    /// How long to wait for another writer to end.
    pub wait: Duration,
    /// For a daemon: it keeps the store as long as it runs, so nobody need wait for it.
    pub kept: bool,
    /// For a user who is not root: overlays use attributes of the user, and where the user has no
    /// subordinate ids, owners are kept beside the files.
    pub rootless: bool,
}

/// A store of images.
#[derive(Debug)]
pub struct Store {
    place: place::Place,
    db: db::Db,
    /// Held by the writer.
    lock: Option<File>,
    flights: flight::Flights,
    /// Held while an image becomes durable.
    committing: Mutex<()>,
    containers: containers::Containers,
    /// Held while something is mounted or unmounted.
    mounts: Mutex<()>,
    format: OnceLock<Format>,
    ownership: Ownership,
    userxattr: bool,
}

impl Store {
    /// Opens the store below `root` to read and write, and makes it if it is missing.
    ///
    /// # Errors
    /// [`Error::Busy`] where another process has it; those of the file system.
    pub fn open(root: &Path) -> Result<Self> {
        Self::open_with(root, &StoreOptions::default())
    }

    /// The same with options.
    ///
    /// # Errors
    /// Those of [`Store::open`].
    pub fn open_with(root: &Path, options: &StoreOptions) -> Result<Self> {
        let place = place::Place::open(root, true)?;
        let lock = lock(&place, options)?;
        let db = db::Db::create(&root.join("db"))?;
        let ownership = match options.rootless {
            true if has_ids() => Ownership::Subordinate,
            true => Ownership::Rootless,
            false => Ownership::AsWritten,
        };
        let containers = containers::Containers::load(&place)?;
        let store = Self {
            place,
            containers,
            db,
            lock: Some(lock),
            flights: flight::Flights::default(),
            committing: Mutex::new(()),
            mounts: Mutex::new(()),
            format: options.format.map_or_else(OnceLock::new, OnceLock::from),
            ownership,
            userxattr: options.rootless,
        };
        store.sweep()?;
        Ok(store)
    }

    /// Opens the store to look at it, beside a writer or without one.
    ///
    /// # Errors
    /// There is no store; those of the file system.
    pub fn open_read_only(root: &Path) -> Result<Self> {
        if !root.join("db").exists() {
            return Err(Error::Missing {
                what: format!("store {}", root.display()),
                why: "nothing was pulled yet".to_owned(),
            });
        }
        let place = place::Place::open(root, false)?;
        let path = root.join("db");
        let db = match db::Db::read_only(&path)? {
            Some(db) => db,
            None => {
                let options = StoreOptions {
                    wait: MENDING,
                    ..StoreOptions::default()
                };
                let _one = lock(&place, &options)?;
                drop(db::Db::create(&path)?);
                db::Db::read_only(&path)?
                    .ok_or_else(|| Error::store("store: database", "a writer was killed"))?
            }
        };
        Ok(Self {
            containers: containers::Containers::load(&place)?,
            place,
            db,
            lock: None,
            flights: flight::Flights::default(),
            committing: Mutex::new(()),
            mounts: Mutex::new(()),
            format: OnceLock::new(),
            ownership: Ownership::AsWritten,
            userxattr: false,
        })
    }

    /// Its directory.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.place.path().to_owned()
    }

    /// How new layers are kept: as asked for, else as images where those can be mounted, for no
    /// file is created on the host then, which is what unpacking a directory costs.
    ///
    /// # Errors
    /// Nothing can be written to find out.
    pub fn format(&self) -> Result<Format> {
        if let Some(format) = self.format.get() {
            return Ok(*format);
        }
        let able = !self.userxattr && erofs_mount::can_mount(&self.place.temporary()?);
        let format = if able {
            Format::Erofs
        } else {
            Format::Directory
        };
        Ok(*self.format.get_or_init(|| format))
    }

    pub(crate) fn must_write(&self) -> Result<()> {
        if self.lock.is_none() {
            return Err(Error::store("store", "opened for reading only"));
        }
        Ok(())
    }
}

/// Whether files can be given to others: not where only our own id is mapped.
fn has_ids() -> bool {
    let text = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let euid = rustix::process::geteuid();
    euid.is_root() && text.lines().count() > 1
}

/// How long one who only looks waits for another who puts the database in order.
const MENDING: Duration = Duration::from_secs(10);

/// What the lock file says behind the process of a daemon.
const KEPT: &str = "keeps it";

/// Takes the store's lock, or says who has it.
fn lock(place: &place::Place, options: &StoreOptions) -> Result<File> {
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let fd = openat(place.root(), "lock", flags, Mode::from_raw_mode(0o600));
    let mut file = File::from(fd.context("openat", || "lock, O_CREAT")?);
    let until = Instant::now() + options.wait;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => break,
            Err(Errno::WOULDBLOCK) => {
                let holder = Holder::read(&mut file);
                // A daemon that starts waits for one that ends.
                let in_vain = holder.keeps && !options.kept;
                if in_vain || Instant::now() >= until {
                    return Err(holder.busy(place.path()));
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(e) => return Err(e).context("flock", || "lock").map_err(Into::into),
        }
    }
    let mut note = || -> std::io::Result<()> {
        file.set_len(0)?;
        file.rewind()?;
        let kept = if options.kept { KEPT } else { "" };
        file.write_all(format!("{} {kept}\n", std::process::id()).as_bytes())
    };
    note().map_err(|e| Error::io("store: write lock", e))?;
    Ok(file)
}

/// Who has the lock.
struct Holder {
    pid: String,
    /// Until it ends.
    keeps: bool,
}

impl Holder {
    fn read(file: &mut File) -> Self {
        let mut text = String::new();
        // A file that cannot be read names nobody.
        let _ = file.rewind().and_then(|()| file.read_to_string(&mut text));
        let text = text.trim();
        let (pid, kept) = text.split_once(' ').unwrap_or((text, ""));
        Self {
            pid: pid.to_owned(),
            // Of one that was killed the note remains.
            keeps: kept == KEPT && Path::new("/proc").join(pid).exists(),
        }
    }

    fn busy(&self, path: &Path) -> Error {
        let pid = self.pid.as_str();
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let who = match (pid, name.trim()) {
            ("", _) => "another process".to_owned(),
            (pid, "") => format!("process {pid}"),
            (pid, name) => format!("{name} (process {pid})"),
        };
        let why = if self.keeps {
            format!(
                "{who} keeps it while it runs: ask it (`hullctl pull`, `hullctl rmi`), or take another store with --root DIR (`hullctl run`: --store DIR)"
            )
        } else {
            format!("{who} writes it: wait for it, or ask it")
        };
        Error::Busy {
            what: format!("store {}", path.display()),
            why,
        }
    }
}
