//! The network on the real kernel: a machine, a world behind its uplink, pods; all of them
//! network namespaces of the test's own.

mod builtin;
mod lab;
