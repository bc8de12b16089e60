//! The container's terminal: a pseudo-terminal of its own devpts, shown as `/dev/console`.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, fstatfs, major, makedev, openat, statat};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, ptsname, unlockpt};
use sys::{Context as _, Errno, trace};

use crate::devices::place_file;
use crate::error::{Error, Result, Step as _};
use crate::mounter::{Mounter, Target, is_directory};
use crate::mounts::DEVPTS_SUPER_MAGIC;
use crate::root::{Last, Root, Want};

/// A pseudo-terminal.
#[derive(Debug)]
pub struct Terminal {
    /// The side of whoever drives it.
    pub master: OwnedFd,
    /// The side of the container's processes.
    pub slave: OwnedFd,
}

/// Opens a pseudo-terminal of the devpts at `/dev/pts` in `root` (`devpts` where its root is
/// already open). For `exec`, `root` is [`Root::current`] after the container was entered.
///
/// # Errors
/// The call that failed; refused if what is there is no devpts.
pub fn open_terminal(root: &Root, devpts: Option<BorrowedFd<'_>>) -> Result<Terminal> {
    let step = || "open a pseudo-terminal in the container";
    trace::step("open + ioctl(TIOCGPTPEER)", step, || {
        let found;
        let devpts = match devpts {
            Some(fd) => fd,
            None => {
                let path = Path::new("/dev/pts");
                found = root.resolve(path, Last::Follow).step(step)?;
                found.as_fd()
            }
        };
        if fstatfs(devpts).map_or(0, |s| s.f_type) != DEVPTS_SUPER_MAGIC {
            return Err(Error::refused(step(), "\"/dev/pts\" is not a devpts"));
        }
        let master = open_master(root, devpts)?;
        unlockpt(&master)
            .context("ioctl", || "TIOCSPTLCK")
            .step(step)?;
        let slave = open_slave(&master, devpts).step(step)?;
        expect_devpts(&slave, step())?;
        Ok(Terminal { master, slave })
    })
}

fn open_master(root: &Root, devpts: BorrowedFd<'_>) -> Result<OwnedFd> {
    let step = || "open a pseudo-terminal in the container";
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(devpts, c"ptmx", flags, Mode::empty()) {
        // Mounted without ptmxmode: only the multiplexer beside it can be opened.
        Err(Errno::ACCESS) => {
            let path = Path::new("/dev/ptmx");
            let master = root.open(path, OFlags::RDWR | OFlags::NOCTTY).step(step)?;
            let is_ptmx =
                statat(&master, c"", AtFlags::EMPTY_PATH).is_ok_and(|s| s.st_rdev == makedev(5, 2));
            if is_ptmx {
                Ok(master)
            } else {
                let why = "\"/dev/ptmx\" is not the character device 5:2";
                Err(Error::refused(step(), why))
            }
        }
        result => result.context("openat", || "devpts, \"ptmx\"").step(step),
    }
}

/// The other side: asked of the master itself, so that no path can point elsewhere.
fn open_slave(master: &OwnedFd, devpts: BorrowedFd<'_>) -> sys::Result<OwnedFd> {
    let peer = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let opened = sys::knob::check("tiocgptpeer").and_then(|()| ioctl_tiocgptpeer(master, peer));
    match opened {
        // Before Linux 4.13: by its number in the same devpts.
        Err(Errno::NOSYS | Errno::INVAL | Errno::NOTTY) => {
            let name = ptsname(master, Vec::new()).context("ioctl", || "TIOCGPTN")?;
            let name = name.to_string_lossy();
            let number = name.rsplit('/').next().unwrap_or("");
            let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            openat(devpts, number, flags, Mode::empty())
                .context("openat", || format!("devpts, {number:?}"))
        }
        result => result.context("ioctl", || "TIOCGPTPEER"),
    }
}

fn expect_devpts(slave: &OwnedFd, step: &str) -> Result<()> {
    let ours = fstatfs(slave).is_ok_and(|s| s.f_type == DEVPTS_SUPER_MAGIC);
    let device = statat(slave, c"", AtFlags::EMPTY_PATH).is_ok_and(|s| {
        FileType::from_raw_mode(s.st_mode).is_char_device()
            && (136..144).contains(&major(s.st_rdev))
    });
    if ours && device {
        Ok(())
    } else {
        Err(Error::refused(step, "the terminal is not of a devpts"))
    }
}

/// Binds the terminal `slave` to `/dev/console` below the mounter's root.
pub(crate) fn bind(mounter: &Mounter, slave: BorrowedFd<'_>) -> Result<()> {
    let step = || "bind the terminal to \"/dev/console\"";
    trace::step("open_tree + move_mount", step, || {
        let dir = mounter
            .root
            .place(Path::new("/dev"), Want::Directory, Last::Follow)
            .step(step)?;
        let fd = place_file(&dir, OsStr::new("console")).step(step)?;
        if is_directory(&fd) {
            return Err(Error::refused(step(), "it is a directory"));
        }
        let target = Target {
            fd,
            path: Path::new("/dev/console"),
            last: Last::Nofollow,
            fresh: true,
        };
        let object = Mounter::clone_fd(slave, false).step(step)?;
        mounter.attach(object, &target).step(step).map(drop)
    })
}
