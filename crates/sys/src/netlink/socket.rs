//! A netlink socket: requests and their answers, batches, and news.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recvfrom, send, socket_with,
};

use super::{
    Message, NLM_F_ACK_TLVS, NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR, Request, attributes, i32_at,
    split,
};
use crate::process::last_errno;
use crate::{Context, Error, Result};

/// Size of one read: the kernel fills at most 32 KiB for a dump (netlink(7)); an error may carry
/// a whole request back.
const BUFFER: usize = 64 * 1024;
/// How often a dump that changed under our eyes is begun again.
const ATTEMPTS: usize = 8;

/// What the socket speaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protocol {
    /// rtnetlink(7): links, addresses, routes.
    Route,
    /// nfnetlink: nftables and connection tracking.
    Netfilter,
}

impl Protocol {
    fn name(self) -> &'static str {
        match self {
            Self::Route => "rtnetlink",
            Self::Netfilter => "nfnetlink",
        }
    }
}

/// A socket in the network namespace in which it was opened; it stays there.
#[derive(Debug)]
pub struct Socket {
    socket: OwnedFd,
    sequence: u32,
    protocol: Protocol,
}

impl Socket {
    /// A socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// socket(2)'s.
    pub fn open(protocol: Protocol) -> Result<Self> {
        let number = match protocol {
            // Without a protocol number it is NETLINK_ROUTE, which is 0.
            Protocol::Route => None,
            Protocol::Netfilter => Some(NETFILTER),
        };
        let family = AddressFamily::NETLINK;
        let socket = socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, number)
            .context("socket", || format!("AF_NETLINK, {}", protocol.name()))?;
        // The kernel's own words behind an errno: a help, not a need.
        for option in [libc::NETLINK_CAP_ACK, libc::NETLINK_EXT_ACK] {
            let _ = set_option(socket.as_fd(), option);
        }
        Ok(Self {
            socket,
            sequence: 0,
            protocol,
        })
    }

    /// A socket that hears of changes in the multicast groups of `groups` (a bit for each,
    /// group 1 is the lowest).
    ///
    /// # Errors
    /// socket(2)'s and bind(2)'s.
    pub fn listen(protocol: Protocol, groups: u32) -> Result<Self> {
        let this = Self::open(protocol)?;
        bind(&this.socket, &SocketAddrNetlink::new(0, groups)).context("bind", || {
            format!("{}, groups {groups:#x}", protocol.name())
        })?;
        Ok(this)
    }

    /// Sends a request and reads its answer: the messages of a dump, the one object asked for, or
    /// nothing but the acknowledgement. The kernel's refusal is the error.
    ///
    /// # Errors
    /// The kernel's, with its own words where it has some.
    pub fn ask(&mut self, request: &Request) -> Result<Vec<Message>> {
        for _ in 1..ATTEMPTS {
            let (answer, interrupted) = self.ask_once(request)?;
            if !interrupted {
                return Ok(answer);
            }
        }
        Ok(self.ask_once(request)?.0)
    }

    fn ask_once(&mut self, request: &Request) -> Result<(Vec<Message>, bool)> {
        let sequence = self.next();
        self.send(&request.encode(sequence)?, request.what())?;
        let mut answer = Vec::new();
        let mut interrupted = false;
        let mut buffer = vec![0; BUFFER];
        loop {
            for message in self.receive(&mut buffer, request.what())? {
                if message.sequence != sequence {
                    continue;
                }
                interrupted |= message.flags & NLM_F_DUMP_INTR != 0;
                match message.kind {
                    NLMSG_DONE => return Ok((answer, interrupted)),
                    NLMSG_ERROR => {
                        self.verdict(&message, request.what())?;
                        return Ok((answer, interrupted));
                    }
                    _ => answer.push(message),
                }
            }
        }
    }

    /// Sends requests in one write, which nfnetlink takes as one transaction, and reads until the
    /// last of them that asks for an acknowledgement has it.
    ///
    /// # Errors
    /// The first of the kernel's errors, named after the request that it answers.
    pub fn batch(&mut self, requests: &[Request]) -> Result<()> {
        let mut bytes = Vec::new();
        let first = self.sequence.wrapping_add(1);
        let mut last = None;
        for request in requests {
            let sequence = self.next();
            bytes.extend(request.encode(sequence)?);
            if request.is_acknowledged() {
                last = Some(sequence);
            }
        }
        let what = requests.get(1).map_or("batch", Request::what);
        self.send(&bytes, what)?;
        let mut failure: Result<()> = Ok(());
        let mut buffer = vec![0; BUFFER];
        while let Some(last) = last {
            for message in self.receive(&mut buffer, what)? {
                let place = usize::try_from(message.sequence.wrapping_sub(first)).ok();
                let Some(request) = place.and_then(|place| requests.get(place)) else {
                    continue;
                };
                if message.kind != NLMSG_ERROR {
                    continue;
                }
                let verdict = self.verdict(&message, request.what());
                failure = failure.and(verdict);
                // An error of the frame itself is the only answer that comes.
                if message.sequence == last || message.sequence == first {
                    return failure;
                }
            }
        }
        Ok(())
    }

    /// Reads news once; blocks until there are some.
    ///
    /// # Errors
    /// recvmsg(2)'s; ENOBUFS where news were lost.
    pub fn news(&mut self) -> Result<Vec<Message>> {
        let mut buffer = vec![0; BUFFER];
        self.receive(&mut buffer, "news")
    }

    fn next(&mut self) -> u32 {
        // 0 is the number of news.
        self.sequence = self.sequence.wrapping_add(1).max(1);
        self.sequence
    }

    fn send(&self, bytes: &[u8], what: &str) -> Result<()> {
        send(&self.socket, bytes, SendFlags::empty()).context("send", || what)?;
        Ok(())
    }

    /// The messages of one read. What does not come from the kernel is not heard: in a
    /// container's namespace its root may write to our socket.
    fn receive(&self, buffer: &mut [u8], what: &str) -> Result<Vec<Message>> {
        loop {
            let read = recvfrom(&self.socket, &mut *buffer, RecvFlags::TRUNC);
            let (n, whole, sender) = match read {
                Err(Errno::INTR) => continue,
                other => other.context("recvfrom", || what)?,
            };
            let sender = sender.and_then(|any| SocketAddrNetlink::try_from(any).ok());
            if sender.is_none_or(|address| address.pid() != 0) {
                continue;
            }
            if whole > n || n == 0 {
                return Err(Error::new("recvfrom", what, Errno::MSGSIZE));
            }
            return Ok(split(&buffer[..n]));
        }
    }

    /// `struct nlmsgerr`: a negative errno, or zero for success.
    fn verdict(&self, message: &Message, what: &str) -> Result<()> {
        /// NLMSGERR_ATTR_MSG: the reason in words.
        const WORDS: u16 = 1;
        /// The code, and the header of the request.
        const FIXED: usize = 4 + super::HEADER;
        let code = i32_at(&message.body, 0);
        if code == Some(0) {
            return Ok(());
        }
        let number = code.and_then(i32::checked_neg);
        let number = number.filter(|n| (1..4096).contains(n));
        let errno = number.map_or(Errno::IO, Errno::from_raw_os_error);
        let list = attributes(&message.body, FIXED);
        let words = list.iter().find(|(kind, _)| *kind == WORDS);
        let words = words.filter(|_| message.flags & NLM_F_ACK_TLVS != 0);
        let text = match words {
            Some((_, words)) => {
                let words = String::from_utf8_lossy(words);
                format!("{what}; {}", words.trim_matches(['\0', '\n', ' ', '.']))
            }
            None => what.to_owned(),
        };
        Err(Error::new(self.protocol.name(), text, errno))
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Switches a socket option of netlink on.
fn set_option(socket: BorrowedFd<'_>, option: libc::c_int) -> Result<()> {
    let on: libc::c_int = 1;
    let raw = std::os::fd::AsRawFd::as_raw_fd(&socket);
    // SAFETY: the descriptor is borrowed for the call; the value is a c_int and its size is said.
    let result = unsafe {
        libc::setsockopt(
            raw,
            libc::SOL_NETLINK,
            option,
            std::ptr::from_ref(&on).cast(),
            4,
        )
    };
    if result == 0 {
        return Ok(());
    }
    let text = format!("{raw}, SOL_NETLINK, {option}");
    Err(Error::new("setsockopt", text, last_errno()))
}
