//! SPDY/3.1: framing, header compression, flow control, streams over one connection.
//!
//! Peers in the field (those that use Go's spdystream) neither grant nor respect windows. So a
//! window is enforced on a peer that has shown that it knows of them, by a SETTINGS frame with an
//! initial window or by a WINDOW_UPDATE; any other peer is held by not reading from it.

mod dictionary;
pub mod frame;
pub mod headers;
mod session;
mod state;
mod stream;

pub use headers::Headers;
pub use session::{Incoming, Limits, Role, Session};
pub use stream::{ReadHalf, Stream, WriteHalf};

#[cfg(test)]
mod tests;
