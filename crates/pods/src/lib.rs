//! Pods and containers as state machines, and their journal.
//!
//! Invariant: no gRPC here.

#![forbid(unsafe_code)]
