//! A blocking connection to a message bus or to systemd itself.
//!
//! systemd also listens on a socket of its own, where it speaks the same protocol without a bus
//! between: no daemon that could be slow or absent. That one is tried first.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::message::{Kind, MAX_MESSAGE, Message, PROLOGUE, message_len};
use super::value::Value;
use sys::Context as _;

use crate::error::{Error, Result};

/// Longest line of the authentication.
const MAX_LINE: usize = 1024;
/// Most signals that are kept while an answer is waited for.
const MAX_SIGNALS: usize = 4096;

const NO_REPLY: &str = "org.freedesktop.DBus.Error.NoReply";

/// Whom we talk to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Address {
    /// systemd's own socket.
    Direct(PathBuf),
    /// A bus that systemd is on.
    Bus(PathBuf),
}

impl Address {
    fn path(&self) -> &Path {
        match self {
            Self::Direct(path) | Self::Bus(path) => path,
        }
    }
}

/// Why a call failed.
#[derive(Debug)]
pub(crate) enum CallError {
    /// The other side said no: its error name and text.
    Refused { name: String, text: String },
    /// The connection failed.
    Broken(Error),
}

impl CallError {
    /// As an error for the caller.
    pub(crate) fn into_error(self, operation: &str) -> Error {
        match self {
            // What the bus says for one that has hung up on it.
            Self::Refused { name, text } if name == NO_REPLY => Error::Lost {
                operation: operation.to_owned(),
                reason: text,
            },
            Self::Refused { name, text } => Error::Bus {
                operation: operation.to_owned(),
                reason: if text.is_empty() { name } else { text },
            },
            Self::Broken(e) => e,
        }
    }

    /// Whether the other side said no with this name.
    pub(crate) fn is(&self, wanted: &str) -> bool {
        matches!(self, Self::Refused { name, .. } if name == wanted)
    }
}

/// A connection that has been authenticated.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: UnixStream,
    pub(crate) is_bus: bool,
    serial: u32,
    signals: VecDeque<Message>,
    deadline: Instant,
    patience: Duration,
}

impl Connection {
    /// Connects to the first address where somebody lets us in.
    pub(crate) fn open(addresses: &[Address], patience: Duration) -> Result<Self> {
        let mut tried = Vec::new();
        for address in addresses {
            let is_bus = matches!(address, Address::Bus(_));
            let stream = connect(address.path(), patience).map_err(Error::from);
            match stream.and_then(|stream| Self::start(stream, is_bus, patience)) {
                Ok(connection) => return Ok(connection),
                Err(e) => tried.push(e.to_string()),
            }
        }
        Err(Error::Bus {
            operation: "connect to systemd".into(),
            reason: tried.join("; "),
        })
    }

    /// Authenticates on a connected socket, and says hello where there is a bus.
    pub(crate) fn start(stream: UnixStream, is_bus: bool, patience: Duration) -> Result<Self> {
        let mut connection = Self {
            stream,
            is_bus,
            serial: 0,
            signals: VecDeque::new(),
            deadline: Instant::now() + patience,
            patience,
        };
        connection.authenticate()?;
        if is_bus {
            let mut hello = Message::new(Kind::Call);
            hello.path = "/org/freedesktop/DBus".into();
            hello.interface = "org.freedesktop.DBus".into();
            hello.member = "Hello".into();
            hello.destination = "org.freedesktop.DBus".into();
            let serial = connection.send(hello)?;
            let answer = connection.reply(serial);
            answer.map_err(|e| e.into_error("Hello to the message bus"))?;
        }
        Ok(connection)
    }

    /// Starts the time that the calls from here on may take together.
    pub(crate) fn restart_clock(&mut self) {
        self.deadline = Instant::now() + self.patience;
    }

    /// EXTERNAL without a name: the socket's credentials say who we are. In a user namespace
    /// that is somebody else than we think, and only the kernel's word counts.
    ///
    /// All our lines go out at once, as systemd's own clients do it. Its server, when it reads
    /// `BEGIN` and the first message in one piece, forgets the message until more arrives (seen
    /// with systemd 252); when the answer has come, `BEGIN` has been read.
    fn authenticate(&mut self) -> Result<()> {
        self.write(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
        for _ in 0..3 {
            let line = self.read_line()?;
            match line.split(' ').next() {
                Some("DATA") => {}
                Some("OK") => return Ok(()),
                _ => {
                    return Err(Error::Bus {
                        operation: "authenticate to systemd".into(),
                        reason: format!("answer {line:?}"),
                    });
                }
            }
        }
        Err(Error::Bus {
            operation: "authenticate to systemd".into(),
            reason: "no answer that says yes or no".into(),
        })
    }

    /// Byte by byte: what follows the line is a message.
    fn read_line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            if line.len() >= MAX_LINE {
                return Err(self.broken("read", "a line of the authentication is too long"));
            }
            let mut byte = [0];
            self.read_exact(&mut byte)?;
            line.extend(byte);
        }
        line.truncate(line.len() - 2);
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    /// Sends a call to systemd's manager object and returns its serial number.
    pub(crate) fn call(&mut self, member: &str, body: Vec<Value>) -> Result<u32> {
        let mut message = Message::new(Kind::Call);
        message.path = "/org/freedesktop/systemd1".into();
        message.interface = "org.freedesktop.systemd1.Manager".into();
        message.member = member.into();
        message.body = body;
        self.send_to(message, "org.freedesktop.systemd1")
    }

    /// Sends a message; the destination is left out where there is no bus.
    pub(crate) fn send_to(&mut self, mut message: Message, destination: &str) -> Result<u32> {
        if self.is_bus {
            message.destination = destination.into();
        }
        self.send(message)
    }

    pub(crate) fn send(&mut self, mut message: Message) -> Result<u32> {
        self.serial += 1;
        message.serial = self.serial;
        let bytes = message.encode();
        if bytes.len() > MAX_MESSAGE {
            return Err(self.broken("write", "the message is too long"));
        }
        self.write(&bytes)?;
        Ok(self.serial)
    }

    /// Waits for the answer to a call. Signals that come before it are kept.
    pub(crate) fn reply(&mut self, serial: u32) -> std::result::Result<Message, CallError> {
        loop {
            let message = self.receive().map_err(CallError::Broken)?;
            match message.kind {
                Kind::Return if message.reply_to == serial => return Ok(message),
                Kind::Error if message.reply_to == serial => {
                    return Err(CallError::Refused {
                        text: message.text(0).to_owned(),
                        name: message.error,
                    });
                }
                Kind::Signal if self.signals.len() < MAX_SIGNALS => self.signals.push_back(message),
                // Answers that nobody waits for any more, and calls to us, who offer nothing.
                _ => {}
            }
        }
    }

    /// Waits for a signal that passes the test. `what` names it for the case that it never comes.
    pub(crate) fn signal(
        &mut self,
        what: &str,
        wanted: impl Fn(&Message) -> bool,
    ) -> Result<Message> {
        while let Some(message) = self.signals.pop_front() {
            if wanted(&message) {
                return Ok(message);
            }
        }
        loop {
            let message = self.receive().map_err(|e| match e {
                Error::Timeout { millis, .. } => Error::Timeout {
                    operation: what.to_owned(),
                    millis,
                    reason: "systemd took the job and has not finished it".into(),
                },
                other => other,
            })?;
            if message.kind == Kind::Signal && wanted(&message) {
                return Ok(message);
            }
        }
    }

    /// Waits for the next message of any kind.
    pub(crate) fn receive(&mut self) -> Result<Message> {
        let mut bytes = vec![0; PROLOGUE];
        self.read_exact(&mut bytes)?;
        let prologue = <&[u8; PROLOGUE]>::try_from(bytes.as_slice());
        let len = prologue.map_err(|_| "ends too early").and_then(message_len);
        let len = len.map_err(|why| self.broken("read", why))?;
        bytes.resize(len, 0);
        self.read_exact(bytes.get_mut(PROLOGUE..).unwrap_or_default())?;
        Message::decode(&bytes).map_err(|why| self.broken("read", why))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let left = self.time_left()?;
        self.stream
            .set_write_timeout(Some(left))
            .and_then(|()| self.stream.write_all(bytes))
            .map_err(|e| self.failed("write", &e))
    }

    fn read_exact(&mut self, bytes: &mut [u8]) -> Result<()> {
        let mut at = 0;
        while at < bytes.len() {
            let left = self.time_left()?;
            let rest = bytes.get_mut(at..).unwrap_or_default();
            let read = self
                .stream
                .set_read_timeout(Some(left))
                .and_then(|()| self.stream.read(rest));
            match read {
                Ok(0) => {
                    return Err(Error::Lost {
                        operation: format!("read({})", self.describe()),
                        reason: "the other side has closed the connection".into(),
                    });
                }
                Ok(n) => at += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.failed("read", &e)),
            }
        }
        Ok(())
    }

    fn time_left(&self) -> Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(self.timeout());
        }
        Ok(left)
    }

    fn timeout(&self) -> Error {
        Error::Timeout {
            operation: "call of systemd".into(),
            millis: u64::try_from(self.patience.as_millis()).unwrap_or(u64::MAX),
            reason: "no answer on the socket".into(),
        }
    }

    fn failed(&self, call: &'static str, e: &std::io::Error) -> Error {
        use std::io::ErrorKind::{TimedOut, WouldBlock};
        if matches!(e.kind(), WouldBlock | TimedOut) {
            return self.timeout();
        }
        let errno = sys::Errno::from_io_error(e).unwrap_or(sys::Errno::IO);
        sys::Error::new(call, self.describe(), errno).into()
    }

    fn broken(&self, call: &str, reason: &str) -> Error {
        Error::Bus {
            operation: format!("{call}({})", self.describe()),
            reason: reason.to_owned(),
        }
    }

    fn describe(&self) -> &'static str {
        if self.is_bus {
            "socket of the message bus"
        } else {
            "socket of systemd"
        }
    }
}

/// connect(2) that gives up: a listener whose queue is full would keep us for ever.
fn connect(path: &Path, patience: Duration) -> sys::Result<UnixStream> {
    use rustix::net::sockopt::{Timeout, set_socket_timeout};
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};
    let describe = || format!("{path:?}");
    let (family, kind) = (AddressFamily::UNIX, SocketType::STREAM);
    let socket =
        socket_with(family, kind, SocketFlags::CLOEXEC, None).context("socket", describe)?;
    set_socket_timeout(&socket, Timeout::Send, Some(patience)).context("setsockopt", describe)?;
    let address = SocketAddrUnix::new(path).context("connect", describe)?;
    rustix::net::connect(&socket, &address).context("connect", describe)?;
    Ok(socket.into())
}
