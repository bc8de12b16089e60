//! What programs that were compiled for glibc ask of a C library, for one that is linked with musl.
//!
//! `crates/hull/build.rs` names these functions in place of glibc's. Everything else that the
//! compiled code asks for, musl has under the same name and with the same layout of what is
//! passed: `crates/hull/tests/abi.rs` compares them.

use std::ffi::{c_char, c_int, c_void};

/// Texts of strerror(3) by number, as glibc has them: callers of OCI runtimes match them, and
/// musl's are others ("Resource busy"). In one piece, so that nothing has to be relocated.
const TEXTS: &str = "\
Success
Operation not permitted
No such file or directory
No such process
Interrupted system call
Input/output error
No such device or address
Argument list too long
Exec format error
Bad file descriptor
No child processes
Resource temporarily unavailable
Cannot allocate memory
Permission denied
Bad address
Block device required
Device or resource busy
File exists
Invalid cross-device link
No such device
Not a directory
Is a directory
Invalid argument
Too many open files in system
Too many open files
Inappropriate ioctl for device
Text file busy
File too large
No space left on device
Illegal seek
Read-only file system
Too many links
Broken pipe
Numerical argument out of domain
Numerical result out of range
Resource deadlock avoided
File name too long
No locks available
Function not implemented
Directory not empty
Too many levels of symbolic links

No message of desired type
Identifier removed
Channel number out of range
Level 2 not synchronized
Level 3 halted
Level 3 reset
Link number out of range
Protocol driver not attached
No CSI structure available
Level 2 halted
Invalid exchange
Invalid request descriptor
Exchange full
No anode
Invalid request code
Invalid slot

Bad font file format
Device not a stream
No data available
Timer expired
Out of streams resources
Machine is not on the network
Package not installed
Object is remote
Link has been severed
Advertise error
Srmount error
Communication error on send
Protocol error
Multihop attempted
RFS specific error
Bad message
Value too large for defined data type
Name not unique on network
File descriptor in bad state
Remote address changed
Can not access a needed shared library
Accessing a corrupted shared library
.lib section in a.out corrupted
Attempting to link in too many shared libraries
Cannot exec a shared library directly
Invalid or incomplete multibyte or wide character
Interrupted system call should be restarted
Streams pipe error
Too many users
Socket operation on non-socket
Destination address required
Message too long
Protocol wrong type for socket
Protocol not available
Protocol not supported
Socket type not supported
Operation not supported
Protocol family not supported
Address family not supported by protocol
Address already in use
Cannot assign requested address
Network is down
Network is unreachable
Network dropped connection on reset
Software caused connection abort
Connection reset by peer
No buffer space available
Transport endpoint is already connected
Transport endpoint is not connected
Cannot send after transport endpoint shutdown
Too many references: cannot splice
Connection timed out
Connection refused
Host is down
No route to host
Operation already in progress
Operation now in progress
Stale file handle
Structure needs cleaning
Not a XENIX named type file
No XENIX semaphores available
Is a named type file
Remote I/O error
Disk quota exceeded
No medium found
Wrong medium type
Operation canceled
Required key not available
Key has expired
Key has been revoked
Key was rejected by service
Owner died
State not recoverable
Operation not possible due to RF-kill
Memory page has hardware error";

/// `gnu_get_libc_version` of gnu/libc-version.h. The standard library asks whether posix_spawn(3)
/// is one of those that report a failed execve(2), as all of musl's do.
#[unsafe(no_mangle)]
extern "C" fn hull_libc_version() -> *const c_char {
    c"2.24".as_ptr()
}

/// `_dl_find_object` of dlfcn.h, which libgcc's unwinder asks for tables: there are none.
#[unsafe(no_mangle)]
extern "C" fn hull_find_object(_address: *mut c_void, _found: *mut c_void) -> c_int {
    -1
}

/// `pthread_getattr_np` of pthread.h, which the standard library asks at the start where the stack
/// ends, so that it can tell an overflow from another fault. musl finds out by trying page for
/// page. Without an answer an overflow ends the program like other faults.
#[unsafe(no_mangle)]
extern "C" fn hull_thread_attributes(_thread: libc::pthread_t, _found: *mut c_void) -> c_int {
    libc::ENOSYS
}

/// strerror_r(3), the one of POSIX.
///
/// # Safety
/// `buffer` has room for `length` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn hull_strerror_r(number: c_int, buffer: *mut c_char, length: usize) -> c_int {
    let Some(room) = length.checked_sub(1) else {
        return libc::ERANGE;
    };
    let text = text(number);
    let fits = text.len().min(room);
    // SAFETY: at most `length` - 1 bytes of the caller's buffer, which is not part of the text.
    unsafe { std::ptr::copy_nonoverlapping(text.as_ptr().cast(), buffer, fits) };
    // SAFETY: the byte behind them, below `length`.
    unsafe { buffer.wrapping_add(fits).write(0) };
    if fits < text.len() { libc::ERANGE } else { 0 }
}

fn text(number: c_int) -> std::borrow::Cow<'static, str> {
    let known = usize::try_from(number).ok();
    let known = known.and_then(|n| TEXTS.split('\n').nth(n));
    match known.filter(|text| !text.is_empty()) {
        Some(text) => text.into(),
        None => format!("Unknown error {number}").into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The C library's own text, which is glibc's in a test.
    fn library(number: c_int) -> String {
        let text = std::io::Error::from_raw_os_error(number).to_string();
        let end = text.rfind(" (os error").unwrap();
        text[..end].to_owned()
    }

    #[test]
    fn every_number_has_the_text_of_glibc() {
        for number in -1..200 {
            let mut buffer = [1; 100];
            // SAFETY: the buffer is that long.
            let r = unsafe { hull_strerror_r(number, buffer.as_mut_ptr(), buffer.len()) };
            assert_eq!(r, 0);
            // SAFETY: it was ended by a zero.
            let text = unsafe { std::ffi::CStr::from_ptr(buffer.as_ptr()) };
            assert_eq!(text.to_str().unwrap(), library(number));
        }
    }

    #[test]
    fn a_text_that_does_not_fit_is_cut() {
        let mut buffer = [1; 4];
        // SAFETY: the buffer is that long.
        let r = unsafe { hull_strerror_r(libc::ENOENT, buffer.as_mut_ptr(), 3) };
        assert_eq!(r, libc::ERANGE);
        assert_eq!(buffer.map(c_char::cast_unsigned), [b'N', b'o', 0, 1]);
        // SAFETY: nothing is written.
        let r = unsafe { hull_strerror_r(libc::ENOENT, buffer.as_mut_ptr(), 0) };
        assert_eq!(r, libc::ERANGE);
    }
}
