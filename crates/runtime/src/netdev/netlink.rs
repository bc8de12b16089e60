//! As much of rtnetlink(7) as it takes to move a device: messages are built and read by hand.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};
use sys::Context as _;

use crate::{Error, Result};

pub(super) const RTM_NEWLINK: u16 = 16;
pub(super) const RTM_GETLINK: u16 = 18;
pub(super) const RTM_NEWADDR: u16 = 20;
pub(super) const RTM_GETADDR: u16 = 22;

pub(super) const NLM_F_ACK: u16 = 0x4;
pub(super) const NLM_F_DUMP: u16 = 0x300;
pub(super) const NLM_F_REPLACE: u16 = 0x100;
pub(super) const NLM_F_CREATE: u16 = 0x400;
const NLM_F_REQUEST: u16 = 0x1;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;
/// Size of one read: the kernel fills at most 32 KiB for a dump (netlink(7)).
const BUFFER: usize = 32 * 1024;

/// A request in the making.
#[derive(Debug)]
pub(super) struct Request {
    kind: u16,
    flags: u16,
    body: Vec<u8>,
    /// What it is for, for errors.
    what: String,
}

impl Request {
    pub(super) fn new(kind: u16, flags: u16, what: impl Into<String>) -> Self {
        Self {
            kind,
            flags: flags | NLM_F_REQUEST,
            body: Vec::new(),
            what: what.into(),
        }
    }

    /// `struct ifinfomsg`: sets the flags in `change` to those in `flags`.
    pub(super) fn link(mut self, index: u32, flags: u32, change: u32) -> Self {
        self.body.extend([0; 4]);
        for field in [index, flags, change] {
            self.body.extend(field.to_ne_bytes());
        }
        self
    }

    /// `struct ifaddrmsg`.
    pub(super) fn address(mut self, family: u8, prefix: u8, scope: u8, index: u32) -> Self {
        self.body.extend([family, prefix, 0, scope]);
        self.body.extend(index.to_ne_bytes());
        self
    }

    /// One attribute. Its length has 16 bits: what does not fit is refused, never cut short
    /// (CVE-2021-43784).
    pub(super) fn attribute(mut self, kind: u16, value: &[u8]) -> Result<Self> {
        let length = u16::try_from(value.len() + 4).map_err(|_| {
            let text = format!(
                "{}: attribute {kind} of {} bytes is too long",
                self.what,
                value.len()
            );
            Error::Invalid(text)
        })?;
        self.body.extend(length.to_ne_bytes());
        self.body.extend(kind.to_ne_bytes());
        self.body.extend(value);
        self.body.resize(self.body.len().next_multiple_of(4), 0);
        Ok(self)
    }

    /// An attribute that is a C string.
    pub(super) fn string(self, kind: u16, value: &str) -> Result<Self> {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.attribute(kind, &bytes)
    }

    fn encode(&self, sequence: u32) -> Result<Vec<u8>> {
        let length = u32::try_from(self.body.len() + HEADER)
            .map_err(|_| Error::Invalid(format!("{}: request is too long", self.what)))?;
        let mut bytes = Vec::with_capacity(self.body.len() + HEADER);
        bytes.extend(length.to_ne_bytes());
        bytes.extend(self.kind.to_ne_bytes());
        bytes.extend(self.flags.to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend(0_u32.to_ne_bytes());
        bytes.extend(&self.body);
        Ok(bytes)
    }
}

/// A message from the kernel: its type, and what follows the header.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Message {
    pub(super) kind: u16,
    pub(super) body: Vec<u8>,
}

/// A socket for rtnetlink in the network namespace in which it was opened.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    pub(super) fn open() -> Result<Self> {
        let family = AddressFamily::NETLINK;
        // Without a protocol number it is NETLINK_ROUTE, which is 0.
        let socket = socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, None)
            .context("socket", || "AF_NETLINK, NETLINK_ROUTE")?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// Sends a request and reads its answer: the messages of a dump, the one object asked for, or
    /// nothing but the acknowledgement. The kernel's refusal is the error.
    pub(super) fn ask(&mut self, request: &Request) -> Result<Vec<Message>> {
        self.sequence = self.sequence.wrapping_add(1);
        let bytes = request.encode(self.sequence)?;
        send(&self.socket, &bytes, SendFlags::empty()).context("send", || request.what.as_str())?;
        let mut answer = Vec::new();
        let mut buffer = vec![0; BUFFER];
        loop {
            let (n, whole) = recv(&self.socket, buffer.as_mut_slice(), RecvFlags::TRUNC)
                .context("recv", || request.what.as_str())?;
            if whole > n || n == 0 {
                return Err(sys::Error::new("recv", request.what.as_str(), Errno::MSGSIZE).into());
            }
            for (sequence, message) in split(&buffer[..n]) {
                if sequence != self.sequence {
                    continue;
                }
                match message.kind {
                    NLMSG_DONE => return Ok(answer),
                    NLMSG_ERROR => return acknowledged(&message.body, &request.what, answer),
                    _ => answer.push(message),
                }
            }
        }
    }
}

/// `struct nlmsgerr`: a negative errno, or zero for success.
fn acknowledged(body: &[u8], what: &str, answer: Vec<Message>) -> Result<Vec<Message>> {
    match i32_at(body, 0) {
        Some(0) => Ok(answer),
        code => {
            let number = code.and_then(i32::checked_neg);
            let number = number.filter(|n| (1..4096).contains(n));
            let errno = number.map_or(Errno::IO, Errno::from_raw_os_error);
            Err(sys::Error::new("rtnetlink", what, errno).into())
        }
    }
}

/// The messages in what one read brought, each with its sequence number.
fn split(mut bytes: &[u8]) -> Vec<(u32, Message)> {
    let mut messages = Vec::new();
    while let (Some(length), Some(kind), Some(sequence)) =
        (u32_at(bytes, 0), u16_at(bytes, 4), u32_at(bytes, 8))
    {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let Some(body) = bytes.get(HEADER..length) else {
            break;
        };
        let body = body.to_vec();
        messages.push((sequence, Message { kind, body }));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    messages
}

/// The attributes behind the fixed part of a message, which is `fixed` bytes long.
pub(super) fn attributes(body: &[u8], fixed: usize) -> Vec<(u16, &[u8])> {
    let mut rest = body.get(fixed..).unwrap_or_default();
    let mut list = Vec::new();
    while let (Some(length), Some(kind)) = (u16_at(rest, 0), u16_at(rest, 2)) {
        let length = usize::from(length);
        let Some(value) = rest.get(4..length) else {
            break;
        };
        list.push((kind, value));
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    list
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let field = bytes.get(at..at.checked_add(2)?)?;
    field.try_into().ok().map(u16::from_ne_bytes)
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(at..at.checked_add(4)?)?;
    field.try_into().ok().map(u32::from_ne_bytes)
}

fn i32_at(bytes: &[u8], at: usize) -> Option<i32> {
    let field = bytes.get(at..at.checked_add(4)?)?;
    field.try_into().ok().map(i32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_request_is_laid_out_as_the_kernel_reads_it() {
        let request = Request::new(RTM_NEWLINK, NLM_F_ACK, "test").link(7, 1, 1);
        let bytes = request.string(3, "eth0").unwrap().encode(9).unwrap();
        assert_eq!(bytes.len(), 16 + 16 + 12);
        assert_eq!(u32_at(&bytes, 0), Some(44));
        assert_eq!((u16_at(&bytes, 4), u16_at(&bytes, 6)), (Some(16), Some(5)));
        assert_eq!(attributes(&bytes[16..], 16), [(3, b"eth0\0".as_slice())]);
    }

    #[test]
    fn a_value_that_would_wrap_its_length_is_refused() {
        let request = Request::new(RTM_NEWLINK, 0, "test");
        let text = request
            .attribute(1, &vec![0; 65_536])
            .unwrap_err()
            .to_string();
        assert_eq!(text, "test: attribute 1 of 65536 bytes is too long");
    }

    proptest! {
        #[test]
        fn any_answer_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            for (_, message) in split(&bytes) {
                let _ = attributes(&message.body, 16);
            }
            let _ = attributes(&bytes, 0);
        }

        #[test]
        fn what_is_written_is_read(values in proptest::collection::vec((1_u16..50, proptest::collection::vec(any::<u8>(), 0..40)), 0..6)) {
            let mut request = Request::new(RTM_GETLINK, 0, "test").link(1, 0, 0);
            for (kind, value) in &values {
                request = request.attribute(*kind, value).unwrap();
            }
            let bytes = request.encode(5).unwrap();
            let messages = split(&bytes);
            prop_assert_eq!(messages.len(), 1);
            prop_assert_eq!(messages[0].0, 5);
            let read: Vec<(u16, Vec<u8>)> = attributes(&messages[0].1.body, 16)
                .into_iter().map(|(k, v)| (k, v.to_vec())).collect();
            prop_assert_eq!(read, values);
        }
    }
}
