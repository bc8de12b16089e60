//! A program that has nothing to do for a while gives back what it does not need then.

use std::ffi::c_void;
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::mm::{Advice, madvise};

use crate::exe::segments;
use crate::{Context as _, Errno, Result};

/// Constant segments that a program may have; more are left alone.
const MOST_SEGMENTS: usize = 4;

/// Lets all threads of this program allocate from at most `most` heaps. The C library would make eight
/// for each processor, and each keeps what was freed in it: where many threads take turns at short
/// work, that is most of a daemon's memory.
pub fn few_heaps(most: i32) {
    // SAFETY: sets a number of the C library's allocator, which locks itself.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, most)
    };
}

/// Gives freed heap back to the kernel.
pub fn trim() {
    // SAFETY: touches free memory of the C library's allocator only, which locks itself.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0)
    };
}

/// Gives the mapped pages of our own code back to the kernel, and waits until `fd` is readable.
/// What is needed then comes back from the page cache by itself.
///
/// # Errors
/// poll(2)'s.
pub fn rest(fd: impl AsFd) -> Result<()> {
    let mut ranges = [(std::ptr::null_mut::<c_void>(), 0); MOST_SEGMENTS];
    let all = segments().0;
    let constant = all.iter().filter(|s| !s.is_writable());
    for (range, segment) in ranges.iter_mut().zip(constant) {
        *range = (segment.start as *mut c_void, segment.length);
    }
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    // From here to the end of the wait all code is in this function: each other one would bring
    // sixteen pages back, and they would stay.
    for (start, length) in ranges {
        // SAFETY: a constant segment is a private mapping of the executable that was never
        // written to; the next access finds the same bytes of the same file.
        let _ = unsafe { madvise(start, length, Advice::LinuxDontNeed) };
    }
    match poll(&mut fds, None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(e) => Err(e).context("poll", || "POLLIN"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn goes_on_with_all_it_had() {
        let kept = vec![7_u8; 100_000];
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(b"x").unwrap();
        rest(&reader).unwrap();
        assert!(kept.iter().all(|&b| b == 7));
        let text = std::fs::read_to_string("/proc/self/status").unwrap();
        assert!(text.starts_with("Name:"));
    }
}
