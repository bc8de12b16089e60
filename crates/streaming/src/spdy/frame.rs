//! Frames to and from bytes; pure.

use bytes::{Buf, BufMut, BytesMut};

/// Head of every frame.
pub const HEAD: usize = 8;
/// The longest control frame taken: header blocks of this use have a few hundred bytes.
pub const LONGEST_CONTROL: u32 = 64 << 10;
/// The end of a stream's half.
pub const FIN: u8 = 1;
/// SYN_STREAM: the other half does not exist.
pub const UNIDIRECTIONAL: u8 = 2;
/// The setting that matters here.
pub const SETTING_INITIAL_WINDOW: u32 = 7;

const VERSION: u16 = 3;
const ID_MASK: u32 = 0x7fff_ffff;
const LENGTH_MASK: u32 = 0x00ff_ffff;

/// Reasons in RST_STREAM.
pub mod status {
    /// Broken rules.
    pub const PROTOCOL_ERROR: u32 = 1;
    /// No such stream.
    pub const INVALID_STREAM: u32 = 2;
    /// Refused before anything was done.
    pub const REFUSED_STREAM: u32 = 3;
    /// Not wanted any more.
    pub const CANCEL: u32 = 5;
    /// More was sent than the window allows.
    pub const FLOW_CONTROL_ERROR: u32 = 7;
}

/// What the first eight bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// `length` bytes for a stream follow.
    Data {
        /// The stream.
        id: u32,
        /// [`FIN`] or nothing.
        flags: u8,
        /// Bytes that follow.
        length: u32,
    },
    /// A control frame's payload follows.
    Control {
        /// Its type.
        kind: u16,
        /// Its flags.
        flags: u8,
        /// Bytes that follow.
        length: u32,
    },
}

/// A control frame. Header blocks are still compressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control<'b> {
    /// Opens a stream.
    SynStream {
        /// The new stream.
        id: u32,
        /// [`FIN`], [`UNIDIRECTIONAL`].
        flags: u8,
        /// Compressed headers.
        block: &'b [u8],
    },
    /// Accepts a stream.
    SynReply {
        /// Which.
        id: u32,
        /// [`FIN`] or nothing.
        flags: u8,
        /// Compressed headers.
        block: &'b [u8],
    },
    /// Ends a stream at once.
    RstStream {
        /// Which.
        id: u32,
        /// Why, see [`status`].
        status: u32,
    },
    /// Properties of the connection, as (id, value).
    Settings(Vec<(u32, u32)>),
    /// To be sent back.
    Ping(u32),
    /// No more streams.
    GoAway {
        /// The last stream that was accepted.
        last: u32,
        /// Why.
        status: u32,
    },
    /// More headers.
    Headers {
        /// Of which stream.
        id: u32,
        /// [`FIN`] or nothing.
        flags: u8,
        /// Compressed headers.
        block: &'b [u8],
    },
    /// More may be sent.
    WindowUpdate {
        /// On which stream; 0 is the connection.
        id: u32,
        /// Bytes.
        delta: u32,
    },
    /// A type that nobody uses: to be skipped, says the protocol.
    Unknown(u16),
}

/// Reads a head.
///
/// # Errors
/// Another version; a control frame that is too long.
pub fn head(bytes: [u8; HEAD]) -> Result<Head, String> {
    let mut bytes = &bytes[..];
    let first = bytes.get_u32();
    let second = bytes.get_u32();
    let [flags, ..] = second.to_be_bytes();
    let length = second & LENGTH_MASK;
    if first & !ID_MASK == 0 {
        return Ok(Head::Data {
            id: first,
            flags,
            length,
        });
    }
    let [high, low, kind @ ..] = first.to_be_bytes();
    let version = u16::from_be_bytes([high & 0x7f, low]);
    let kind = u16::from_be_bytes(kind);
    if version != VERSION {
        return Err(format!("version {version} of the protocol, 3 is needed"));
    }
    if length > LONGEST_CONTROL {
        return Err(format!(
            "a control frame of {length} bytes, {LONGEST_CONTROL} are allowed"
        ));
    }
    Ok(Head::Control {
        kind,
        flags,
        length,
    })
}

/// Reads a control frame's payload.
///
/// # Errors
/// A length that does not fit the type, an id of zero where a stream is needed.
pub fn control(kind: u16, flags: u8, payload: &[u8]) -> Result<Control<'_>, String> {
    let mut rest = payload;
    // The fixed part that every type begins with, and whether a header block may follow.
    let (fixed, open) = match kind {
        1 => (10, true),
        2 | 8 => (4, true),
        3 | 7 | 9 => (8, false),
        4 => (4, true),
        6 => (4, false),
        other => return Ok(Control::Unknown(other)),
    };
    if rest.len() < fixed || (rest.len() > fixed && !open) {
        return Err(wrong_length(kind, payload.len()));
    }
    if matches!(kind, 4 | 6) {
        return match kind {
            6 => Ok(Control::Ping(rest.get_u32())),
            _ => settings(rest).ok_or_else(|| wrong_length(kind, payload.len())),
        };
    }
    let id = rest.get_u32() & ID_MASK;
    if id == 0 && !matches!(kind, 7 | 9) {
        return Err(format!("a control frame of type {kind} for stream 0"));
    }
    Ok(match kind {
        1 => Control::SynStream {
            id,
            flags,
            block: &rest[6..],
        },
        2 => Control::SynReply {
            id,
            flags,
            block: rest,
        },
        3 => Control::RstStream {
            id,
            status: rest.get_u32(),
        },
        7 => Control::GoAway {
            last: id,
            status: rest.get_u32(),
        },
        8 => Control::Headers {
            id,
            flags,
            block: rest,
        },
        _ => Control::WindowUpdate {
            id,
            delta: rest.get_u32() & ID_MASK,
        },
    })
}

fn settings(mut rest: &[u8]) -> Option<Control<'_>> {
    let count = usize::try_from(rest.get_u32()).ok()?;
    if rest.len() != count.checked_mul(8)? {
        return None;
    }
    let mut entries = Vec::with_capacity(count);
    while rest.has_remaining() {
        entries.push((rest.get_u32() & LENGTH_MASK, rest.get_u32()));
    }
    Some(Control::Settings(entries))
}

fn wrong_length(kind: u16, length: usize) -> String {
    format!("a control frame of type {kind} with {length} bytes")
}

fn control_head(out: &mut BytesMut, kind: u16, flags: u8, length: usize) {
    out.put_u16(0x8000 | VERSION);
    out.put_u16(kind);
    put_length(out, flags, length);
}

/// Callers keep lengths below 2^24.
fn put_length(out: &mut BytesMut, flags: u8, length: usize) {
    let length = u32::try_from(length).unwrap_or(LENGTH_MASK) & LENGTH_MASK;
    out.put_u32(u32::from(flags) << 24 | length);
}

/// Appends a frame. Header blocks come compressed and shorter than [`LONGEST_CONTROL`].
pub fn put(out: &mut BytesMut, frame: &Control<'_>) {
    match frame {
        Control::SynStream { id, flags, block } => {
            control_head(out, 1, *flags, 10 + block.len());
            out.put_u32(*id);
            out.put_bytes(0, 6);
            out.put_slice(block);
        }
        Control::SynReply { id, flags, block } => {
            control_head(out, 2, *flags, 4 + block.len());
            out.put_u32(*id);
            out.put_slice(block);
        }
        Control::RstStream { id, status } => pair(out, 3, *id, *status),
        Control::Settings(entries) => {
            control_head(out, 4, 0, 4 + entries.len() * 8);
            out.put_u32(u32::try_from(entries.len()).unwrap_or(0));
            for (id, value) in entries {
                out.put_u32(id & LENGTH_MASK);
                out.put_u32(*value);
            }
        }
        Control::Ping(id) => {
            control_head(out, 6, 0, 4);
            out.put_u32(*id);
        }
        Control::GoAway { last, status } => pair(out, 7, *last, *status),
        Control::Headers { id, flags, block } => {
            control_head(out, 8, *flags, 4 + block.len());
            out.put_u32(*id);
            out.put_slice(block);
        }
        Control::WindowUpdate { id, delta } => pair(out, 9, *id, *delta),
        Control::Unknown(kind) => control_head(out, *kind, 0, 0),
    }
}

fn pair(out: &mut BytesMut, kind: u16, first: u32, second: u32) {
    control_head(out, kind, 0, 8);
    out.put_u32(first);
    out.put_u32(second);
}

/// Appends a data frame of less than 2^24 bytes.
pub fn put_data(out: &mut BytesMut, id: u32, flags: u8, data: &[u8]) {
    out.reserve(HEAD + data.len());
    out.put_u32(id & ID_MASK);
    put_length(out, flags, data.len());
    out.put_slice(data);
}
