//! Exec, attach and port-forward over SPDY/3.1 and WebSocket: server and client.

#![forbid(unsafe_code)]

pub mod backend;
mod error;
pub mod pump;
pub mod spdy;
pub mod token;

pub use backend::{AttachRequest, Backend, ExecRequest, PortForwardRequest, Size, Streams};
pub use error::Error;
