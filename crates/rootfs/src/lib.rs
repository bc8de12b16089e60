//! A container's root file system: mounts, devices, masks, pivot.
//!
//! The order of calls, in the container's init, single-threaded and already in its namespaces:
//!
//! 1. (parent, before the clone) [`open_sources`]: what needs the host's rights.
//! 2. [`prepare`]: propagation, the root as a mount of its own, all mounts, devices.
//! 3. [`Prepared::open_terminal`], [`Prepared::bind_console`] where there is a terminal; hooks of
//!    `createContainer`.
//! 4. [`Prepared::pivot`].
//! 5. [`Prepared::finish`]: kernel parameters, masks, read-only paths, read-only root.
//!
//! Invariants. A path inside the container is only ever a lookup in [`Root`]; what is mounted is
//! attached by descriptor to a descriptor. Nothing is believed because of its path: a procfs, a
//! devpts, a device are recognised by the kernel's own numbers for them. `prepare` and later steps
//! leave the working directory at the root and the umask at 0: the identity code sets both.

#![forbid(unsafe_code)]

mod bind;
mod cgroup;
mod console;
mod copyup;
mod devices;
mod error;
mod filesystem;
mod idmap;
mod masks;
mod mounter;
mod mounts;
mod pivot;
mod prepare;
mod procfs;
mod root;
mod sources;

pub use cgroup::{CgroupLayout, Hierarchy};
pub use console::{Terminal, open_terminal};
pub use error::{Error, ErrorKind, Result};
pub use idmap::user_namespace;
pub use prepare::{Context, Prepared, prepare};
pub use procfs::Procfs;
pub use root::{Last, Root, Want};
pub use sources::{Sources, open_sources};
