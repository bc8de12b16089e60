//! How messages and attributes are laid out.

use rustix::io::Errno;

use super::{HEADER, NLM_F_REQUEST};
use crate::{Error, Result};

/// Set in the type of an attribute that holds attributes.
const NLA_F_NESTED: u16 = 0x8000;
/// Set in the type of an attribute whose number is in network byte order.
const NLA_F_NET_BYTEORDER: u16 = 0x4000;

/// Attributes in the making.
///
/// The length of an attribute has 16 bits: one that does not fit is refused when the request is
/// encoded, never cut short (CVE-2021-43784).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Attributes {
    bytes: Vec<u8>,
    too_long: Option<(u16, usize)>,
}

impl Attributes {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// None yet, behind a fixed part (as in `VETH_INFO_PEER`).
    #[must_use]
    pub fn behind(fixed: &[u8]) -> Self {
        let mut bytes = fixed.to_vec();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        Self {
            bytes,
            too_long: None,
        }
    }

    /// Bytes as they are.
    #[must_use]
    pub fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        let Ok(length) = u16::try_from(value.len() + 4) else {
            self.too_long.get_or_insert((kind, value.len()));
            return self;
        };
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    /// A C string.
    #[must_use]
    pub fn string(self, kind: u16, value: &str) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes)
    }

    /// A byte.
    #[must_use]
    pub fn u8(self, kind: u16, value: u8) -> Self {
        self.bytes(kind, &[value])
    }

    /// Sixteen bits in network byte order.
    #[must_use]
    pub fn be16(self, kind: u16, value: u16) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Thirty-two bits in the machine's byte order.
    #[must_use]
    pub fn u32(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// Thirty-two bits in network byte order.
    #[must_use]
    pub fn be32(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Attributes in an attribute.
    #[must_use]
    pub fn nest(mut self, kind: u16, inner: &Self) -> Self {
        self.too_long = self.too_long.or(inner.too_long);
        self.bytes(kind | NLA_F_NESTED, &inner.bytes)
    }

    /// How many bytes they are so far.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The bytes, for a comparison.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// A request in the making.
#[derive(Clone, Debug)]
pub struct Request {
    kind: u16,
    flags: u16,
    body: Attributes,
    /// What it is for, for errors.
    what: String,
}

impl Request {
    /// A request of a message type, `NLM_F_…` flags, and what it is for, in an error's words.
    pub fn new(kind: u16, flags: u16, what: impl Into<String>) -> Self {
        Self {
            kind,
            flags: flags | NLM_F_REQUEST,
            body: Attributes::new(),
            what: what.into(),
        }
    }

    /// The fixed part that stands before attributes.
    #[must_use]
    pub fn fixed(mut self, bytes: &[u8]) -> Self {
        self.body = Attributes::behind(bytes);
        self
    }

    /// `struct ifinfomsg`: sets the flags in `change` to those in `flags`.
    #[must_use]
    pub fn link(self, index: u32, flags: u32, change: u32) -> Self {
        let mut bytes = [0; 16];
        for (slot, field) in bytes
            .chunks_exact_mut(4)
            .skip(1)
            .zip([index, flags, change])
        {
            slot.copy_from_slice(&field.to_ne_bytes());
        }
        self.fixed(&bytes)
    }

    /// `struct ifaddrmsg`.
    #[must_use]
    pub fn address(self, family: u8, prefix: u8, scope: u8, index: u32) -> Self {
        let [a, b, c, d] = index.to_ne_bytes();
        self.fixed(&[family, prefix, 0, scope, a, b, c, d])
    }

    /// One attribute.
    #[must_use]
    pub fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        self.body = self.body.bytes(kind, value);
        self
    }

    /// An attribute that is a C string.
    #[must_use]
    pub fn string(mut self, kind: u16, value: &str) -> Self {
        self.body = self.body.string(kind, value);
        self
    }

    /// An attribute that is a number of 32 bits.
    #[must_use]
    pub fn u32(mut self, kind: u16, value: u32) -> Self {
        self.body = self.body.u32(kind, value);
        self
    }

    /// Attributes that were made apart.
    #[must_use]
    pub fn all(mut self, list: &Attributes) -> Self {
        self.body.too_long = self.body.too_long.or(list.too_long);
        self.body.bytes.extend(&list.bytes);
        self
    }

    /// An attribute that holds attributes.
    #[must_use]
    pub fn nest(mut self, kind: u16, inner: &Attributes) -> Self {
        self.body = self.body.nest(kind, inner);
        self
    }

    /// Asks for an acknowledgement.
    #[must_use]
    pub fn acknowledged(mut self) -> Self {
        self.flags |= super::NLM_F_ACK;
        self
    }

    /// What it is for.
    #[must_use]
    pub fn what(&self) -> &str {
        &self.what
    }

    /// How many bytes it is, with its header.
    #[must_use]
    pub fn size(&self) -> usize {
        self.body.size() + HEADER
    }

    /// Whether an answer will come.
    pub(super) fn is_acknowledged(&self) -> bool {
        self.flags & super::NLM_F_ACK != 0
    }

    /// The message as the kernel reads it.
    ///
    /// # Errors
    /// EMSGSIZE for an attribute that does not fit its length.
    pub fn encode(&self, sequence: u32) -> Result<Vec<u8>> {
        if let Some((kind, length)) = self.body.too_long {
            let text = format!("{}: attribute {kind} of {length} bytes", self.what);
            return Err(Error::new("netlink", text, Errno::MSGSIZE));
        }
        let length = u32::try_from(self.size())
            .map_err(|_| Error::new("netlink", self.what.as_str(), Errno::MSGSIZE))?;
        let mut bytes = Vec::with_capacity(self.size());
        bytes.extend(length.to_ne_bytes());
        bytes.extend(self.kind.to_ne_bytes());
        bytes.extend(self.flags.to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend(0_u32.to_ne_bytes());
        bytes.extend(&self.body.bytes);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        Ok(bytes)
    }
}

/// A message from the kernel.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Message {
    /// Its type.
    pub kind: u16,
    /// Its flags.
    pub flags: u16,
    /// Which request it answers; 0 for news.
    pub sequence: u32,
    /// What follows the header.
    pub body: Vec<u8>,
}

/// The messages in what one read brought. Ends at the first that is not whole.
#[must_use]
pub fn split(mut bytes: &[u8]) -> Vec<Message> {
    let mut messages = Vec::new();
    while let (Some(length), Some(kind), Some(flags), Some(sequence)) = (
        u32_at(bytes, 0),
        u16_at(bytes, 4),
        u16_at(bytes, 6),
        u32_at(bytes, 8),
    ) {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let Some(body) = bytes.get(HEADER..length) else {
            break;
        };
        messages.push(Message {
            kind,
            flags,
            sequence,
            body: body.to_vec(),
        });
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    messages
}

/// The attributes behind the fixed part of a message, which is `fixed` bytes long. The flags in
/// an attribute's type are taken off. Ends at the first that is not whole.
#[must_use]
pub fn attributes(body: &[u8], fixed: usize) -> Vec<(u16, &[u8])> {
    let mut rest = body.get(fixed..).unwrap_or_default();
    let mut list = Vec::new();
    while let (Some(length), Some(kind)) = (u16_at(rest, 0), u16_at(rest, 2)) {
        let length = usize::from(length);
        let Some(value) = rest.get(4..length) else {
            break;
        };
        list.push((kind & !(NLA_F_NESTED | NLA_F_NET_BYTEORDER), value));
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    list
}

/// Sixteen bits in the machine's byte order.
#[must_use]
pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let field = bytes.get(at..at.checked_add(2)?)?;
    field.try_into().ok().map(u16::from_ne_bytes)
}

/// Thirty-two bits in the machine's byte order.
#[must_use]
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(at..at.checked_add(4)?)?;
    field.try_into().ok().map(u32::from_ne_bytes)
}

/// Thirty-two bits in network byte order.
#[must_use]
pub fn be32_at(bytes: &[u8], at: usize) -> Option<u32> {
    u32_at(bytes, at).map(u32::from_be)
}

/// Thirty-two bits with a sign, in the machine's byte order.
#[must_use]
pub fn i32_at(bytes: &[u8], at: usize) -> Option<i32> {
    let field = bytes.get(at..at.checked_add(4)?)?;
    field.try_into().ok().map(i32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    #[test]
    fn a_request_is_laid_out_as_the_kernel_reads_it() {
        let request = Request::new(16, super::super::NLM_F_ACK, "test").link(7, 1, 1);
        let bytes = request.string(3, "eth0").encode(9).unwrap();
        assert_eq!(bytes.len(), 16 + 16 + 12);
        assert_eq!(u32_at(&bytes, 0), Some(44));
        assert_eq!((u16_at(&bytes, 4), u16_at(&bytes, 6)), (Some(16), Some(5)));
        assert_eq!(u32_at(&bytes, 20), Some(7));
        assert_eq!(attributes(&bytes[16..], 16), [(3, b"eth0\0".as_slice())]);
    }

    #[test]
    fn a_value_that_would_wrap_its_length_is_refused() {
        let inner = Attributes::new().bytes(1, &vec![0; 65_536]);
        for request in [
            Request::new(16, 0, "test").attribute(1, &vec![0; 65_536]),
            Request::new(16, 0, "test").nest(2, &Attributes::new().nest(3, &inner)),
        ] {
            let text = request.encode(1).unwrap_err().to_string();
            assert_eq!(
                text,
                "netlink(test: attribute 1 of 65536 bytes): message too long"
            );
        }
    }

    #[test]
    fn nests_are_read_as_they_are_written() {
        let inner = Attributes::new().be16(1, 80).u8(2, 6);
        let outer = Attributes::new().nest(4, &inner).be32(5, 9);
        let list = attributes(outer.as_bytes(), 0);
        assert_eq!(list.iter().map(|(k, _)| *k).collect::<Vec<_>>(), [4, 5]);
        assert_eq!(
            attributes(list[0].1, 0),
            [(1, [0, 80].as_slice()), (2, &[6])]
        );
        assert_eq!(be32_at(list[1].1, 0), Some(9));
    }

    proptest! {
        #[test]
        fn any_answer_is_survived(bytes in vec(any::<u8>(), 0..400)) {
            for message in split(&bytes) {
                let _ = attributes(&message.body, 16);
            }
            let _ = attributes(&bytes, 0);
        }

        #[test]
        fn what_is_written_is_read(values in vec((1_u16..50, vec(any::<u8>(), 0..40)), 0..6)) {
            let mut request = Request::new(18, 0, "test").link(1, 0, 0);
            for (kind, value) in &values {
                request = request.attribute(*kind, value);
            }
            let bytes = request.encode(5).unwrap();
            let messages = split(&bytes);
            prop_assert_eq!(messages.len(), 1);
            prop_assert_eq!(messages[0].sequence, 5);
            let read: Vec<(u16, Vec<u8>)> = attributes(&messages[0].body, 16)
                .into_iter().map(|(k, v)| (k, v.to_vec())).collect();
            prop_assert_eq!(read, values);
        }
    }
}
