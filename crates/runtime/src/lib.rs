//! The life cycle of a container, as the OCI runtime specification defines it.
//!
//! Below this crate lie the parts that know nothing of each other: `spec` (documents and the
//! validated plan), `cgroup`, `rootfs`, `seccomp`, `sys`. Here they become create, start, exec,
//! kill and delete. Everything is synchronous and single-threaded: the process forks.
//!
//! Invariant: nothing here prints. Errors are values, warnings go through [`Warn`].

#![forbid(unsafe_code)]

// The container: its record on disk and its life.
mod error;
mod id;

// A process of it: identity, program, terminal, hooks.

// What is done to a living one.

pub use error::{Doing, Error, ErrorKind, Result};
pub use id::ContainerId;

/// Takes a warning: one line, without the program's name.
pub type Warn<'a> = &'a mut dyn FnMut(&str);
