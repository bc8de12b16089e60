//! The CRI: RuntimeService and ImageService over pods and images, and what the streaming server
//! serves.
//!
//! Thin by intent: it translates requests, errors and deadlines. What is done is in `pods` and
//! `image`.

#![forbid(unsafe_code)]

pub mod audit;
mod ends;
mod error;
mod images;
mod runtime;
mod streams;
mod transfer;

pub use images::ImageApi;
pub use runtime::RuntimeApi;
pub use streams::Pods;
