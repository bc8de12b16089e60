//! The metrics, in the format of Prometheus.

#![forbid(unsafe_code)]

mod metrics;
mod serve;

pub use metrics::Metrics;
pub use serve::serve;
