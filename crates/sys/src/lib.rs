//! The kernel's edge: the only crate of hull that may hold `unsafe` code.
//!
//! What rustix offers safely is used from rustix directly by everyone; this crate adds the calls
//! that rustix lacks (one function a call), the error type that names a failed call like a line
//! of strace, the switch that fakes a missing call ([`knob`]), and the recorder behind
//! `--explain` ([`trace`]).
//!
//! Invariant: no policy lives here. A function makes one system call, with checked arguments.

#![allow(unsafe_code)]

pub mod bpf;
mod error;
mod exe;
pub mod file;
pub mod heap;
pub mod idle;
pub mod keyring;
pub mod knob;
pub mod loopback;
pub mod mount;
mod musl;
pub mod namespace;
pub mod netlink;
pub mod nsfs;
pub mod path;
pub mod pidfd;
pub mod process;
pub mod sched;
pub mod seal;
pub mod seccomp;
pub mod signal;
pub mod trace;
pub mod usage;

pub use error::{Context, ErrnoText, Error, Result};
pub use rustix::io::Errno;
