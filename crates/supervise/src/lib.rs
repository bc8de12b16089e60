//! The supervisor of a pod: parent and subreaper of all its processes.
//!
//! Invariant: one thread, epoll, no async runtime.

#![forbid(unsafe_code)]
