//! The status page and the metrics.

#![forbid(unsafe_code)]
