//! The metrics, in the format of Prometheus, and the status page.

#![forbid(unsafe_code)]

mod metrics;
mod serve;
pub mod status;

pub use metrics::Metrics;
pub use serve::{Listener, Shown, serve};
