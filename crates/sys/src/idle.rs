//! A program that has nothing to do for a while gives back what it does not need then.

use std::ffi::c_void;

use crate::exe::segments;

/// Gives freed heap and the mapped pages of our own code back to the kernel. What is needed again
/// comes back from the page cache by itself.
pub fn release() {
    // SAFETY: touches free memory of the C library's allocator only.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0)
    };
    // Last: each function that runs afterwards brings pages back.
    for segment in segments().0.iter().filter(|s| !s.is_writable()) {
        let start = segment.start as *mut c_void;
        // SAFETY: a constant segment is a private mapping of the executable that was never
        // written to; the next access finds the same bytes of the same file.
        let _ = unsafe { libc::madvise(start, segment.length, libc::MADV_DONTNEED) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_on_with_all_it_had() {
        let kept = vec![7_u8; 100_000];
        release();
        assert!(kept.iter().all(|&b| b == 7));
        let text = std::fs::read_to_string("/proc/self/status").unwrap();
        assert!(text.starts_with("Name:"));
    }
}
