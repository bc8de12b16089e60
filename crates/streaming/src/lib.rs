//! Exec, attach and port-forward over SPDY/3.1 and WebSocket: server and client.

#![forbid(unsafe_code)]

pub mod backend;
pub mod client;
mod error;
mod idle;
pub mod pump;
pub mod server;
pub mod spdy;
pub mod status;
mod tls;
pub mod token;
pub mod ws;

pub use backend::{AttachRequest, Backend, ExecRequest, PortForwardRequest, Size, Streams};
pub use error::Error;
