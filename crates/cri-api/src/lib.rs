//! The Kubernetes Container Runtime Interface, version 1: generated messages, client and server.

#![forbid(unsafe_code)]
