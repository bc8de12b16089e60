//! Generated files.

pub(crate) mod syscalls;
