//! D-Bus messages (D-Bus specification, "Message Format"). Pure.

use super::value::{Value, signature_of};
use super::wire::{Malformed, Reader, Writer};

/// Longest message that is read; the specification allows 128 MiB, systemd's answers to us have
/// some hundred bytes.
pub(crate) const MAX_MESSAGE: usize = 1 << 20;

/// Bytes of a header that tell how long the message is.
pub(crate) const PROLOGUE: usize = 16;

/// What a message is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Call = 1,
    Return = 2,
    Error = 3,
    Signal = 4,
}

/// One message. Empty strings and 0 are absent fields.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Message {
    pub(crate) kind: Kind,
    pub(crate) serial: u32,
    /// The call that this is the answer to.
    pub(crate) reply_to: u32,
    pub(crate) path: String,
    pub(crate) interface: String,
    pub(crate) member: String,
    pub(crate) error: String,
    pub(crate) destination: String,
    pub(crate) body: Vec<Value>,
}

// Codes of header fields.
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

impl Message {
    /// A message of a kind, with nothing in it.
    pub(crate) fn new(kind: Kind) -> Self {
        Self {
            kind,
            serial: 0,
            reply_to: 0,
            path: String::new(),
            interface: String::new(),
            member: String::new(),
            error: String::new(),
            destination: String::new(),
            body: Vec::new(),
        }
    }

    /// The bytes to send.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut body = Writer::default();
        self.body.iter().for_each(|v| body.value(v));
        let body = body.bytes;
        let mut w = Writer::default();
        // Little-endian, kind, no flags, protocol version 1.
        w.bytes.extend([b'l', self.kind as u8, 0, 1]);
        w.value(&Value::U32(u32::try_from(body.len()).unwrap_or(u32::MAX)));
        w.value(&Value::U32(self.serial));
        w.value(&Value::Array("(yv)".into(), self.fields()));
        w.align(8);
        w.bytes.extend(body);
        w.bytes
    }

    fn fields(&self) -> Vec<Value> {
        let field =
            |code, value| Value::Struct(vec![Value::Byte(code), Value::Variant(Box::new(value))]);
        let mut fields = Vec::new();
        if !self.path.is_empty() {
            fields.push(field(PATH, Value::Path(self.path.clone())));
        }
        for (code, text) in [
            (INTERFACE, &self.interface),
            (MEMBER, &self.member),
            (ERROR_NAME, &self.error),
            (DESTINATION, &self.destination),
        ] {
            if !text.is_empty() {
                fields.push(field(code, Value::Str(text.clone())));
            }
        }
        if self.reply_to != 0 {
            fields.push(field(REPLY_SERIAL, Value::U32(self.reply_to)));
        }
        if !self.body.is_empty() {
            let signature = signature_of(&self.body);
            fields.push(field(SIGNATURE, Value::Signature(signature)));
        }
        fields
    }

    /// Reads one whole message.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let big_endian = is_big_endian(bytes)?;
        let kind = match bytes.get(1) {
            Some(1) => Kind::Call,
            Some(2) => Kind::Return,
            Some(3) => Kind::Error,
            Some(4) => Kind::Signal,
            _ => return Err("unknown kind of message"),
        };
        if bytes.get(3) != Some(&1) {
            return Err("unknown version of the protocol");
        }
        let mut message = Self::new(kind);
        let mut header = Reader::new(bytes, big_endian);
        // Endianness, kind, flags and version are four bytes that have been seen.
        header.u32()?;
        let body_len = usize::try_from(header.u32()?).map_err(|_| "a length overflows")?;
        message.serial = header.u32()?;
        let fields = header.values("a(yv)")?;
        header.align(8)?;
        let signature = message.take_fields(fields)?;
        let body = bytes.get(header.position()..).unwrap_or_default();
        if body.len() != body_len {
            return Err("the body's length is wrong");
        }
        // The header is padded to 8, so alignment may count from the body's start.
        let mut body = Reader::new(body, big_endian);
        message.body = body.values(&signature)?;
        if body.position() != body_len {
            return Err("the body is longer than its signature says");
        }
        Ok(message)
    }

    /// Takes what we use from the header's fields, and returns the signature.
    fn take_fields(&mut self, fields: Vec<Value>) -> Result<String, Malformed> {
        let mut signature = String::new();
        let Some(Value::Array(_, fields)) = fields.into_iter().next() else {
            return Err("no header fields");
        };
        for field in fields {
            let Value::Struct(pair) = field else { continue };
            let mut pair = pair.into_iter();
            let (Some(Value::Byte(code)), Some(Value::Variant(value))) = (pair.next(), pair.next())
            else {
                continue;
            };
            match (code, *value) {
                (PATH, Value::Path(s)) => self.path = s,
                (INTERFACE, Value::Str(s)) => self.interface = s,
                (MEMBER, Value::Str(s)) => self.member = s,
                (ERROR_NAME, Value::Str(s)) => self.error = s,
                (DESTINATION, Value::Str(s)) => self.destination = s,
                (REPLY_SERIAL, Value::U32(n)) => self.reply_to = n,
                (SIGNATURE, Value::Signature(s)) => signature = s,
                (PATH..=SIGNATURE, Value::Str(_)) | (9.., _) => {}
                _ => return Err("a header field has the wrong type"),
            }
        }
        Ok(signature)
    }

    /// The text of an argument, if it is one.
    pub(crate) fn text(&self, index: usize) -> &str {
        self.body
            .get(index)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }
}

/// The length of the whole message that starts with these [`PROLOGUE`] bytes.
pub(crate) fn message_len(prologue: &[u8; PROLOGUE]) -> Result<usize, Malformed> {
    let big_endian = is_big_endian(prologue)?;
    let mut r = Reader::new(prologue, big_endian);
    r.u32()?;
    let body = r.u32()?;
    r.u32()?;
    let fields = r.u32()?;
    let lens = usize::try_from(body).ok().zip(usize::try_from(fields).ok());
    let total = lens.and_then(|(body, fields)| {
        let header = PROLOGUE.checked_add(fields)?.checked_next_multiple_of(8)?;
        header.checked_add(body)
    });
    match total {
        Some(total) if total <= MAX_MESSAGE => Ok(total),
        _ => Err("a message is too long"),
    }
}

fn is_big_endian(bytes: &[u8]) -> Result<bool, Malformed> {
    match bytes.first() {
        Some(b'l') => Ok(false),
        Some(b'B') => Ok(true),
        _ => Err("unknown endianness"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::systemd::wire::tests::any_value;

    #[test]
    fn hello_byte_by_byte() {
        let mut hello = Message::new(Kind::Call);
        hello.serial = 1;
        hello.path = "/org/freedesktop/DBus".into();
        hello.interface = "org.freedesktop.DBus".into();
        hello.member = "Hello".into();
        hello.destination = "org.freedesktop.DBus".into();
        let want = b"l\x01\0\x01\0\0\0\0\x01\0\0\0\x6e\0\0\0\
            \x01\x01o\0\x15\0\0\0/org/freedesktop/DBus\0\0\0\
            \x02\x01s\0\x14\0\0\0org.freedesktop.DBus\0\0\0\0\
            \x03\x01s\0\x05\0\0\0Hello\0\0\0\
            \x06\x01s\0\x14\0\0\0org.freedesktop.DBus\0\0\0\0";
        let got = hello.encode();
        // The array's length: up to the last field's last byte, without the header's padding.
        assert_eq!(got.len(), want.len());
        let want_without_len: Vec<u8> = [&want[..12], &got[12..16], &want[16..]].concat();
        assert_eq!(got, want_without_len);
        assert_eq!(
            message_len(got[..16].try_into().unwrap()).unwrap(),
            got.len()
        );
        assert_eq!(Message::decode(&got).unwrap(), hello);
    }

    proptest! {
        #[test]
        fn there_and_back(
            body in prop::collection::vec(any_value(), 0..3),
            serial in 1_u32..,
            reply_to in any::<u32>(),
            member in "[A-Z][a-z]{0,9}",
        ) {
            let mut m = Message::new(Kind::Return);
            (m.serial, m.reply_to, m.member, m.body) = (serial, reply_to, member, body);
            let bytes = m.encode();
            prop_assert_eq!(message_len(bytes[..16].try_into().unwrap()).unwrap(), bytes.len());
            prop_assert_eq!(Message::decode(&bytes).unwrap(), m);
        }

        #[test]
        fn no_bytes_make_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 16..128)) {
            bytes[0] = b'l';
            bytes[1] = 4;
            bytes[3] = 1;
            let _ = message_len(bytes[..16].try_into().unwrap());
            let _ = Message::decode(&bytes);
        }
    }
}
