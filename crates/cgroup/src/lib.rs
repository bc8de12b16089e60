//! Control groups of one container: version 1, version 2 and both beside each other (hybrid),
//! driven through their files.
//!
//! [`Manager`] is the whole interface: it resolves `linux.cgroupsPath`, makes the groups, applies
//! `linux.resources`, freezes, kills, counts and removes. [`Joiner`] is what the container's
//! first process takes along to enter them.
//!
//! On a hybrid machine a container is in every version 1 hierarchy and in the unified tree too:
//! that one gives pressure, a kill without a race, and a freezer that can be killed, at the price
//! of one directory.
//!
//! Invariants: only the container's own directory and the hand-down of controllers on the way to
//! it are ever written; nothing is cached across calls but descriptors; no function waits without
//! a limit.

#![forbid(unsafe_code)]

mod check;
mod control;
mod create;
mod devices;
mod dir;
mod error;
mod exec;
mod join;
mod layout;
mod leaf;
mod manager;
mod mounts;
mod oom;
mod parse;
mod path;
mod policy;
mod scoped;
pub mod stats;
mod systemd;
mod v1;
mod v2;

pub use error::{Error, ErrorKind, Result};
pub use exec::SubCgroups;
pub use join::Joiner;
pub use layout::{Hierarchy, Layout, MOUNT_ROOT, Mode, is_cgroup2};
pub use manager::{Manager, Request, State};
pub use mounts::{HierarchyMount, MountLayout};
pub use oom::{OomEvent, OomWatch};
pub use policy::Policy;
pub use scoped::SystemdRequest;
