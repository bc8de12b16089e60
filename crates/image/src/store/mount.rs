//! Root file systems: the layers of an image under an overlay, with or without a layer of the
//! container's own on top.

use std::collections::HashSet;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, StatxAttributes, StatxFlags, openat, statx, unlinkat,
};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use sys::Context as _;

use super::overlay::{Overlay, Upper};
use super::place::{MOUNT_POINTS, make_dir, open_dir};
use super::record::{ImageRecord, LayerRecord, MountRecord, now};
use super::{Store, containers};
use crate::layer::Timestamp;
use crate::layer::attrs::{read_xattrs, times};
use crate::layer::dir::{names, remove_tree};
use crate::{Digest, Error, Result};

/// MOUNT_ATTR_IDMAP of linux/mount.h.
const IDMAP: u64 = 0x0010_0000;
/// MOUNT_ATTR_RDONLY: nobody writes to a layer, least of all while it lies in the file system.
const RDONLY: u64 = 1;

/// How to mount an image.
#[derive(Clone, Copy, Debug, Default)]
pub struct MountOptions<'a> {
    /// The user namespace whose ids the image's files are to have (Linux 5.19 or newer); what is
    /// written lies on the disk with those ids, too.
    pub user_namespace: Option<BorrowedFd<'a>>,
    /// Without a layer of its own: nobody can write (volumes made from images).
    pub read_only: bool,
    /// What is written need not survive a crash of the machine: unmounting does not wait for
    /// the disk.
    pub volatile: bool,
    /// Has what every container gets mounted over (`/etc/hosts`, `/proc` and the like), where the
    /// image lacks it: the runtime would make each in the container's own layer. Not with a user
    /// namespace.
    pub mount_points: bool,
}

/// Mounts that lie in the file system for as long as this is held.
struct LaidDown(Vec<PathBuf>);

impl Drop for LaidDown {
    fn drop(&mut self) {
        for path in &self.0 {
            // In use by the overlay; what stays is swept at the next start.
            let _ = rustix::mount::unmount(path, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH);
            let _ = remove_mount_point(path);
        }
    }
}

/// A mounted root file system.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rootfs {
    /// Where it is mounted.
    pub path: PathBuf,
    /// The directory that takes what is written; `None` where nobody can write.
    pub upper: Option<PathBuf>,
    /// The image's id.
    pub image: Digest,
}

impl MountOptions<'_> {
    /// A directory, seen with the ids that are asked for.
    fn mapped(&self, dir: OwnedFd) -> Result<OwnedFd> {
        let Some(userns) = self.user_namespace else {
            return Ok(dir);
        };
        let tree = sys::mount::clone_tree(dir.as_fd(), c"", false, true);
        let tree = tree.context("open_tree", || "layer, OPEN_TREE_CLONE")?;
        let change = sys::mount::SetAttr {
            set: IDMAP | RDONLY,
            userns: Some(userns),
            ..Default::default()
        };
        sys::mount::mount_setattr(tree.as_fd(), false, &change)
            .context("mount_setattr", || "layer, MOUNT_ATTR_IDMAP")?;
        Ok(tree)
    }
}

impl Store {
    /// Mounts an image as the root file system of container `id`. A second call for the same
    /// container and image finds it mounted, or mounts it again with what it had written.
    ///
    /// # Errors
    /// The image is not there; the container has another image; mount(2)'s.
    pub fn mount(&self, image: &Digest, id: &str, options: &MountOptions<'_>) -> Result<Rootfs> {
        check_id(id)?;
        let _one = self.mounts.lock().unwrap_or_else(PoisonError::into_inner);
        let record = self.claim(image, id, options)?;
        let rootfs = self.rootfs(&record);
        if is_mounted(&rootfs.path)? {
            return Ok(rootfs);
        }
        self.attach(&record, &rootfs, options)
            .map_err(|e| Error::store(format!("mount image {} for {id}", image.short()), e))?;
        Ok(rootfs)
    }

    /// Where the root file system of container `id` is or would be.
    ///
    /// # Errors
    /// There is none of that id.
    pub fn mounted(&self, id: &str) -> Result<Rootfs> {
        let record = self.containers.get(id).ok_or_else(|| no_container(id))?;
        Ok(self.rootfs(&record))
    }

    /// All root file systems.
    #[must_use]
    pub fn mounts(&self) -> Vec<MountRecord> {
        self.containers.all()
    }

    /// Unmounts the root file system of container `id`; what it wrote stays and is there again
    /// after the next [`Store::mount`]. It is no error if it is not mounted.
    ///
    /// # Errors
    /// umount(2)'s.
    pub fn unmount(&self, id: &str) -> Result<()> {
        check_id(id)?;
        let _one = self.mounts.lock().unwrap_or_else(PoisonError::into_inner);
        self.detach(id)
    }

    /// Unmounts the root file system of container `id` and removes what it wrote. It is no error
    /// if there is none.
    ///
    /// # Errors
    /// umount(2)'s and unlink(2)'s; not written.
    pub fn remove_rootfs(&self, id: &str) -> Result<()> {
        check_id(id)?;
        self.must_write()?;
        let _one = self.mounts.lock().unwrap_or_else(PoisonError::into_inner);
        self.detach(id)?;
        containers::remove(&mut self.containers.hold(), &self.place, id)?;
        let containers = open_dir(self.place.root(), Path::new("containers"))?;
        remove_tree(containers.as_fd(), id.as_bytes())
    }

    /// Bytes and inodes that container `id` has written.
    ///
    /// # Errors
    /// There is none of that id; not readable.
    pub fn usage(&self, id: &str) -> Result<(u64, u64)> {
        match self.mounted(id)?.upper {
            Some(upper) => super::build::usage(open_dir(CWD, &upper)?.as_fd()),
            None => Ok((0, 0)),
        }
    }

    /// The container's record: found, or made.
    fn claim(&self, image: &Digest, id: &str, options: &MountOptions) -> Result<MountRecord> {
        let mut held = self.containers.hold();
        if let Some(record) = held.get(id) {
            if record.image != *image || record.read_only != options.read_only {
                return Err(Error::Busy {
                    what: format!("container {id}"),
                    why: format!(
                        "it was made from image {}: remove it first",
                        record.image.short()
                    ),
                });
            }
            return Ok(record.clone());
        }
        self.must_write()?;
        let found: Option<ImageRecord> = self.db.read()?.get(&image.to_string())?;
        let found = found.ok_or_else(|| Error::not_stored(format!("image {image}")))?;
        let record = MountRecord {
            id: id.to_owned(),
            image: image.clone(),
            layers: found.layers,
            read_only: options.read_only,
            created: now(),
        };
        let lasting = !options.volatile && !options.read_only;
        containers::put(&mut held, &self.place, record.clone(), lasting)?;
        Ok(record)
    }

    fn rootfs(&self, record: &MountRecord) -> Rootfs {
        let own = self.container_path(&record.id);
        Rootfs {
            path: self.place.path().join("mnt/containers").join(&record.id),
            upper: (!record.read_only).then(|| own.join("upper")),
            image: record.image.clone(),
        }
    }

    pub(crate) fn container_path(&self, id: &str) -> PathBuf {
        self.place.path().join("containers").join(id)
    }

    fn attach(
        &self,
        record: &MountRecord,
        rootfs: &Rootfs,
        options: &MountOptions<'_>,
    ) -> Result<()> {
        let layers = self.layer_records(&record.layers)?;
        let own = PathBuf::from("containers").join(&record.id);
        make_dir(self.place.root(), &own)?;
        make_dir(
            self.place.root(),
            &Path::new("mnt/containers").join(&record.id),
        )?;
        let mut lowers = Vec::with_capacity(layers.len());
        // The highest layer comes first.
        for layer in layers.iter().rev() {
            lowers.push(options.mapped(self.layer_root(layer)?)?);
        }
        if options.mount_points && options.user_namespace.is_none() {
            lowers.push(open_dir(self.place.root(), Path::new(MOUNT_POINTS))?);
        }
        if lowers.is_empty() {
            make_dir(self.place.root(), &own.join("empty"))?;
            lowers.push(open_dir(self.place.root(), &own.join("empty"))?);
        }
        let target = open_dir(CWD, &rootfs.path)?;
        let upper = match record.read_only {
            true => None,
            false => Some(self.upper(&own, lowers.first())?),
        };
        let overlay = Overlay {
            lowers: &lowers,
            upper: upper.as_ref(),
            userxattr: self.userxattr,
            volatile: options.volatile,
        };
        // Linux before 6.15 takes no layer from a mount that lies nowhere, as mapped ones do. To try
        // it would leave a mark in the work directory that lets no second attempt succeed.
        let _lying = match options.user_namespace {
            Some(_) => Some(self.lay_down(&record.id, &lowers)?),
            None => None,
        };
        overlay.mount(&target)
    }

    /// Puts detached mounts into the file system, until what is returned goes: an overlay has
    /// copies of its own. The names are none that a container can have, and are swept at the start.
    fn lay_down(&self, id: &str, trees: &[OwnedFd]) -> Result<LaidDown> {
        let mut laid = LaidDown(Vec::with_capacity(trees.len()));
        for (n, tree) in trees.iter().enumerate() {
            let path = Path::new("mnt/containers").join(format!("{id}~{n}"));
            make_dir(self.place.root(), &path)?;
            laid.0.push(self.place.path().join(&path));
            let dir = open_dir(self.place.root(), &path)?;
            sys::mount::attach(tree.as_fd(), dir.as_fd(), c"")
                .context("move_mount", || format!("layer to {path:?}"))?;
        }
        Ok(laid)
    }

    pub(crate) fn layer_records(&self, chains: &[Digest]) -> Result<Vec<LayerRecord>> {
        let read = self.db.read()?;
        let find = |chain: &Digest| {
            let layer: Option<LayerRecord> = read.get(&chain.to_string())?;
            layer
                .ok_or_else(|| Error::store(format!("layer {chain}"), "lost: pull the image again"))
        };
        chains.iter().map(find).collect()
    }

    /// The directories that take what is written. The root of what is mounted shows the
    /// attributes of the highest directory, so it gets those of the image.
    fn upper(&self, own: &Path, highest: Option<&OwnedFd>) -> Result<Upper> {
        let (upper, work) = (own.join("upper"), own.join("work"));
        let fresh = !super::place::exists(self.place.root(), &upper.to_string_lossy());
        make_dir(self.place.root(), &upper)?;
        make_dir(self.place.root(), &work)?;
        let upper = open_dir(self.place.root(), &upper)?;
        if let (true, Some(lower)) = (fresh, highest) {
            copy_attributes(lower.as_fd(), upper.as_fd())?;
        }
        Ok(Upper {
            upper,
            work: open_dir(self.place.root(), &work)?,
        })
    }

    fn detach(&self, id: &str) -> Result<()> {
        let path = self.place.path().join("mnt/containers").join(id);
        if !is_mounted(&path)? {
            return remove_mount_point(&path);
        }
        unmount(&path)?;
        remove_mount_point(&path)?;
        self.drop_layer_mounts()
    }

    /// At the start: directories of containers that nobody knows.
    pub(crate) fn sweep_containers(&self) -> Result<()> {
        let known: HashSet<String> = self.containers.hold().keys().cloned().collect();
        let stale = |dir: BorrowedFd<'_>| -> Result<Vec<String>> {
            let all = names(dir)?;
            let all = all.iter().map(|n| n.to_string_lossy().into_owned());
            Ok(all.filter(|n| !known.contains(n)).collect())
        };
        let mount_points = open_dir(self.place.root(), Path::new("mnt/containers"))?;
        for name in stale(mount_points.as_fd())? {
            let path = self.place.path().join("mnt/containers").join(&name);
            if is_mounted(&path)? {
                unmount(&path)?;
            }
            remove_mount_point(&path)?;
        }
        let containers = open_dir(self.place.root(), Path::new("containers"))?;
        for name in stale(containers.as_fd())? {
            remove_tree(containers.as_fd(), name.as_bytes())?;
        }
        self.drop_layer_mounts()
    }
}

/// An id becomes a component of paths.
fn check_id(id: &str) -> Result<()> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || b"_.-+".contains(&b);
    if id.is_empty() || id.len() > 128 || id.starts_with('.') || !id.bytes().all(fine) {
        return Err(Error::store(
            format!("container {:?}", id.chars().take(130).collect::<String>()),
            "an id has up to 128 letters, digits, _, -, + and ., and begins with none of the latter",
        ));
    }
    Ok(())
}

fn no_container(id: &str) -> Error {
    Error::Missing {
        what: format!("container {id}"),
        why: "the store has made no root file system for it".to_owned(),
    }
}

/// Whether a mount's root is at `path`.
pub(crate) fn is_mounted(path: &Path) -> Result<bool> {
    match statx(
        CWD,
        path,
        AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT,
        StatxFlags::TYPE,
    ) {
        Ok(stat) => Ok(stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)),
        Err(Errno::NOENT) => Ok(false),
        Err(e) => Err(e)
            .context("statx", || format!("{path:?}"))
            .map_err(Into::into),
    }
}

/// Unmounts; what is still in use disappears and ends when its last user ends.
pub(crate) fn unmount(path: &Path) -> Result<()> {
    let plain = rustix::mount::unmount(path, UnmountFlags::NOFOLLOW);
    let done = match plain {
        Err(Errno::BUSY) => {
            rustix::mount::unmount(path, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH)
        }
        other => other,
    };
    done.context("umount2", || format!("{path:?}"))?;
    Ok(())
}

pub(crate) fn remove_mount_point(path: &Path) -> Result<()> {
    match unlinkat(CWD, path, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(e) => Err(e)
            .context("rmdir", || format!("{path:?}"))
            .map_err(Into::into),
    }
}

fn copy_attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    use std::os::unix::ffi::OsStrExt as _;
    let stat = rustix::fs::fstat(from).context("fstat", || "root of the highest layer")?;
    let (uid, gid) = (
        rustix::fs::Uid::from_raw(stat.st_uid),
        rustix::fs::Gid::from_raw(stat.st_gid),
    );
    rustix::fs::fchown(to, Some(uid), Some(gid)).context("fchown", || "upper")?;
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))
        .context("fchmod", || "upper")?;
    for (name, value) in read_xattrs(from)? {
        if !name.starts_with(b"trusted.overlay.") && !name.starts_with(b"user.overlay.") {
            let key = std::ffi::OsStr::from_bytes(&name);
            rustix::fs::fsetxattr(to, key, &value, rustix::fs::XattrFlags::empty())
                .context("fsetxattr", || format!("upper, {}", name.escape_ascii()))?;
        }
    }
    let mtime = Timestamp {
        secs: stat.st_mtime,
        nanos: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
    };
    rustix::fs::futimens(to, &times(mtime)).context("futimens", || "upper")?;
    Ok(())
}

/// Opens a directory for use in a mount.
pub(crate) fn open_path(at: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = openat(at, path, flags, Mode::empty());
    Ok(fd.context("openat", || format!("{path:?}, O_PATH"))?)
}
