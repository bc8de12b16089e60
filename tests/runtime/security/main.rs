//! Known attacks on container runtimes, one module a class. Each test names what it comes from,
//! and has beside it a control: the same attack on something weak, so that the test is known to
//! be able to fail. All attacks stay in the case's own directory.

mod cgroups;
mod descriptors;
mod executable;
mod identity;
mod injection;
mod masks;
mod mount_targets;
mod procfs;
mod symlinks;
