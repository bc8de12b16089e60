//! How an OCI runtime behaves: one module a topic.

mod devices;
mod filesystem;
mod mounts;
mod mounts_recursive;
mod namespaces;
mod propagation;
mod user_namespaces;
