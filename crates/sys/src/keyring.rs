//! The session keyring (keyctl(2), keyrings(7)).

use std::ffi::CStr;

use crate::process::last_errno;
use crate::{Error, Result};

const KEYCTL_JOIN_SESSION_KEYRING: i32 = 1;
const KEYCTL_SETPERM: i32 = 5;
const KEYCTL_DESCRIBE: i32 = 6;

/// A key's serial number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct KeySerial(i32);

/// KEYCTL_JOIN_SESSION_KEYRING: a keyring of that name becomes the session keyring of the
/// caller; it is made where none of that name may be joined.
///
/// # Errors
/// keyctl(2)'s; ENOSYS where the kernel has no keys.
pub fn join_session(name: &CStr) -> Result<KeySerial> {
    // SAFETY: `name` is NUL-terminated and lives through the call.
    let r = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) };
    let describe = || format!("KEYCTL_JOIN_SESSION_KEYRING, {name:?}");
    serial(r).ok_or_else(|| Error::new("keyctl", describe(), last_errno()))
}

/// KEYCTL_DESCRIBE: the permission mask of a key.
///
/// # Errors
/// keyctl(2)'s; EINVAL for a description this function cannot read.
pub fn permissions(key: KeySerial) -> Result<u32> {
    // "type;uid;gid;perm;description": names are at most a page long.
    let mut buffer = [0_u8; 4096];
    let fail = |errno| Error::new("keyctl", format!("KEYCTL_DESCRIBE, {}", key.0), errno);
    // SAFETY: `buffer` is writable for the length given.
    let r = unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            KEYCTL_DESCRIBE,
            key.0,
            buffer.as_mut_ptr(),
            buffer.len(),
        )
    };
    let length = usize::try_from(r).map_err(|_| fail(last_errno()))?;
    let text = String::from_utf8_lossy(&buffer[..length.min(buffer.len())]);
    let mask = text.split(';').nth(3);
    mask.and_then(|m| u32::from_str_radix(m, 16).ok())
        .ok_or_else(|| fail(crate::Errno::INVAL))
}

/// KEYCTL_SETPERM.
///
/// # Errors
/// keyctl(2)'s.
pub fn set_permissions(key: KeySerial, mask: u32) -> Result<()> {
    // SAFETY: integers only.
    let r = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_SETPERM, key.0, mask) };
    if r == 0 {
        Ok(())
    } else {
        let args = format!("KEYCTL_SETPERM, {}, {mask:#x}", key.0);
        Err(Error::new("keyctl", args, last_errno()))
    }
}

fn serial(r: libc::c_long) -> Option<KeySerial> {
    i32::try_from(r).ok().filter(|&n| n > 0).map(KeySerial)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_of_our_own() {
        std::thread::spawn(|| {
            let key = join_session(c"hull-keyring-test").unwrap();
            let mask = permissions(key).unwrap();
            set_permissions(key, mask | 0x8_0000).unwrap();
            assert_eq!(permissions(key).unwrap(), mask | 0x8_0000);
        })
        .join()
        .unwrap();
        assert!(permissions(KeySerial(i32::MAX)).is_err());
    }
}
