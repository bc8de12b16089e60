//! The crate at its boundary: real namespaces, real mounts, checked from inside.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

mod attacks;
mod cgroups;
mod console;
mod fallbacks;
mod options;
mod placing;
mod propagation;
mod support;
mod userns;
mod usual;
