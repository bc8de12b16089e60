//! WebSocket: channels of exec, attach and port-forward, and SPDY tunnelled inside.

pub mod channels;
pub mod tunnel;

use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

/// The largest message taken: what crosses the wire at once stays small.
const LARGEST: usize = 1 << 20;

/// How channels are written into messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    /// Text messages with a digit and base64, else binary ones with a byte.
    pub base64: bool,
    /// The outcome is JSON (version 4 and later).
    pub json_status: bool,
    /// Channels can be closed one by one (version 5).
    pub can_close: bool,
}

/// Subprotocols of exec and attach, and how each writes.
const REMOTE: &[(&str, Format)] = &[
    ("v5.channel.k8s.io", format(false, true, true)),
    ("v4.channel.k8s.io", format(false, true, false)),
    ("v4.base64.channel.k8s.io", format(true, true, false)),
    ("channel.k8s.io", format(false, false, false)),
    ("base64.channel.k8s.io", format(true, false, false)),
    ("", format(false, false, false)),
];

/// Subprotocols of port-forward by channels.
const FORWARD: &[(&str, Format)] = &[
    ("v4.channel.k8s.io", format(false, false, false)),
    ("v4.base64.channel.k8s.io", format(true, false, false)),
    ("", format(false, false, false)),
];

/// Subprotocols of port-forward by SPDY inside.
pub const TUNNEL: &[&str] = &["SPDY/3.1+portforward.k8s.io", "v2.portforward.k8s.io"];

const fn format(base64: bool, json_status: bool, can_close: bool) -> Format {
    Format {
        base64,
        json_status,
        can_close,
    }
}

/// The format of a subprotocol of exec and attach.
#[must_use]
pub fn remote_format(protocol: &str) -> Option<Format> {
    find(REMOTE, protocol)
}

/// The format of a subprotocol of port-forward by channels.
#[must_use]
pub fn forward_format(protocol: &str) -> Option<Format> {
    find(FORWARD, protocol)
}

fn find(table: &[(&str, Format)], protocol: &str) -> Option<Format> {
    let found = table.iter().find(|(name, _)| *name == protocol);
    found.map(|(_, format)| *format)
}

/// Bounds of messages.
#[must_use]
pub fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(16 << 10)
        .write_buffer_size(0)
        .max_write_buffer_size(2 * LARGEST)
        .max_message_size(Some(LARGEST))
        .max_frame_size(Some(LARGEST))
}
