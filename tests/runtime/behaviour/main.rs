//! How an OCI runtime behaves: one module a topic.

mod devices;
mod filesystem;
mod hooks;
mod hooks_failing;
mod identity;
mod mounts;
mod mounts_recursive;
mod namespaces;
mod process;
mod propagation;
mod scheduling;
mod seccomp;
mod seccomp_notify;
mod sysctl;
mod user_namespaces;
