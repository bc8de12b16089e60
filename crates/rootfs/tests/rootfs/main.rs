//! The crate at its boundary: real namespaces, real mounts, checked from inside.

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
