//! Loop devices: a file as a block device (loop(4)).

use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use crate::process::last_errno;
use crate::{Context as _, Error, Result};

/// LOOP_CTL_GET_FREE of linux/loop.h.
const GET_FREE: libc::Ioctl = 0x4c82;
/// LOOP_CONFIGURE of linux/loop.h, Linux 5.8.
const CONFIGURE: libc::Ioctl = 0x4c0a;
/// LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR.
const FLAGS: u32 = 1 | 4;
/// How often another process may take the device that was free a moment ago.
const TRIES: u32 = 64;

/// `struct loop_info64` of linux/loop.h; all zero but the flags.
#[repr(C)]
struct Info64 {
    before: [u64; 5],
    numbers: [u32; 3],
    flags: u32,
    names: [u8; 160],
    init: [u64; 2],
}

/// `struct loop_config` of linux/loop.h.
#[repr(C)]
struct Config {
    fd: u32,
    block_size: u32,
    info: Info64,
    reserved: [u64; 8],
}

/// A read-only block device on `file`: its path, and a descriptor that keeps it until something
/// else does. It disappears with its last user.
///
/// # Errors
/// open(2)'s and ioctl(2)'s.
pub fn attach(file: BorrowedFd<'_>) -> Result<(String, OwnedFd)> {
    let control = openat(
        CWD,
        "/dev/loop-control",
        OFlags::RDWR | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .context("open", || "/dev/loop-control")?;
    let backing = u32::try_from(file.as_raw_fd())
        .map_err(|_| Error::new("ioctl", "LOOP_CONFIGURE", Errno::BADF))?;
    let config = Config {
        fd: backing,
        block_size: 0,
        info: Info64 {
            before: [0; 5],
            numbers: [0; 3],
            flags: FLAGS,
            names: [0; 160],
            init: [0; 2],
        },
        reserved: [0; 8],
    };
    for _ in 0..TRIES {
        // SAFETY: takes no argument and returns a number.
        let number = unsafe { libc::ioctl(control.as_raw_fd(), GET_FREE) };
        if number < 0 {
            return Err(Error::new(
                "ioctl",
                "/dev/loop-control, LOOP_CTL_GET_FREE",
                last_errno(),
            ));
        }
        let path = format!("/dev/loop{number}");
        let device = openat(
            CWD,
            path.as_str(),
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .context("open", || path.clone())?;
        // SAFETY: `config` is a valid loop_config, only read by the kernel.
        let done = unsafe { libc::ioctl(device.as_raw_fd(), CONFIGURE, &raw const config) };
        match if done == 0 { Ok(()) } else { Err(last_errno()) } {
            Ok(()) => return Ok((path, device)),
            Err(Errno::BUSY) => {}
            Err(e) => return Err(Error::new("ioctl", format!("{path}, LOOP_CONFIGURE"), e)),
        }
    }
    Err(Error::new("ioctl", "LOOP_CONFIGURE", Errno::BUSY))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_are_the_kernels() {
        assert_eq!(size_of::<Info64>(), 232);
        assert_eq!(std::mem::offset_of!(Info64, flags), 52);
        assert_eq!(size_of::<Config>(), 304);
    }
}
