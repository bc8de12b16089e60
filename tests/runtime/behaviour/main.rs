//! How an OCI runtime behaves: one module a topic.

mod devices;
mod exec;
mod filesystem;
mod hooks;
mod hooks_failing;
mod identity;
mod kill;
mod lifecycle;
mod listing;
mod mounts;
mod mounts_recursive;
mod namespaces;
mod passing;
mod process;
mod propagation;
mod run;
mod scheduling;
mod seccomp;
mod seccomp_notify;
mod sysctl;
mod terminal;
mod user_namespaces;
