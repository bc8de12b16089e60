//! What our processes of one start say to each other: one message a packet.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use sys::{Context, Errno};

use crate::{Error, ErrorKind, Result};

/// Longest packet; longer texts are cut.
const MAX: usize = 16 * 1024;
/// Most descriptors in a packet.
const MAX_FDS: usize = 4;

/// For [`Channel::has_news`]: does not wait.
pub const AT_ONCE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

/// One end of a connection that keeps packets apart (SOCK_SEQPACKET, unix(7)).
#[derive(Debug)]
pub struct Channel(OwnedFd);

/// One message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Message {
    /// Something the user should know; the work goes on.
    Warning(String),
    /// The work has ended with this error.
    Failed {
        /// What sort.
        kind: ErrorKind,
        /// One line.
        text: String,
    },
    /// The sender is in a new user namespace and waits for its maps.
    NeedsMap,
    /// The stage has made the container's process; its pidfd comes along.
    Staged {
        /// In the receiver's pid namespace.
        pid: i32,
    },
    /// All mounts are made, the root is still the old one: time for the runtime's hooks.
    Mounted,
    /// All is made; descriptors come along in the order of the fields that are true.
    Ready {
        /// The master of a pseudo-terminal.
        console: bool,
    },
    /// The receiver may go on.
    Go,
    /// The next call installs a filter whose listener will have this number in the sender.
    Listener {
        /// A descriptor of the sender that does not exist yet.
        fd: i32,
    },
    /// The receiver's listener cannot be taken: it is to send it.
    Give,
    /// The listener comes along.
    Given,
    /// The next call is execve(2).
    Executing,
}

impl Channel {
    /// Two connected ends.
    ///
    /// # Errors
    /// socketpair(2)'s.
    pub fn pair() -> Result<(Self, Self)> {
        let (a, b) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .context("socketpair", || "AF_UNIX, SOCK_SEQPACKET")?;
        Ok((Self(a), Self(b)))
    }

    /// An end that exists already.
    #[must_use]
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Sends a message by write(2), the one call that every system-call filter has to allow.
    ///
    /// # Errors
    /// write(2)'s; EPIPE where the other end is gone (SIGPIPE, unless ignored).
    pub fn send(&self, message: &Message) -> Result<()> {
        let mut bytes = message.encode();
        bytes.truncate(MAX);
        retry_on_intr(|| rustix::io::write(&self.0, &bytes))
            .context("write", || format!("{message:?}"))?;
        Ok(())
    }

    /// Sends a message that the other end need not be there for: what it tells of happens all the
    /// same.
    ///
    /// # Errors
    /// write(2)'s, other than EPIPE.
    pub fn tell(&self, message: &Message) -> Result<()> {
        match self.send(message) {
            Err(Error::Sys(e)) if e.errno == Errno::PIPE => Ok(()),
            other => other,
        }
    }

    /// Sends a message with descriptors.
    ///
    /// # Errors
    /// sendmsg(2)'s; EPIPE where the other end is gone.
    pub fn send_with(&self, message: &Message, fds: &[BorrowedFd<'_>]) -> Result<()> {
        let mut bytes = message.encode();
        bytes.truncate(MAX);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(fds));
        }
        let packet = [IoSlice::new(&bytes)];
        retry_on_intr(|| sendmsg(&self.0, &packet, &mut ancillary, SendFlags::NOSIGNAL))
            .context("sendmsg", || format!("{message:?}"))?;
        Ok(())
    }

    /// Waits for a message; `None` when the other end is gone.
    ///
    /// # Errors
    /// recvmsg(2)'s; EBADMSG for a packet that is no message.
    pub fn recv(&self) -> Result<Option<(Message, Vec<OwnedFd>)>> {
        let mut bytes = vec![0; MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let got = retry_on_intr(|| {
            let mut packet = [IoSliceMut::new(&mut bytes)];
            recvmsg(
                &self.0,
                &mut packet,
                &mut ancillary,
                RecvFlags::CMSG_CLOEXEC,
            )
        })
        .context("recvmsg", || "start of a process")?;
        let mut fds = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                fds.extend(received);
            }
        }
        if got.bytes == 0 {
            return Ok(None);
        }
        let message = Message::decode(bytes.get(..got.bytes).unwrap_or_default());
        let message =
            message.ok_or_else(|| sys::Error::new("recvmsg", "unknown message", Errno::BADMSG))?;
        Ok(Some((message, fds)))
    }
}

impl Channel {
    /// Fails where the other end has gone: for a child that has only now asked to be killed when
    /// its parent dies, and may be too late.
    ///
    /// # Errors
    /// The other end has gone, or poll(2)'s.
    pub fn expect_peer(&self) -> Result<()> {
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        retry_on_intr(|| poll(&mut fds, Some(&Timespec::default())))
            .context("poll", || "start of a process")?;
        let gone = fds.iter().any(|f| f.revents().contains(PollFlags::HUP));
        if gone {
            return Err(sys::Error::new("poll", "the runtime has gone", Errno::PIPE).into());
        }
        Ok(())
    }

    /// Waits until the other end has gone; what it has said can still be received. Who need not
    /// answer is not woken for each message.
    ///
    /// # Errors
    /// poll(2)'s.
    pub fn await_end(&self) -> Result<()> {
        let mut fds = [PollFd::new(&self.0, PollFlags::empty())];
        retry_on_intr(|| poll(&mut fds, None)).context("poll", || "start of a process")?;
        Ok(())
    }

    /// Waits for [`Message::Go`].
    ///
    /// # Errors
    /// The other end has gone, or says something else.
    pub fn expect_go(&self) -> Result<()> {
        match self.recv()? {
            Some((Message::Go, _)) => Ok(()),
            Some(_) => Err(sys::Error::new("recvmsg", "unexpected message", Errno::BADMSG).into()),
            None => Err(sys::Error::new("recvmsg", "the runtime has gone", Errno::PIPE).into()),
        }
    }
}

impl Channel {
    /// Waits for [`Message::Go`] or [`Message::Give`] by read(2), the one call that every
    /// system-call filter has to allow; tells whether it was the latter.
    ///
    /// # Errors
    /// read(2)'s.
    pub fn await_go_or_give(&self) -> Result<bool> {
        let mut packet = [0; 16];
        let length =
            retry_on_intr(|| rustix::io::read(&self.0, &mut packet)).context("read", || "start")?;
        let message = Message::decode(packet.get(..length).unwrap_or_default());
        Ok(matches!(message, Some(Message::Give)))
    }

    /// Waits for a message to come, or for the other end's; false where neither comes in time.
    ///
    /// # Errors
    /// poll(2)'s.
    pub fn has_news(&self, limit: &Timespec) -> Result<bool> {
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        let ready = retry_on_intr(|| poll(&mut fds, Some(limit)));
        Ok(ready.context("poll", || "start of a process")? > 0)
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Message {
    /// The message that reports `error`.
    #[must_use]
    pub fn failure(error: &Error) -> Self {
        Self::Failed {
            kind: error.kind(),
            text: error.to_string(),
        }
    }

    fn encode(&self) -> Vec<u8> {
        let with_text = |tag: u8, text: &str| {
            let mut bytes = vec![tag];
            bytes.extend_from_slice(text.as_bytes());
            bytes
        };
        let with_number = |tag: u8, n: i32| {
            let mut bytes = vec![tag];
            bytes.extend_from_slice(&n.to_ne_bytes());
            bytes
        };
        match self {
            Self::Warning(text) => with_text(b'W', text),
            Self::Failed { kind, text } => {
                let mut bytes = with_text(b'F', text);
                bytes.insert(1, kind.to_byte());
                bytes
            }
            Self::Staged { pid } => with_number(b'S', *pid),
            Self::NeedsMap => vec![b'N'],
            Self::Mounted => vec![b'M'],
            Self::Ready { console } => vec![b'R', u8::from(*console)],
            Self::Go => vec![b'G'],
            Self::Listener { fd } => with_number(b'L', *fd),
            Self::Give => vec![b'A'],
            Self::Given => vec![b'B'],
            Self::Executing => vec![b'X'],
        }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (tag, rest) = bytes.split_first()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let number = || Some(i32::from_ne_bytes(rest.try_into().ok()?));
        Some(match tag {
            b'W' => Self::Warning(text(rest)),
            b'F' => {
                let (kind, rest) = rest.split_first()?;
                Self::Failed {
                    kind: ErrorKind::from_byte(*kind),
                    text: text(rest),
                }
            }
            b'S' => Self::Staged { pid: number()? },
            b'N' => Self::NeedsMap,
            b'M' => Self::Mounted,
            b'R' => Self::Ready {
                console: *rest.first()? != 0,
            },
            b'G' => Self::Go,
            b'L' => Self::Listener { fd: number()? },
            b'A' => Self::Give,
            b'B' => Self::Given,
            b'X' => Self::Executing,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_as_they_were_sent() {
        let (a, b) = Channel::pair().unwrap();
        let messages = [
            Message::Warning("ä".into()),
            Message::Failed {
                kind: ErrorKind::Program,
                text: String::new(),
            },
            Message::Staged { pid: 70_000 },
            Message::NeedsMap,
            Message::Mounted,
            Message::Ready { console: true },
            Message::Go,
            Message::Listener { fd: 9 },
            Message::Executing,
        ];
        for message in messages {
            a.send(&message).unwrap();
            let (got, fds) = b.recv().unwrap().unwrap();
            assert_eq!(got, message);
            assert!(fds.is_empty());
        }
        drop(a);
        assert!(b.recv().unwrap().is_none());
        assert!(b.send(&Message::Go).is_err());
    }

    #[test]
    fn descriptors_arrive_close_on_exec() {
        let (a, b) = Channel::pair().unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        a.send_with(&Message::Staged { pid: 1 }, &[file.as_fd()])
            .unwrap();
        let (_, fds) = b.recv().unwrap().unwrap();
        assert_eq!(fds.len(), 1);
        let flags = rustix::io::fcntl_getfd(&fds[0]).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    }

    #[test]
    fn a_long_text_is_cut_and_noise_refused() {
        let (a, b) = Channel::pair().unwrap();
        a.send(&Message::Warning("x".repeat(MAX * 2))).unwrap();
        let (got, _) = b.recv().unwrap().unwrap();
        assert_eq!(got, Message::Warning("x".repeat(MAX - 1)));
        for noise in [&b"?"[..], b"S12", b"F", b"R"] {
            rustix::io::write(a.as_fd(), noise).unwrap();
            assert!(b.recv().is_err());
        }
    }
}
