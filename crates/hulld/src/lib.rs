//! hulld, a Kubernetes CRI runtime.

#![forbid(unsafe_code)]
