//! Sockets that a runtime sends descriptors to.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

/// A listening stream socket in the file system.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    /// Its path.
    pub path: PathBuf,
}

/// One message: the bytes and the descriptors that came with them.
#[derive(Debug)]
pub struct Message {
    /// The bytes.
    pub data: Vec<u8>,
    /// The descriptors.
    pub fds: Vec<OwnedFd>,
}

/// Listens at `path`.
///
/// # Panics
/// Where that fails; a path of more than 107 bytes is one reason.
#[must_use]
pub fn listen(path: &Path) -> Listener {
    Listener {
        socket: UnixListener::bind(path).expect("bind a socket"),
        path: path.to_owned(),
    }
}

impl Listener {
    /// Its path as an argument.
    ///
    /// # Panics
    /// Never: the suite's paths are ASCII.
    #[must_use]
    pub fn arg(&self) -> &str {
        self.path.to_str().expect("a path in UTF-8")
    }

    /// Whether somebody connects within the time.
    #[must_use]
    pub fn has_caller(&self, patience: Duration) -> bool {
        readable(&self.socket, patience)
    }

    /// Accepts the next connection.
    ///
    /// # Panics
    /// Where none comes in time.
    #[must_use]
    pub fn accept(&self) -> UnixStream {
        assert!(
            self.has_caller(Duration::from_secs(10)),
            "nobody connects to {}",
            self.path.display()
        );
        self.socket.accept().expect("accept").0
    }

    /// The first message of the next connection.
    ///
    /// # Panics
    /// Where none comes in time.
    #[must_use]
    pub fn message(&self) -> Message {
        receive(&self.accept())
    }

    /// The one descriptor of the next connection's first message.
    ///
    /// # Panics
    /// Where the message does not hold just one.
    #[must_use]
    pub fn descriptor(&self) -> OwnedFd {
        let message = self.message();
        let [fd] = <[OwnedFd; 1]>::try_from(message.fds)
            .unwrap_or_else(|fds| panic!("{} descriptors came", fds.len()));
        fd
    }
}

/// Whether `fd` becomes readable within the time.
#[must_use]
pub fn readable(fd: impl std::os::fd::AsFd, patience: Duration) -> bool {
    let timeout = rustix::time::Timespec {
        tv_sec: i64::try_from(patience.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(patience.subsec_nanos()),
    };
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    matches!(poll(&mut fds, Some(&timeout)), Ok(n) if n > 0)
}

/// Receives one message with its descriptors.
///
/// # Panics
/// Where none comes.
#[must_use]
pub fn receive(stream: &UnixStream) -> Message {
    assert!(
        readable(stream, Duration::from_secs(10)),
        "no message comes"
    );
    let mut data = vec![0; 65536];
    let mut space = [MaybeUninit::uninit(); 256];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = recvmsg(
        stream,
        &mut [IoSliceMut::new(&mut data)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )
    .expect("recvmsg");
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    data.truncate(got.bytes);
    Message { data, fds }
}

/// What a descriptor of ours refers to, `/dev/pts/3` or `anon_inode:[pidfd]`.
#[must_use]
pub fn target(fd: &OwnedFd) -> String {
    std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))
        .map(|p| p.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// The `fdinfo` of a descriptor of ours.
#[must_use]
pub fn info(fd: &OwnedFd) -> String {
    std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).unwrap_or_default()
}
