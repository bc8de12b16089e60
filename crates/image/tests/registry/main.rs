//! Registries: Debian's docker-registry on loopback, and a faulty one of our own.

#![allow(clippy::unwrap_used, clippy::panic)]

mod access;
mod faults;
mod referrers;
mod server;
mod store;
mod support;
mod transfers;
