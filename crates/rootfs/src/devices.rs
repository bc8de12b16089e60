//! Device nodes and the fixed links of `/dev`.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Uid, chownat, makedev, mknodat, readlinkat, statat,
    symlinkat, unlinkat,
};
use spec::plan::{DeviceKind, DevicePlan};
use sys::{Context as _, Errno};

use crate::error::{Error, Result, Step as _};
use crate::mounter::{Mounter, Target};
use crate::prepare::Prepared;
use crate::root::{Last, Root, Want, open_child};

/// The links that runtime-spec demands (config-linux.md, "Dev symbolic links"); targets that are
/// in the container's procfs.
const LINKS: [(&str, &str); 4] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

/// Device number of `/dev/null` (Documentation/admin-guide/devices.txt).
const NULL: (u32, u32) = (1, 3);

impl Prepared<'_> {
    /// Makes the nodes of the plan, and the links.
    pub(crate) fn make_devices(&mut self) -> Result<()> {
        let mut parent: Option<(&Path, OwnedFd)> = None;
        for device in &self.plan.devices {
            let step = || format!("device {:?}", device.path);
            // Always a link to the container's own devpts.
            if device.path == Path::new("/dev/ptmx") {
                continue;
            }
            let (Some(dir), Some(name)) = (device.path.parent(), device.path.file_name()) else {
                return Err(Error::refused(step(), "not a path of a file"));
            };
            // Nearly all are in one directory.
            let dir = match &parent {
                Some((path, fd)) if *path == dir => fd,
                _ => {
                    let fd = (self.root().place(dir, Want::Directory, Last::Follow)).step(step)?;
                    &parent.insert((dir, fd)).1
                }
            };
            let made = self.make_device(device, dir, name)?;
            if device.path == Path::new("/dev/null") {
                self.null = Some(match made {
                    Some(fd) => fd,
                    None => open_child(dir, name).step(step)?,
                });
            }
        }
        self.make_links().step(|| "links in \"/dev\"")
    }

    /// One node; the descriptor is that of a bind.
    fn make_device(
        &self,
        device: &DevicePlan,
        dir: &OwnedFd,
        name: &OsStr,
    ) -> Result<Option<OwnedFd>> {
        let step = || format!("device {:?}", device.path);
        let (kind, number) = node_of(device.kind);
        let mode = Mode::from_raw_mode(device.mode & 0o7777);
        if self.context.in_userns && kind != FileType::Fifo {
            return self.bind_device(device, dir, name).map(Some);
        }
        match mknodat(dir, name, kind, mode, number) {
            Ok(()) => own(dir, name, device).step(step)?,
            Err(Errno::EXIST) => check_existing(dir, name, device)?,
            // An outer user namespace that nobody told us of, or a device cgroup.
            Err(Errno::PERM) if kind != FileType::Fifo => {
                return self.bind_device(device, dir, name).map(Some);
            }
            Err(e) => {
                let args = || format!("dir, {name:?}, {:o}, {:?}", device.mode, device.kind);
                return Err(e).context("mknodat", args).step(step);
            }
        }
        Ok(None)
    }

    /// Binds the host's device of the same path over an empty file. It must be the same device.
    fn bind_device(&self, device: &DevicePlan, dir: &OwnedFd, name: &OsStr) -> Result<OwnedFd> {
        let step = || format!("device {:?}", device.path);
        let object = Mounter::clone_host(&device.path, false, Last::Follow).step(step)?;
        check_node(&object, device)?;
        let target = Target {
            fd: place_file(dir, name).step(step)?,
            path: &device.path,
            last: Last::Nofollow,
            fresh: true,
        };
        if check_node(&target.fd, device).is_ok() {
            return Ok(target.fd);
        }
        // A link would be covered itself, and show where it leads again once that is undone.
        if is_link(&target.fd) {
            return Err(Error::refused(step(), "a symbolic link is there"));
        }
        self.mounter.attach(object, &target).step(step)
    }

    /// Standard streams that are the null device become the container's own: it keeps no
    /// descriptor of a mount that it does not see, which criu(8) could not dump.
    ///
    /// # Errors
    /// dup2(2)'s.
    pub fn own_null_streams(&self) -> Result<()> {
        use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout, stderr, stdin, stdout};
        type Replace = fn(&OwnedFd) -> std::result::Result<(), Errno>;
        let streams: [(_, Replace); 3] = [
            (stdin(), |fd| dup2_stdin(fd)),
            (stdout(), |fd| dup2_stdout(fd)),
            (stderr(), |fd| dup2_stderr(fd)),
        ];
        let mut replaced = streams.into_iter().filter(|(fd, _)| is_null(fd)).peekable();
        if replaced.peek().is_none() {
            return Ok(());
        }
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let null = match self.root().open(Path::new("/dev/null"), flags) {
            Ok(fd) if is_null(&fd) => fd,
            // There is none, or device rules forbid to open what may be used while it is open.
            _ => return Ok(()),
        };
        for (_, replace) in replaced {
            let step = || "standard streams that are /dev/null";
            replace(&null).context("dup2", || "/dev/null").step(step)?;
        }
        Ok(())
    }

    fn make_links(&self) -> sys::Result<()> {
        let dir = (self.root()).place(Path::new("/dev"), Want::Directory, Last::Follow)?;
        for (name, to) in LINKS {
            link(&dir, name, to)?;
        }
        let kcore = |fd| statat(fd, c"kcore", AtFlags::empty()).is_ok();
        if self.procfs.as_ref().is_some_and(|fd| kcore(fd.as_fd())) {
            link(&dir, "core", "/proc/kcore")?;
        }
        // The multiplexer of the container's own devpts, whatever the image has there.
        match readlinkat(&dir, "ptmx", Vec::new()) {
            Ok(to) if to.as_c_str() == c"pts/ptmx" => return Ok(()),
            Err(Errno::NOENT) => {}
            _ => unlinkat(&dir, "ptmx", AtFlags::empty()).context("unlinkat", || "dev, ptmx")?,
        }
        link(&dir, "ptmx", "pts/ptmx")
    }
}

/// The verified `/dev/null` of a root that has its own `/dev`.
pub(crate) fn find_null(root: &Root) -> Result<OwnedFd> {
    let path = Path::new("/dev/null");
    let fd = root.resolve(path, Last::Follow).step(|| "find /dev/null")?;
    if is_null(&fd) {
        Ok(fd)
    } else {
        let why = "not the character device 1:3";
        Err(Error::refused("find /dev/null", why))
    }
}

/// Whether a descriptor is of the null device.
fn is_null<Fd: AsFd>(fd: Fd) -> bool {
    is_node(fd, FileType::CharacterDevice, makedev(NULL.0, NULL.1))
}

fn is_node<Fd: AsFd>(fd: Fd, kind: FileType, number: u64) -> bool {
    statat(fd, c"", AtFlags::EMPTY_PATH).is_ok_and(|s| {
        FileType::from_raw_mode(s.st_mode) == kind
            && (kind == FileType::Fifo || s.st_rdev == number)
    })
}

fn is_link<Fd: AsFd>(fd: Fd) -> bool {
    statat(fd, c"", AtFlags::EMPTY_PATH)
        .is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Symlink)
}

fn check_node<Fd: AsFd>(fd: Fd, device: &DevicePlan) -> Result<()> {
    let (kind, number) = node_of(device.kind);
    if is_node(fd, kind, number) {
        return Ok(());
    }
    let step = format!("device {:?}", device.path);
    let why = format!("what is there is not {:?}", device.kind);
    Err(Error::refused(step, why))
}

fn check_existing(dir: &OwnedFd, name: &OsStr, device: &DevicePlan) -> Result<()> {
    let fd = open_child(dir, name).step(|| format!("device {:?}", device.path))?;
    check_node(&fd, device)
}

fn node_of(kind: DeviceKind) -> (FileType, u64) {
    match kind {
        DeviceKind::Char { major, minor } => (FileType::CharacterDevice, makedev(major, minor)),
        DeviceKind::Block { major, minor } => (FileType::BlockDevice, makedev(major, minor)),
        DeviceKind::Fifo => (FileType::Fifo, 0),
    }
}

/// Owner of a node that was just made; it belongs to root already.
fn own(dir: &OwnedFd, name: &OsStr, device: &DevicePlan) -> sys::Result<()> {
    if device.uid == 0 && device.gid == 0 {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
    chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
        .context("fchownat", || format!("dir, {name:?}, {uid:?}, {gid:?}"))
}

/// An entry of `dir` to bind a file over; a symlink there is not followed.
pub(crate) fn place_file(dir: &OwnedFd, name: &OsStr) -> sys::Result<OwnedFd> {
    match mknodat(
        dir,
        name,
        FileType::RegularFile,
        Mode::from_raw_mode(0o666),
        0,
    ) {
        Ok(()) | Err(Errno::EXIST) => open_child(dir, name),
        Err(e) => Err(e).context("mknodat", || format!("dir, {name:?}")),
    }
}

fn link(dir: &OwnedFd, name: &str, to: &str) -> sys::Result<()> {
    match symlinkat(to, dir, name) {
        Err(Errno::EXIST) => Ok(()),
        result => result.context("symlinkat", || format!("{to:?}, dev, {name:?}")),
    }
}
