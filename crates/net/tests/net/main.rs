//! The network on the real kernel: a machine, a world behind its uplink, pods; all of them
//! network namespaces of the test's own.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod builtin;
mod cni;
mod crash;
mod guard;
mod lab;
mod ports;
mod watch;
