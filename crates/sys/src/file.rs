//! Calls about files that rustix lacks.

use std::os::fd::{AsRawFd as _, BorrowedFd};

/// sync_file_range(2) with SYNC_FILE_RANGE_WRITE: begins to write a range to disk and does not
/// wait. Only a hint, so that a failure is none.
pub fn start_writeback(fd: BorrowedFd<'_>, offset: u64, len: u64) {
    let (Ok(offset), Ok(len)) = (i64::try_from(offset), i64::try_from(len)) else {
        return;
    };
    // SAFETY: integers only; the descriptor is borrowed for the call.
    unsafe {
        libc::sync_file_range(fd.as_raw_fd(), offset, len, libc::SYNC_FILE_RANGE_WRITE);
    }
}
